"""What systemd is asked for, word by word; whether it does it is seen in the guest."""

from __future__ import annotations

import ctypes
import subprocess
from typing import TYPE_CHECKING

import pytest

from agent import pid1, transient, units
from agent.errors import HostError
from agent.host import Completed, Host

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agent.pid1 import Property


class Asked(Host):
    """A machine in a folder that notes what is run and answers as told."""

    __slots__ = ("answers", "argvs")

    def __init__(self, root: Path, **answers: Completed) -> None:
        super().__init__(root)
        self.argvs, self.answers = list[tuple[str, ...]](), answers

    def run(self, argv: Sequence[str], *, check: bool = True, **_how: object) -> Completed:
        self.argvs.append(tuple(argv))
        done = self.answers.get(argv[1], Completed(tuple(argv), 0, "", ""))
        if check and done.returncode:
            raise HostError("exit status")
        return done

    def knows(self, unit: str) -> None:
        """PID 1 has loaded the unit."""
        self.write(f"/run/systemd/transient/{unit}.service", "")


def test_a_unit_that_pid_1_does_not_know_is_not_asked_about(tmp_path: Path) -> None:
    host = Asked(tmp_path)
    transient.run(host, "gandi-grow-vdb", ("resize2fs", "/dev/vdb"), timeout=5)
    assert [argv[0] for argv in host.argvs] == ["systemd-run"]


@pytest.mark.parametrize(("state", "joins"), [("activating\n", True), ("failed\n", False)])
def test_one_that_runs_is_joined(tmp_path: Path, state: str, joins: bool) -> None:
    host = Asked(tmp_path, show=Completed((), 0, state, ""))
    host.knows("gandi-grow-vdb")
    transient.run(host, "gandi-grow-vdb", ("resize2fs", "/dev/vdb"), timeout=5)
    last = host.argvs[-1][:2]
    assert last == (("systemctl", "start") if joins else ("systemd-run", "--quiet"))


def test_one_that_ended_before_it_could_be_joined_is_no_error(tmp_path: Path) -> None:
    running, gone = Completed((), 0, "activating\n", ""), Completed((), 5, "", "Unit not found.")
    host = Asked(tmp_path, show=running, start=gone)
    host.knows("gandi-grow-vdb")
    transient.run(host, "gandi-grow-vdb", ("resize2fs", "/dev/vdb"), timeout=5)
    assert host.argvs[-1][:2] == ("systemctl", "start")


def test_a_command_that_fails_is_named(tmp_path: Path) -> None:
    failed = Completed((), 1, "", "Job failed.")
    host = Asked(tmp_path, **{"--quiet": failed})
    with pytest.raises(
        HostError, match=r"resize2fs /dev/vdb: failed in gandi-grow-vdb\.service: Job failed"
    ):
        transient.run(host, "gandi-grow-vdb", ("resize2fs", "/dev/vdb"), timeout=5)


#: Units, each with its properties by name.
AskedPid1 = list[tuple[str, dict[str, tuple[str, ...]]]]


@pytest.fixture
def asked_pid1(monkeypatch: pytest.MonkeyPatch) -> AskedPid1:
    asked = AskedPid1()

    def start(unit: str, properties: Sequence[Property], *, timeout: float) -> None:
        assert timeout == 5
        asked.append((unit, {name: tuple(values) for name, _, *values in properties}))

    monkeypatch.setattr(pid1, "start_transient", start)
    return asked


def test_no_unit_waits_for_basic_target(tmp_path: Path) -> None:
    host = Asked(tmp_path)
    transient.run(host, "a", ("true",), timeout=5)
    transient.start(host, "b", ("true",))
    for argv in host.argvs:
        assert {"--property=DefaultDependencies=no", "--property=Conflicts=shutdown.target"} <= set(argv)


def test_a_mount_is_lazy_and_goes_after_the_services(tmp_path: Path, asked_pid1: AskedPid1) -> None:
    host = Asked(tmp_path)
    transient.mount(host, "/dev/vdb", "/srv/my-data", fstype="ext4", options="rw", timeout=5)
    ((unit, said),) = asked_pid1
    assert unit == r"srv-my\x2ddata.mount"
    assert (said["What"], said["Type"], said["Options"]) == (("/dev/vdb",), ("ext4",), ("rw",))
    assert said["LazyUnmount"] == ("yes",)
    assert said["DefaultDependencies"] == ("no",)
    assert said["Before"] == ("shutdown.target", "local-fs.target")
    assert host.argvs == []


