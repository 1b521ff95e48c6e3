"""Keeps a guest with a clock that skips idle time (MachineSpec.skips) from idling until it is to rest.

While the guest idles, QEMU sets its clock forward to the next timer, also while the host reads a disk for it
or a test decides what to do next: seconds of the guest's would pass for each read. So this program spins, at
the lowest priority, unless /run/resting exists (Machine.rest). Then it sleeps for `SLICE`, again and again,
and spins while a disk has a request in progress: what runs during a rest loses a slice at most each time it
waits for disks.
"""

from __future__ import annotations

import os
import time

RESTING = "/run/resting"
#: Seconds.
SLICE = 5.0
#: Turns of the loop between two looks for RESTING: a fraction of a millisecond.
TURNS = 2000
IDLE = b"0"


def counters() -> list[int]:
    """Return the opened counters of requests in progress, one of each disk with hardware."""
    names = (name for name in os.listdir("/sys/block") if not name.startswith(("loop", "ram", "dm-")))
    return [os.open(f"/sys/block/{name}/inflight", os.O_RDONLY) for name in names]


def at_work(disk: int) -> bool:
    """Return whether a disk has a request in progress: not one that has gone."""
    try:
        return set(os.pread(disk, 64, 0).split()) != {IDLE}
    except OSError:
        return False


def rest() -> None:
    """Sleep until RESTING is gone, but not while a disk is at work."""
    disks = counters()
    try:
        while os.access(RESTING, os.F_OK):
            time.sleep(SLICE)
            while any(map(at_work, disks)):
                pass
    finally:
        for disk in disks:
            os.close(disk)


def main() -> None:
    """Spin and rest for ever."""
    while True:
        while not os.access(RESTING, os.F_OK):
            for _ in range(TURNS):
                pass
        rest()


if __name__ == "__main__":
    main()
