"""A record names its process by id and start time; waits for processes end after their timeout."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from agent.host import processes

if TYPE_CHECKING:
    from pathlib import Path


def of(pid: int) -> dict[str, int]:
    """Return the record of a process, as read by another program."""
    words = subprocess.run(
        ["awk", '{ sub(/.*\\) /, ""); print $20 }', f"/proc/{pid}/stat"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {"pid": pid, "started": int(words.stdout)}


def test_this_process() -> None:
    assert processes.this_process() == of(os.getpid())
    assert processes.is_alive(processes.this_process())


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"pid": 0, "started": 1},
        {"pid": -1, "started": 1},
        {"pid": os.getpid()},
        {"pid": os.getpid(), "started": 0},
        {"pid": os.getpid(), "started": 1},
        {"pid": str(os.getpid()), "started": "1"},
        {"pid": 1, "started": 10**15},
        {"pid": 2**22 + 1, "started": 1},
    ],
)
def test_a_number_alone_names_no_process(record: dict[str, object]) -> None:
    assert not processes.is_alive(record)


def test_a_name_like_the_fields_after_it_misleads_nobody(tmp_path: Path) -> None:
    program = tmp_path / "a) Z 1 ("
    os.symlink(os.path.realpath(sys.executable), program)
    with subprocess.Popen([program, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert processes.is_alive(of(process.pid))
        assert processes.state(process.pid) in ("R", "S", "D")


def test_one_that_has_ended_and_is_not_waited_for_is_over() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        record = of(process.pid)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert processes.state(process.pid) == "Z"
        assert not processes.is_alive(record)


def test_a_child_is_not_its_parent() -> None:
    processes.this_process()
    reader, writer = os.pipe()
    if not (child := os.fork()):
        os.write(writer, f"{processes.this_process()['pid']}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert int(os.read(reader, 32)) == child
    os.close(reader)
    os.close(writer)


def test_a_lock_is_taken_or_given_up_in_time(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as mine, (tmp_path / "lock").open("w") as others:
        assert processes.lock(mine.fileno(), 0)
        began = time.monotonic()
        assert not processes.lock(others.fileno(), 0.2)
        assert 0.2 <= time.monotonic() - began < 5
        fcntl.flock(mine, fcntl.LOCK_UN)
        assert processes.lock(others.fileno(), 0)


def test_a_process_is_waited_for_in_time() -> None:
    process = subprocess.Popen(["sleep", "60"])
    try:
        assert not processes.wait_for_exit(process.pid, 0.1)
        process.kill()
        assert processes.wait_for_exit(process.pid, 10)
    finally:
        process.kill()
        process.wait()
    assert processes.wait_for_exit(process.pid, 0), "one that has been reaped"
