"""Limit the virtual machines that run on this host at a time: flock slots, shared by all processes that use
this cache.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from .command import RigError
from .paths import LOCKS, locked, try_lock

# A machine waits for a quarter of its time: one more than there are cores keeps these busy.
SLOTS = int(os.environ.get("GANDI_VM_SLOTS") or (os.cpu_count() or 1) + 1)
WAIT = 900.0  # seconds


class Slot:
    """The right to run one machine, held until `release` or the end of the process."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def lend(self) -> Slot:
        """Return the same right for one machine of several that follow each other: its release leaves this
        one held.
        """
        return Slot(os.dup(self._fd))

    def release(self) -> None:
        """Release the slot; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


def take(count: int = 1) -> list[Slot]:
    """Wait for `count` slots at once. A test with two machines takes both here: one after the other could
    deadlock.

    Raise RigError when they are not free within 15 minutes or are more than there are.
    """
    if count > SLOTS:
        raise RigError(f"{count} machines at a time wanted, {SLOTS} allowed (GANDI_VM_SLOTS)")
    LOCKS.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + WAIT
    held: list[Slot] = []
    # Only one process takes slots at a time, so two that need two each cannot hold one each.
    with locked("vm-gate", WAIT):
        while len(held) < count:
            held.extend(_free_slots(count - len(held)))
            if len(held) < count:
                if time.monotonic() > end:
                    for slot in held:
                        slot.release()
                    raise RigError(f"no free machine slot in {WAIT:.0f} s; who holds {LOCKS}/vm-slot-*?")
                time.sleep(0.1)
    return held


def _free_slots(count: int) -> list[Slot]:
    found: list[Slot] = []
    for number in range(SLOTS):
        if len(found) == count:
            break
        fd = os.open(_slot_file(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if try_lock(fd):
            found.append(Slot(fd))
        else:
            os.close(fd)
    return found


def _slot_file(number: int) -> Path:
    return LOCKS / f"vm-slot-{number}"
