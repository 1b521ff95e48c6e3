"""Waits end after their timeout."""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from pathlib import Path

import pytest

from agent import report
from agent.host.host import Host
from agent.lib import timed_wait
from agent.lib.errors import Busy
from agent.report import LOCK, StatusFile


def test_a_lock_is_taken_or_given_up_in_time(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as mine, (tmp_path / "lock").open("w") as others:
        assert timed_wait.lock(mine.fileno(), 0)
        began = time.monotonic()
        assert not timed_wait.lock(others.fileno(), 0.2)
        assert 0.2 <= time.monotonic() - began < 5
        fcntl.flock(mine, fcntl.LOCK_UN)
        assert timed_wait.lock(others.fileno(), 0)


def test_a_process_is_waited_for_in_time() -> None:
    process = subprocess.Popen(["sleep", "60"])
    try:
        assert not timed_wait.wait_for_exit(process.pid, 0.1)
        process.kill()
        assert timed_wait.wait_for_exit(process.pid, 10)
    finally:
        process.kill()
        process.wait()
    assert timed_wait.wait_for_exit(process.pid, 0), "one that has been reaped"


def test_a_writer_that_hangs_does_not_hang_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "_LOCK_TIMEOUT", 0.1)
    host = Host(tmp_path)
    StatusFile(host).merge("notes", "x", 1)
    with host.opened(LOCK, os.O_RDWR) as held:
        assert timed_wait.lock(held, 0)
        with pytest.raises(Busy, match="another process has held"):
            StatusFile(host).merge("notes", "x", 2)
    StatusFile(host).merge("notes", "x", 3)
    assert StatusFile(host).read()["notes"] == {"x": 3}
