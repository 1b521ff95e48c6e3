"""Locks of the account files: a living process is waited for and then named, one that has ended is not."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.host import lock_files
from agent.host.host import Host
from agent.lib.errors import Busy, HostError

FILES = ("/etc/passwd", "/etc/shadow")


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    return tmp_path / "etc"


@pytest.fixture
def living() -> Iterator[int]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process.pid
        process.kill()


@pytest.fixture
def ended() -> int:
    with subprocess.Popen(["true"]) as process:
        pass
    return process.pid


def test_locks_are_those_of_the_passwd_package(etc: Path) -> None:
    with lock_files.held(Host(etc.parent), FILES):
        assert sorted(os.listdir(etc)) == [".pwd.lock", "passwd.lock", "shadow.lock"]
        assert (etc / "passwd.lock").read_bytes() == f"{os.getpid()}\0".encode()
        assert (etc / "passwd.lock").stat().st_mode & 0o777 == 0o600
        code = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        other = [sys.executable, "-c", code, str(etc / ".pwd.lock")]
        assert b"BlockingIOError" in subprocess.run(other, capture_output=True, check=False).stderr
    assert os.listdir(etc) == [".pwd.lock"]


def test_a_living_process_is_waited_for_and_named(etc: Path, living: int) -> None:
    (etc / "shadow.lock").write_text(f"{living}\0")
    before = time.monotonic()
    with pytest.raises(Busy, match=rf"/etc/shadow\.lock: process {living} has held it for 0\.3 s"):
        lock_files.held(Host(etc.parent), FILES, wait=0.3).__enter__()
    assert time.monotonic() - before >= 0.3
    assert sorted(os.listdir(etc)) == [".pwd.lock", "shadow.lock"], "its own are gone, the other's stays"
    threading.Timer(0.2, (etc / "shadow.lock").unlink).start()
    with lock_files.held(Host(etc.parent), FILES, wait=20):
        assert (etc / "shadow.lock").read_bytes() == f"{os.getpid()}\0".encode()


def test_the_holder_of_the_common_lock_is_named(etc: Path) -> None:
    code = "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.lockf(file, fcntl.LOCK_EX)"
    command = [sys.executable, "-c", f"{code}; print(flush=True); input()", str(etc / ".pwd.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        other.stdout.readline()
        with pytest.raises(Busy, match=rf"/etc/\.pwd\.lock: process {other.pid} has held it"):
            lock_files.held(Host(etc.parent), FILES, wait=0.2).__enter__()
        other.stdin.close()
    with lock_files.held(Host(etc.parent), FILES):
        pass


@pytest.mark.parametrize("content", ["", "\0\0\0", "PID", "PID\n", "0", "9999999999"])
def test_a_lock_that_is_left_over_is_replaced(etc: Path, ended: int, content: str) -> None:
    (etc / "passwd.lock").write_text(content.replace("PID", str(ended)))
    (etc / f"passwd.{os.getpid()}").symlink_to("/etc/elsewhere")
    with lock_files.held(Host(etc.parent), FILES, wait=5):
        pass
    assert os.listdir(etc) == [".pwd.lock"]


@pytest.mark.parametrize("what", ["link", "folder", "copy"])
def test_what_is_no_lock_is_named_and_stays(etc: Path, what: str) -> None:
    path = etc / "passwd.lock"
    match what:
        case "link":
            path.symlink_to("/etc/elsewhere")
        case "folder":
            path.mkdir()
        case _:
            path.write_text("root:x:0:0:root:/root:/bin/sh\n")
    with pytest.raises(HostError, match=r"/etc/passwd\.lock: not a lock file .*remove it"):
        lock_files.held(Host(etc.parent), FILES, wait=5).__enter__()
    assert sorted(os.listdir(etc)) == [".pwd.lock", "passwd.lock"]
    with (etc / ".pwd.lock").open("r+") as mutex:
        fcntl.lockf(mutex, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_dry_run_takes_none(etc: Path) -> None:
    with lock_files.held(Host(etc.parent, dry_run=True), FILES):
        assert not os.listdir(etc)
