"""Waits that the kernel offers without a bound, with one: for a lock of flock(2), for a process to end."""

from __future__ import annotations

import fcntl
import os
import select
import time

_RETRY = 0.05


def lock(descriptor: int, seconds: float) -> bool:
    """Take the exclusive lock of an open file; False when somebody else held it for that long."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            # flock(2) has no form with a timeout, and a thread blocked in it cannot be called back.
            time.sleep(_RETRY)
        else:
            return True


def ended(process: int, seconds: float) -> bool:
    """Wait until the process has ended (a child is a zombie then); False when it still runs after that
    long.
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
