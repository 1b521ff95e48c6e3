"""Programs of the agent's own around the customer's: packages, the final message, the power state.

The shell file is really run; the programs that it would run on the machine are replaced by ones that only
record their arguments. tests/system/test_packages.py installs packages with the real apt-get.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from agent.config.model import File
from agent.config.system import Package, Packages, PhoneHome, Power, System
from agent.context import Context
from agent.lib.digest import sha256
from agent.lib.records import replace
from agent.programs import system_programs
from agent.steps import files, script
from tests.unit.steps.test_script import Systemd, _context, _outcomes, host

__all__ = ["host"]

RECORDED = ("apt-get", "dpkg", "dnf", "gandi-agent", "setpriv", "systemd-run", "systemctl", "shutdown")


@pytest.fixture(autouse=True)
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file with the commands that ran; one with the word "missing" in it fails."""
    programs, file = tmp_path / "programs", tmp_path / "log"
    programs.mkdir()
    file.touch()
    for name in RECORDED:
        path = programs / name
        # Without the options, which are the same each time.
        words = 'for word; do case $word in -*|*::*) ;; *) line="$line $word" ;; esac; done'
        path.write_text(
            f'#!/bin/sh\nline={name}\n{words}\necho "$line" >>{file}\n! echo "$*" | grep -q missing\n'
        )
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return file


def ready(host: Systemd, system: System, *, manager: str = "apt-get", **programs: str) -> Context:
    """Return the context of a machine with this package manager and these programs of the customer's."""
    host.write(f"/usr/bin/{manager}", b"")
    return _context(host, {name: (text, ()) for name, text in programs.items()}, system=system)


def commands(log: Path) -> list[str]:
    return log.read_text().split("\n")[:-1]


def test_packages_come_before_the_customers_programs(host: Systemd, log: Path) -> None:
    packages = Packages((Package("nginx"), Package("jq", "1.7-1", "apt")), update=True, upgrade=True)
    ctx = ready(host, System(packages=packages), run=f"echo customer >>{log}")
    assert _outcomes(ctx) == ["packages changed exit status 0", "run changed exit status 0"]
    assert commands(log) == [
        "dpkg",
        "apt-get update",
        "apt-get dist-upgrade",
        "apt-get install nginx jq=1.7-1",
        "customer",
    ]
    assert _outcomes(ctx) == ["packages unchanged was started before", "run unchanged was started before"]
    assert host.waits == [0], "not before the network"
    # Other packages are other content.
    ctx = ready(host, System(packages=Packages((Package("vim"),))), run=f"echo customer >>{log}")
    assert "packages changed exit status 0" in _outcomes(ctx)
    assert commands(log)[5:] == ["dpkg", "apt-get update", "apt-get install vim"]


def test_one_that_cannot_be_installed_costs_itself(host: Systemd, log: Path) -> None:
    ctx = ready(host, System(packages=Packages((Package("missing"), Package("vim")))), run="true")
    assert _outcomes(ctx) == ["packages failed ended with exit status 1", "run changed exit status 0"]
    assert commands(log)[2:] == [
        "apt-get install missing vim",
        "apt-get install missing",
        "apt-get install vim",
    ]


def test_a_cut_is_gone_on_with(host: Systemd, log: Path) -> None:
    ctx = ready(host, System(packages=Packages((Package("vim"),))), run="true")
    # The unit ends without having run anything, as after a power cut.
    whole = Path(host.path(ctx.state.script(".order")))
    begins = host.begins

    def cut(unit: str, said: dict[str, tuple[str, ...]]) -> None:
        whole.write_text("#!/bin/sh\n")
        begins(unit, said)

    from agent.systemd import libsystemd

    fake = libsystemd.start_transient.__self__  # type: ignore[attr-defined]
    fake.begins = cut
    assert _outcomes(ctx)[0] == "packages failed was stopped: goes on at the next boot"
    fake.begins = begins
    assert _outcomes(ctx)[0] == "packages changed exit status 0"
    assert commands(log)[0] == "dpkg", "what was unpacked is configured first"


def test_dnf(host: Systemd, log: Path) -> None:
    packages = Packages((Package("nginx", "1.2"), Package("jq", manager="apt")))
    ctx = ready(host, System(packages=packages), manager="dnf")
    assert _outcomes(ctx) == ["packages failed ended with exit status 1"], "one is for apt only"
    assert commands(log) == ["dnf makecache", "dnf install nginx-1.2"]


def test_a_machine_without_a_package_manager(host: Systemd, log: Path) -> None:
    ctx = _context(host, {"run": ("true", ())}, system=System(packages=Packages(update=True)))
    assert _outcomes(ctx) == [
        "packages failed packages: neither apt-get nor dnf is installed",
        "run changed exit status 0",
    ]


