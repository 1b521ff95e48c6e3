"""The archive of ``collect-logs``: its contents and mode, and that it has no secrets."""

from __future__ import annotations

import os
import stat
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.__main__ import main
from agent.cli import collect_logs
from agent.config import model
from agent.context import context
from agent.host.host import Completed, Host
from agent.lib.errors import HostError
from agent.report import StageReport
from agent.stages import Stage
from agent.state.store import USER_DATA

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Each is planted once, in the place that its name gives.
SECRETS = {
    "plain password": "plain-7Kq2",
    "password hash": "$6$salt$hash-9Lw4",
    "script": "script-3Fd8",
    "script's argument": "argument-5Gh1",
    "file": "-----BEGIN OPENSSH PRIVATE KEY-----\nkey-6Jt0",
    "user data": "userdata-2Mn7",
    "environment": "environ-8Pz5",
    "metadata": "metadata-4Rx3",
    "digest": "d1gest-1Vb6",
}
KEY = "ssh-ed25519 AAAA me"
CONFIG = model.InstanceConfig(
    model.Identity("openstack", "1234"),
    hostname="vm1",
    users=(model.User("root", SECRETS["password hash"], (KEY,)),),
    scripts=(model.Script("script", SECRETS["digest"], (SECRETS["script's argument"],)),),
    boot=(model.Script("boot", SECRETS["digest"], (SECRETS["script's argument"],)),),
    files=(model.File("/etc/key", "file0", SECRETS["digest"]),),
    metadata=(("admin_pass", SECRETS["metadata"]),),
)
DOCUMENT = '{{"password": "{plain password}", "env": {{"TOKEN": "{environment}"}}}}'.format(**SECRETS)

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


class Machine(Host):
    """A machine in a folder; its programs print their names, and fail as configured."""

    __slots__ = ("asked", "failing")

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked: list[Sequence[str]] = []
        self.failing: dict[str, Completed | HostError] = {}

    def run(self, argv: Sequence[str], **how: object) -> Completed:
        self.asked.append(argv)
        if argv[0] != "systemctl":
            assert how["limit"], "no bound for what it writes"
            assert how["timeout"], "no bound for its time"
        answer = self.failing.get(argv[0], Completed(tuple(argv), 0, f"{argv[0]} said so\n", ""))
        if isinstance(answer, HostError):
            raise answer
        return answer


