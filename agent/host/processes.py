"""Processes as records name them, and waits with a timeout for their locks (flock(2)) and their ends.

A record names a process by its id and start time: the kernel reuses the id of a process that has ended, so
the id alone does not show whether the process that wrote a record still runs.
"""

from __future__ import annotations

import fcntl
import os
import select
import time

from agent.lib.text import WHITE, lines, number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

#: Fields of /proc/PID/stat (proc_pid_stat(5)) after the name: the state, and the start in clock ticks since
#: the boot.
_STATE, _START = 0, 19
#: (uid_t) -1 in /proc/self/loginuid: no login.
_NO_LOGIN = 0xFFFFFFFF
#: Bytes that are read of that file, and of /proc/PID/status, in which the uids come early.
_NUMBER, _STATUS = 32, 1 << 14
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


def login_uid() -> int:
    """Return the uid of the login that this process comes from (audit's, which su and sudo keep); -1 for
    none, or where the kernel does not record it.
    """
    try:
        with open("/proc/self/loginuid", "rb", buffering=0) as file:
            found = number(file.read(_NUMBER).decode("ascii", "replace").strip(WHITE))
    except OSError:
        return -1
    return -1 if found is None or found == _NO_LOGIN else found


def running_as(uids: Collection[int]) -> Iterator[tuple[int, int, str]]:
    """Yield uid, id and name of each process with one of these uids (real, effective, saved or that for
    files) and with this process's root: those of a container or a chroot have other accounts.
    """
    here = os.stat("/")
    for name in os.listdir("/proc"):
        if (pid := number(name)) is None:
            continue
        try:
            with open(f"/proc/{pid}/status", "rb", buffering=0) as file:
                text = file.read(_STATUS).decode("utf-8", "replace")
            fields = dict(line.partition(":\t")[::2] for line in lines(text))
            found = {number(one) for one in fields.get("Uid", "").split("\t")} & set(uids)
            root = os.stat(f"/proc/{pid}/root") if found else None
        except OSError:
            continue  # it has ended
        if root is not None and (root.st_dev, root.st_ino) == (here.st_dev, here.st_ino):
            yield from ((uid, pid, fields.get("Name", "")) for uid in found if uid is not None)


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
