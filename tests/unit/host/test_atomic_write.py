"""A run may end at any moment: the next one removes all its temporary names."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from agent.host import atomic_write, untrusted_dir
from agent.host.host import Host

ME = (os.geteuid(), os.getegid())
#: Only these make and remove such names.
WATCHED = ("agent/host/atomic_write.py",)

WORK: dict[str, Callable[[Host], object]] = {
    "status": lambda host: host.write("/run/gandi/status.json", "after", owner=ME),
    "state": lambda host: host.write("/var/lib/gandi/instances/x/config.json", "after", owner=ME, sync=True),
    "etc": lambda host: host.write("/etc/hosts", "after", owner=ME),
    "linked": lambda host: host.write("/etc/resolv.conf", "after", owner=ME),
    "run": lambda host: host.write("/run/elsewhere/file", "after", owner=ME),
    "users": lambda host: host.write("/home/user/file", "after", owner=ME),
    "link": lambda host: host.symlink("/etc/localtime", "after"),
    "chunks": lambda host: host.write_chunks("/boot/config", [b"af", b"ter"]),
    "keys": lambda host: untrusted_dir.write(host, "/home/user", (".ssh", "authorized_keys"), b"after", ME),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("run/gandi", "var/lib/gandi", "etc", "home/user", "boot"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "etc/hosts").write_text("before")
    (tmp_path / "etc/resolv.conf").symlink_to("/run/resolve/stub")
    (tmp_path / "home/user").chmod(0o777)
    return tmp_path


def left(root: Path) -> list[str]:
    """Return every temporary name."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if ".gandi-" in path.name)


def cut(work: Callable[[], object], lines: int) -> bool:
    """Run ``work`` in a process that is killed after so many of the agent's lines; return whether it was."""
    child = os.fork()
    if child == 0:
        count = 0

        def trace(frame: FrameType, event: str, _what: object) -> object:
            nonlocal count
            if not frame.f_code.co_filename.endswith(WATCHED):
                return None
            if event == "line":
                count += 1
                if count > lines:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)  # type: ignore[arg-type]  # a local trace function may be any callable
        work()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize("what", [*WORK, "etc before there is a state"])
def test_a_kill_at_any_line_leaves_nothing(root: Path, what: str) -> None:
    if what not in WORK:
        what = "etc"
        (root / "var/lib/gandi").rmdir()
    host, found, lines = Host(root), 0, 0
    while cut(lambda: WORK[what](Host(root)), lines):
        there = left(root)
        found += bool(there)
        removed = host.sweep()
        assert not left(root), f"after {lines} lines: {there}"
        assert len(removed) <= 1
        lines += 1
    assert found > 3, "it is killed while there is a temporary name"
    assert not left(root), "nor does one that ends leave any"


def test_what_is_being_written_is_left_alone(root: Path) -> None:
    host = Host(root)
    with host.place("/etc/hosts") as place, atomic_write.temporary_name(place) as name:
        (root / "etc" / name).write_text("half")
        there = left(root)
        assert len(there) == 2
        assert host.sweep() == []
        assert left(root) == there
        os.unlink(name, dir_fd=place.folder)
    assert not left(root)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_process_is_known_by_number_start_and_boot(root: Path, which: int) -> None:
    """The id alone is not enough: the daemon often has the same one in the next boot."""
    host = Host(root)
    with (
        host.place("/run/gandi/file") as place,
        atomic_write.temporary_name(place) as name,
        subprocess.Popen(["sleep", "600"]) as other,
        contextlib.ExitStack() as stack,
    ):
        stack.callback(other.kill)
        who = re.findall(r"[0-9a-f]+", name.rpartition(".gandi-")[2])
        who[which] = {0: str(other.pid), 1: "1", 2: "00000000"}[which]
        stale = f".file.gandi-{'-'.join(who)}"
        for there in (name, stale):
            (root / "run/gandi" / there).touch()
        assert host.sweep() == [f"/run/gandi/{stale}"]
        assert left(root) == [f"run/gandi/{name}"]


@pytest.mark.parametrize("name", [".x.gandi-1", ".x.gandi-a-1-b-0", "x.gandi-1-1-b-0", ".gandi-1-1-b", "x"])
def test_other_names_are_left_alone(root: Path, name: str) -> None:
    (root / "run/gandi" / name).touch()
    assert Host(root).sweep() == []
    assert (root / "run/gandi" / name).exists()


def test_a_note_names_nothing_but_temporary_names(root: Path) -> None:
    note = root / "var/lib/gandi/.unfinished.gandi-1-1-00000000-0"
    note.symlink_to("/etc/hosts")
    Host(root).sweep()
    assert (root / "etc/hosts").read_text() == "before"
    assert not note.is_symlink()


def test_a_note_leads_through_no_link_of_a_users(root: Path) -> None:
    temporary = ".x.gandi-1-1-00000000-0"
    (root / "etc" / temporary).touch()
    (root / "home/user/folder").symlink_to("/etc")
    (root / "var/lib/gandi/.unfinished.gandi-1-1-00000000-0").symlink_to(f"/home/user/folder/{temporary}")
    assert Host(root).sweep() == []
    assert (root / "etc" / temporary).exists()


def test_what_cannot_be_noted_is_written_all_the_same(root: Path) -> None:
    """Without room for the note there may be room for the file, on another filesystem."""
    for folder in atomic_write.FOLDERS:
        os.rmdir(root / folder.lstrip("/"))
        (root / folder.lstrip("/")).touch()
    host = Host(root)
    assert host.write("/etc/hosts", "after", owner=ME)
    assert (root / "etc/hosts").read_text() == "after"
    assert host.sweep() == []


def test_another_filesystems_name_is_noted_on_the_disk_first(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing orders the writes of two filesystems."""
    if os.stat("/dev/shm").st_dev == root.stat().st_dev:
        pytest.fail("this machine has one filesystem: /dev/shm is to be another")
    done: list[str] = []
    real = os.fsync

    def flushed(what: int) -> None:
        done.append(os.readlink(f"/proc/self/fd/{what}"))
        real(what)

    monkeypatch.setattr(os, "fsync", flushed)
    folder = Path("/dev/shm") / f"gandi-test-{os.getpid()}"
    folder.mkdir()
    try:
        with Host().place(f"{folder}/file") as place:
            place.root = os.fspath(root)
            atomic_write.replace(place, [b"x"], 0o600, ME)
        assert done[0] == str(root / "var/lib/gandi")
        assert len(done) == 2
    finally:
        for name in os.listdir(folder):
            (folder / name).unlink()
        folder.rmdir()
    assert not left(root)


def test_a_dry_run_removes_nothing(root: Path) -> None:
    (root / "run/gandi/.x.gandi-1-1-00000000-0").touch()
    assert Host(root, dry_run=True).sweep() == []
    assert left(root)
