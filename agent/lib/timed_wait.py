"""Waits with a timeout for a flock(2) lock and for the end of a process; the kernel's own have none."""

from __future__ import annotations

import fcntl
import os
import select
import time

#: Seconds between two attempts.
_RETRY = 0.05


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
