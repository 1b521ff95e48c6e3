"""Processes as records name them, and waits with a timeout for their locks (flock(2)) and their ends.

A record names a process by its id and start time: the kernel reuses the id of a process that has ended, so
the id alone does not show whether the process that wrote a record still runs.
"""

from __future__ import annotations

import fcntl
import os
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

#: Fields of /proc/PID/stat (proc_pid_stat(5)) after the name: the state, and the start in clock ticks since
#: the boot.
_STATE, _START = 0, 19
#: States of a process that has ended.
_ENDED = frozenset({"Z", "X", "x"})
#: Seconds between two attempts to take a lock.
_RETRY = 0.05
_mine: tuple[int, int] = (0, 0)


def this_process() -> dict[str, int]:
    """Return the record of this process: its id, and its start time in clock ticks since the boot."""
    global _mine
    pid = os.getpid()
    if _mine[0] != pid:
        _mine = (pid, start_time(pid))
    return {"pid": pid, "started": _mine[1]}


def start_time(pid: int) -> int:
    """Return the start time of a process in clock ticks since the boot; 0 if it has ended, or without /proc
    (an image's programs have none).
    """
    try:
        fields = _fields(pid)
    except OSError:
        return 0
    return 0 if fields[_STATE] in _ENDED else int(fields[_START])


def key(record: Mapping[str, object]) -> tuple[int, int]:
    """Return the id and start time of the process that a record names; (0, 0) for none."""
    pid, started = record.get("pid", 0), record.get("started", 0)
    return (pid, started) if isinstance(pid, int) and isinstance(started, int) else (0, 0)


def is_alive(record: Mapping[str, object]) -> bool:
    """Return whether the process that a record names still runs: a process with that id and start time.
    Where /proc hides the processes of other users (hidepid=), only the id is compared.
    """
    pid, started = key(record)
    if pid <= 0 or started <= 0:
        return False
    try:
        fields = _fields(pid)
    except OSError:
        return _hidden(pid)
    return int(fields[_START]) == started and fields[_STATE] not in _ENDED


def state(pid: int) -> str:
    """Return the letter of the process's state, "" if it has ended or is hidden."""
    try:
        return _fields(pid)[_STATE]
    except OSError:
        return ""


def lock(descriptor: int, seconds: float) -> bool:
    """Take the exclusive lock of an open file; return False if another process holds it for ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            # flock(2) has no timeout, and a thread that blocks in it cannot be interrupted.
            time.sleep(_RETRY)
        else:
            return True


def wait_for_exit(process: int, seconds: float) -> bool:
    """Wait until the process has ended (a child is then a zombie); return False if it still runs after
    ``seconds``.
    """
    try:
        descriptor = os.pidfd_open(process)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(max(0.0, seconds) * 1000))
    finally:
        os.close(descriptor)


def _fields(pid: int) -> list[str]:
    """Return the fields after the name; the name may contain blanks and parentheses. Raise OSError."""
    with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
        return file.read(4096).rpartition(b")")[2].strip(b" \n").decode("ascii").split(" ")


def _hidden(pid: int) -> bool:
    """Return whether a process that /proc does not show runs as another user; /proc shows this user's."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except ProcessLookupError:
        pass
    return False