@pytest.fixture
def host(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def collected(host: Host, name: str = "/logs.tar") -> dict[str, str]:
    """Return the archive's files by their names below its folder."""
    with tarfile.open(host.path(name)) as tar:
        assert all(entry.isreg() and entry.mode == 0o600 for entry in tar)
        parts = {entry.name.partition("/")[2]: tar.extractfile(entry) for entry in tar}
        return {name: part.read().decode() for name, part in parts.items() if part}


@root_only
def test_no_secret_is_in_the_archive(host: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    ctx = context(host)
    ctx.state.set_instance(CONFIG.identity)
    programs = {"script": SECRETS["script"], "file0": SECRETS["file"], USER_DATA: SECRETS["user data"]}
    ctx.state.store_config(CONFIG, {name: text.encode() for name, text in programs.items()})
    host.write("/gandi/config", DOCUMENT, mode=0o600)
    host.write("/etc/ssh/ssh_host_ed25519_key", SECRETS["file"], mode=0o600)
    host.write("/run/gandi/metadata.json", SECRETS["metadata"])
    assert main(["collect-logs", "-o", "/logs.tar"], host) == 0
    data = Path(host.path("/logs.tar")).read_bytes()
    planted = b"".join(
        Path(folder, name).read_bytes()
        for folder, _, names in os.walk(host.root)
        for name in names
        if name != "logs.tar"
    )
    for where, secret in SECRETS.items():
        assert secret.encode() in planted, f"{where}: not planted"
        assert secret.splitlines()[-1].encode() not in data, where
        assert secret not in capsys.readouterr().out
    found = collected(host)
    assert KEY in found["config.json"]
    assert '"hostname": "vm1"' in found["config.json"]
    assert "/run/gandi/metadata.json\n" in found["run-gandi.txt"]


@root_only
def test_it_has_all_that_is_asked_for_in_a_report(host: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    host.write("/etc/default/gandi", "CONFIG_DISK_ROOT=/data\n")
    host.write("/run/udev/tags/gandi/b254:16", "")
    host.write("/run/udev/data/b254:16", "S:disk/by-label/data\nE:ID_FS_TYPE=ext4\n")
    for stage in Stage:
        context(host).status.stage_ended(StageReport(stage, (), 0.1))
    assert collect_logs.collect(host, "/logs.tar") == 0
    assert capsys.readouterr().out == "made /logs.tar\n"
    found = collected(host)
    assert found.pop("problems.txt") == ""
    assert found["status.txt"].startswith("ready: boot took ")
    assert '"verdict": "ready: boot took ' in found["status.json"]
    assert "CONFIG_DISK_ROOT=/data  (/etc/default/gandi:1)" in found["config.txt"]
    assert found["udev.txt"] == "b254:16:\nS:disk/by-label/data\nE:ID_FS_TYPE=ext4\n\n"
    assert found["versions.txt"].startswith("gandi-agent ")
    for name, argv in collect_logs._PROGRAMS.items():
        assert found[name] == f"{argv[0]} said so\n"
    journals = [argv for argv in host.asked if argv[0] == "journalctl"]
    assert all("--boot" in argv for argv in journals)
    for unit in ("gandi-script.service", "gandi-boot-x.service", "gandi-hook-x.service"):
        assert not any(_matches(word.removeprefix("--unit="), unit) for argv in journals for word in argv)


def _matches(pattern: str, unit: str) -> bool:
    from fnmatch import fnmatchcase

    return fnmatchcase(unit, pattern)


@root_only
def test_a_part_that_fails_is_noted_and_costs_no_other(
    host: Machine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_ctx: object) -> list[str]:
        raise ValueError("a-secret")

    monkeypatch.setitem(collect_logs._PARTS, "udev.txt", broken)
    host.failing["lsblk"] = HostError("lsblk: still running after 30 s, killed")
    host.failing["ip"] = Completed(("ip",), 1, "half", "Cannot open\nnetlink socket\n")
    monkeypatch.setattr(collect_logs, "_LARGEST", 1 << 10)
    host.failing["journalctl"] = Completed(("journalctl",), 0, "x" * 5000, "")
    assert collect_logs.collect(host, "/logs.tar") == 0
    found = collected(host)
    problems = found["problems.txt"].splitlines()
    assert "lsblk.txt: lsblk: still running after 30 s, killed" in problems
    assert "ip-route.txt: ip: exit status 1: Cannot open; netlink socket" in problems
    assert "udev.txt: unexpected ValueError" in problems
    assert "journal-units.txt: cut at 0 MiB" in problems
    assert found["ip-route.txt"] == "half"
    assert len(found["journal-units.txt"]) == 1 << 10
    assert "lsblk.txt" not in found
    assert found["versions.txt"]
    assert "a-secret" not in "".join(found.values())
    assert capsys.readouterr().out.splitlines() == [*problems, "made /logs.tar"]


@root_only
def test_the_archive_is_roots_and_never_takes_the_place_of_anything(host: Machine, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        assert collect_logs.collect(host, None) == 0
    finally:
        os.umask(before)
    (made,) = [name for name in os.listdir(tmp_path) if name.startswith("gandi-logs-")]
    assert made.endswith("Z.tar")
    assert stat.S_IMODE(os.stat(tmp_path / made).st_mode) == 0o600
    (tmp_path / "taken").write_text("mine")
    (tmp_path / "link").symlink_to("elsewhere")
    for name in ("/taken", "/link", "/nowhere/logs.tar"):
        with pytest.raises(HostError, match=f"{name}: cannot be opened") as refused:
            collect_logs.collect(host, name)
        assert refused.value.hint == "another name: gandi-agent collect-logs -o FILE"
    assert (tmp_path / "taken").read_text() == "mine"
    assert not (tmp_path / "elsewhere").exists()


@root_only
def test_no_half_of_an_archive_is_left(host: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_file: int, _data: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("agent.cli.collect_logs.os.write", full)
    with pytest.raises(HostError, match=r"/logs.tar: cannot be written: No space left on device"):
        collect_logs.collect(host, "/logs.tar")
    assert not host.exists("/logs.tar")


@root_only
def test_links_in_run_are_named_and_not_followed(host: Machine, tmp_path: Path) -> None:
    (tmp_path / "run/gandi").mkdir(parents=True)
    (tmp_path / "etc/private").mkdir(parents=True)
    (tmp_path / "etc/private/secret-name").touch()
    (tmp_path / "run/gandi/link").symlink_to("/etc/private")
    collect_logs.collect(host, "/logs.tar")
    found = collected(host)["run-gandi.txt"].splitlines()
    assert "/run/gandi/link" in found
    assert not [name for name in found if "secret-name" in name]