@pytest.mark.parametrize(("state", "reloads"), [("inactive", True), ("failed", True), ("active", False)])
def test_a_mount_that_has_ended_and_is_kept_by_who_requires_it_is_made_again(
    tmp_path: Path, asked_pid1: AskedPid1, monkeypatch: pytest.MonkeyPatch, state: str, reloads: bool
) -> None:
    host, text = Asked(tmp_path), tmp_path / "run/systemd/transient/srv-data.mount"
    host.write("/run/systemd/transient/srv-data.mount", "")
    monkeypatch.setattr(pid1, "active_state", lambda _unit, timeout: state)
    transient.mount(host, "/dev/vdb", "/srv/data", fstype="ext4", options="rw", timeout=5)
    assert [unit for unit, _ in asked_pid1] == ["srv-data.mount"]
    assert (not text.exists(), ("systemctl", "daemon-reload") in host.argvs) == (reloads, reloads)


def test_systemd_shortens_what_no_unit_can_be_named(tmp_path: Path, asked_pid1: AskedPid1) -> None:
    """A name of 255 bytes is a folder's, and four times as long as a unit's."""
    host, at = Asked(tmp_path), "/srv/" + "é" * 100
    transient.mount(host, "/dev/vdb", at, fstype="btrfs", options="rw", timeout=5)
    assert asked_pid1 == []
    ((*argv, device, where),) = host.argvs
    assert (argv[0], device, where) == ("systemd-mount", "/dev/vdb", at)
    assert {"--property=LazyUnmount=yes", "--property=DefaultDependencies=no"} <= set(argv)
    assert {"--property=Before=shutdown.target local-fs.target", f"--property=Where={at}"} <= set(argv)


def test_nothing_is_mounted_in_a_plan(tmp_path: Path, asked_pid1: AskedPid1) -> None:
    host = Host(tmp_path, dry_run=True)
    transient.mount(host, "/dev/vdb", "/srv/data", fstype="ext4", options="rw", timeout=5)
    assert asked_pid1 == []
    assert host.planned == ["mount /dev/vdb at /srv/data (ext4, rw)"]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/srv/data", "srv-data"),
        ("/srv//a b/", r"srv-a\x20b"),
        ("/srv/_-+.é", r"srv-_\x2d\x2b.\xc3\xa9"),
        ("/.hidden/.b", r"\x2ehidden-.b"),
        ("/a:b\\", r"a:b\x5c"),
        ("/", "-"),
    ],
)
def test_a_paths_unit_is_named_as_systemd_names_it(path: str, name: str) -> None:
    assert units.of_path(path, "mount") == f"{name}.mount"
    argv = ("systemd-escape", "--path", "--suffix=mount", path)
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == f"{name}.mount\n"


def test_nobody_answers_where_systemd_does_not_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pid1, "_ADDRESS", f"unix:path={tmp_path}/private".encode())
    with pytest.raises(HostError, match="systemd cannot be asked: "):
        pid1.system_state(timeout=1)
    with pytest.raises(HostError, match="systemd cannot be asked: "):
        pid1.main_process("ssh.service", timeout=1)
    assert not units.active(Host(), "ssh.service")
    assert units.main_process(Host(), "ssh.service") == 0


@pytest.mark.parametrize(
    "unit", ["ssh.service", r"srv-a\x20b.mount", "1_é@.service", "gandi-script.service"]
)
def test_a_units_object_has_the_path_that_the_library_gives_it(unit: str) -> None:
    library, path = ctypes.CDLL("libsystemd.so.0"), ctypes.c_char_p()
    given = (b"/org/freedesktop/systemd1/unit", unit.encode(), ctypes.byref(path))
    assert library.sd_bus_path_encode(*given) >= 0
    assert pid1._of_unit(unit) == path.value


def test_nobody_is_asked_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_name: str) -> None:
        raise OSError("libsystemd.so.0: cannot open shared object file")

    pid1._library.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(HostError, match="cannot be asked: libsystemd"):
        pid1.start_transient("srv-data.mount", (), timeout=1)