def test_a_reboot_that_is_due_comes_before_the_customers_programs(
    host: Systemd, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = Packages(update=True, reboot=True)
    made = tmp_path / "reboot"
    monkeypatch.setattr(system_programs, "REBOOT", str(made))
    ctx = ready(host, System(packages=packages), manager="dnf", run=f"echo customer >>{log}")
    made.touch()
    first, second = _outcomes(ctx)
    assert first == "packages changed exit status 0"
    assert second == "run failed was not started"
    assert commands(log)[-1] == "systemctl reboot"
    assert _outcomes(ctx) == ["packages unchanged was started before", "run changed exit status 0"]


def test_the_final_message_comes_last_in_each_boot(host: Systemd) -> None:
    system = System(final_message="up ${UPTIME} s, $datasource $VERSION $HOME 'x'")
    ctx = ready(host, system, run="true")
    assert _outcomes(ctx) == ["run changed exit status 0", "final-message changed exit status 0"]
    assert host.unit is not None
    assert host.unit.stdout is not None
    said = host.unit.stdout.read().decode()
    assert " s, gandi gandi-agent " in said
    assert "$HOME 'x'\n" in said
    assert "UPTIME" not in said
    assert _outcomes(ctx) == [
        "run unchanged was started before",
        "final-message unchanged was started before",
    ]
    for path in Path(host.path("/run/gandi/programs")).iterdir():
        path.unlink()
    assert _outcomes(ctx)[1] == "final-message changed exit status 0", "another boot"
    assert host.waits == [0], "a message needs no network"


def test_phone_home_is_sent_once_after_the_customers_programs(host: Systemd, log: Path) -> None:
    """tests/system/test_posting.py runs the program itself."""
    phone = PhoneHome("https://192.0.2.1/$INSTANCE_ID/${INSTANCE_ID}?secret", ("instance_id", "fqdn"), 4)
    ctx = ready(host, System(phone_home=phone, final_message="bye"), run=f"echo customer >>{log}")
    names = [line.split(" ")[0] for line in _outcomes(ctx)]
    assert names == ["run", "phone-home", "final-message"]
    customer, sent = commands(log)
    assert customer == "customer"
    assert sent.startswith("setpriv ")
    assert "secret" not in sent, "no argument has the URL"
    assert host.waits == [0]
    path = ctx.state.script("phone-home")
    assert os.stat(host.path(path)).st_mode & 0o777 == 0o700
    identity = ctx.config.identity.id if ctx.config else ""
    request = json.loads((host.read(path) or "").split("\n")[-3])
    assert request == {
        "url": f"https://192.0.2.1/{identity}/{identity}?secret",
        "tries": 4,
        "form": {"instance_id": identity, "fqdn": None},
    }
    assert _outcomes(ctx)[1] == "phone-home unchanged was started before"


def test_the_power_state_comes_last_and_once(host: Systemd, log: Path) -> None:
    ctx = ready(host, System(power=Power("reboot")), run=f"echo customer >>{log}")
    assert _outcomes(ctx) == ["run changed exit status 0", "power-state changed exit status 0"]
    path = ctx.state.script("power-state")
    assert commands(log)[0] == "customer"
    assert commands(log)[1].startswith("systemd-run /bin/sh ")
    assert commands(log)[1].endswith(path)
    assert _outcomes(ctx)[1] == "power-state unchanged was started before"


@pytest.mark.parametrize(
    ("power", "ran"),
    [
        (Power("poweroff"), ["systemctl is-system-running", "systemctl poweroff"]),
        (Power("reboot", message="bye"), ["systemctl is-system-running", "systemctl reboot"]),
        (Power("halt", delay=5, message="in $5"), ["systemctl is-system-running", "shutdown +5 in $5"]),
        (Power("poweroff", timeout=0), ["systemctl poweroff"]),
        (Power("reboot", condition=("false",)), ["systemctl is-system-running"]),
        (
            Power("reboot", condition=("/bin/sh", "-c", "test a = a")),
            ["systemctl is-system-running", "systemctl reboot"],
        ),
    ],
)
def test_the_power_state_waits_for_the_boot(tmp_path: Path, log: Path, power: Power, ran: list[str]) -> None:
    import subprocess

    (tmp_path / "power").write_text(system_programs._power(power))
    assert subprocess.run(["/bin/sh", tmp_path / "power"], check=False, timeout=20).returncode == 0
    assert commands(log) == ran


def test_an_image_runs_none_of_them(tmp_path: Path) -> None:
    from agent.host.host import Host

    (tmp_path / "image").mkdir()
    image = Host(tmp_path / "image")
    image.write("/usr/bin/apt-get", b"")
    ctx = _context(image, {}, system=System(packages=Packages(update=True)))
    assert _outcomes(ctx) == ["scripts skipped they run when this machine boots"]


def test_a_plan_writes_nothing(host: Systemd) -> None:
    ctx = ready(host, System(packages=Packages(update=True)))
    host.dry_run = True
    assert _outcomes(ctx) == []
    assert not host.exists(ctx.state.script("packages"))
    assert host.planned[-1].endswith(f" in {script.UNIT}.service")


def test_deferred_files_are_written_after_the_packages(host: Systemd, log: Path) -> None:
    """By a process of its own in the same unit: its step does nothing before they are installed."""
    ctx = ready(host, System(packages=Packages((Package("nginx"),))), run=f"echo customer >>{log}")
    assert ctx.config is not None
    ctx.config = replace(
        ctx.config, deferred=(File("/etc/late", "late", sha256(b"x").hexdigest(), "0", "0"),)
    )
    ctx.state.store_config(ctx.config, {"late": b"x"})
    early = [str(item) for item in files.apply_deferred(ctx)]
    assert early == ["skipped: file:/etc/late: written when the packages are installed"]
    assert [line.split(" ", 1)[0] for line in _outcomes(ctx)] == ["packages", "deferred-files", "run"]
    assert commands(log)[-2:] == ["gandi-agent run-step deferred files", "customer"]
    (item,) = files.apply_deferred(ctx)
    assert item.outcome == "changed", str(item)
    assert host.read("/etc/late") == "x"
