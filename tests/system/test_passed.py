"""What gandi-check makes of documents that are passed without a medium: their digests are facts, and without
any there is no process more. In a mount namespace, with files in place of those of PID 1 and the kernel.
"""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

CHECK = Path(__file__).parents[2] / "bin/gandi-check"
SYSTEM, OF_THE_DAEMON = "/run/credentials/@system", "/run/gandi/credentials"
DOCUMENT = '{"version": 1}'
DIGEST = hashlib.blake2b(DOCUMENT.encode()).hexdigest()


class Namespace:
    """A namespace with an empty /run and a copy of the kernel command line. ``started``: how many programs
    the last run started for digests.
    """

    def __init__(self, folder: Path) -> None:
        self.cmdline, self.started = folder / "cmdline", 0
        self.cmdline.write_text("root=UUID=1 ro\n")

    def facts(self, *commands: str) -> list[str]:
        """Run the commands, then gandi-check; return the facts of what is passed and of the command line."""
        prepared = (
            "mount -t tmpfs tmpfs /run",
            f"mount --bind {self.cmdline} /proc/cmdline",
            f"mkdir -p {SYSTEM} {OF_THE_DAEMON}",
            *commands,
            f"exec sh -x {CHECK} --facts",
        )
        script = "; ".join(prepared)
        done = subprocess.run(["unshare", "--mount", "sh", "-ec", script], check=True, capture_output=True)
        self.started = done.stderr.count(b"+ b2sum")
        found = done.stdout.decode().splitlines()
        return [line for line in found if line.startswith(("passed ", "/proc/cmdline"))]


@pytest.fixture
def namespace(tmp_path: Path) -> Namespace:
    return Namespace(tmp_path)


def test_without_a_credential_nothing_is_started(namespace: Namespace) -> None:
    facts = namespace.facts(f"rmdir {SYSTEM} {OF_THE_DAEMON}")
    assert facts == ["/proc/cmdline: root=UUID=1 ro"]
    assert namespace.started == 0


@pytest.mark.parametrize("folder", [SYSTEM, OF_THE_DAEMON])
def test_each_has_its_digest_by_one_program(namespace: Namespace, folder: str) -> None:
    """The daemon, which writes the mark, sees them in another folder."""
    names = (
        "gandi.config",
        "gandi.script",
        "fstab.extra",
        "network.network.50-a",
        "passwd.hashed-password.root",
    )
    others = ("vmm.notify_socket", "gandi", "login.motd")
    made = (f"printf '%s' '{DOCUMENT}' > {folder}/{name}" for name in (*names, *others))
    facts = namespace.facts(*made)
    assert facts[1:] == [f"passed {name} {DIGEST}" for name in sorted(names)]
    assert namespace.started == 1


def test_a_credential_in_the_command_line_is_in_no_fact(namespace: Namespace) -> None:
    namespace.cmdline.write_text("ro systemd.set_credential=gandi.config:secret quiet\n")
    line, digest = namespace.facts()
    assert line == "/proc/cmdline: passed"
    of = hashlib.blake2b(namespace.cmdline.read_bytes()).hexdigest()
    assert digest == f"passed /proc/cmdline {of}"


def test_without_digests_the_machine_is_not_known(tmp_path: Path) -> None:
    """Such a fact keeps the mark from being written, and differs from any mark."""
    check = tmp_path / "check"
    check.write_text(CHECK.read_text().replace("$(b2sum ", "$(no-such-program "))
    passed = f"mount -t tmpfs tmpfs /run; mkdir -p {SYSTEM}; echo 1 >{SYSTEM}/gandi.config"
    argv = ("unshare", "--mount", "sh", "-ec", f"{passed}; exec sh {check} --facts")
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    assert "no digests of what is passed" in done.stdout.splitlines()


def test_the_journal_has_no_digest_and_no_serial_number() -> None:
    functions = CHECK.read_text().partition("length='' paths=''")[0]
    for line, shown in (
        ("passed gandi.config 0123", "passed gandi.config"),
        ("serial ds=nocloud;s=https://192.0.2.1/?token=1 2", "the serial number"),
    ):
        script = f"{functions}why='' awaited=''; differ '{line}' 'uuid 1' was; printf %s \"$why\""
        done = subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True)
        assert done.stdout == f"was: {shown}"


#: What a machine without DMI has in place of it, and the facts of it.
WITHOUT_DMI = [
    ("/proc/device-tree/vm,uuid", "0a-1\0", "/proc/device-tree/vm,uuid: 0a-1"),
    (
        "/proc/sysinfo",
        "LPAR UUID: 0c\n\nVM00 UUID:            0a-1\nVM01 UUID: 0b\n",
        "VM00 UUID:            0a-1",
    ),
    (
        "/sys/firmware/qemu_fw_cfg/by_name/etc/smbios/smbios-tables/raw",
        DOCUMENT,
        f"passed /sys/firmware/qemu_fw_cfg/by_name/etc/smbios/smbios-tables/raw {DIGEST}",
    ),
]


@pytest.mark.parametrize(("path", "content", "fact"), WITHOUT_DMI)
def test_the_uuid_of_a_machine_without_dmi_is_a_fact(
    tmp_path: Path, path: str, content: str, fact: str
) -> None:
    """With files in place of the kernel's. Where there is DMI, QEMU's tables are not read."""
    text = CHECK.read_text()
    for place in (
        "/sys/class/dmi",
        "/sys/hypervisor",
        "/proc/device-tree",
        "/proc/sysinfo",
        "/sys/firmware",
    ):
        text = text.replace(place, f"{tmp_path}{place}")
    check, file = tmp_path / "check", tmp_path / path.lstrip("/")
    check.write_text(text)
    file.parent.mkdir(parents=True)
    before = _facts(check, tmp_path)
    file.write_text(content)
    after = _facts(check, tmp_path)
    assert [line for line in after if line not in before] == [fact]
    if fact.startswith("passed "):
        (tmp_path / "sys/class/dmi/id").mkdir(parents=True)
        (tmp_path / "sys/class/dmi/id/product_uuid").write_text("0a-1\n")
        assert [line for line in _facts(check, tmp_path) if line not in before] == [
            "/sys/class/dmi/id/product_uuid: 0a-1"
        ]


def _facts(check: Path, root: Path) -> list[str]:
    """Return the facts, with the kernel's own names of the files below ``root``."""
    run = f"mount -t tmpfs tmpfs /run; exec sh {check} --facts"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", run], check=True, capture_output=True, text=True
    )
    return done.stdout.replace(str(root), "").splitlines()
