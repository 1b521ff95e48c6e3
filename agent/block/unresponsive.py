"""Find disks that do not answer, so that a boot continues without them.

A read of a hanging disk never returns: no signal and no timeout interrupts it, and the process cannot end.
So each disk is first read in a thread of its own. A disk with requests in flight that completes none of them
for STALL_TIMEOUT seconds is silent: it is not opened again until one of its requests has completed. A slow
disk that completes requests is waited for.

The kernel counts requests in /sys/class/block/NAME/stat and inflight (Documentation/block/stat.rst). A
silent disk is noted by a file in /run/gandi/silent, so that later parts of a boot do not wait again: it has
the disk's attachment (diskseq) and its counts of completed requests.
"""

from __future__ import annotations

import os
import time

from agent.block import storage
from agent.host.sysfs import attribute, devnode
from agent.lib.errors import HostError
from agent.lib.records import dataclass, field
from agent.lib.text import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.host.host import Host

#: Seconds without a completed request after which a disk is not waited for.
STALL_TIMEOUT = 2.0
#: Seconds to wait for a disk when the counters do not show whether it hangs.
_LONGEST = 15.0
_FOLDER = "/run/gandi/silent"
#: Offsets of the test reads, in bytes: both places of an archive.
_PLACES = (0, 512 << 10)
_BLOCK = 512
#: Positions in ``stat`` of the completed reads, writes, discards and flushes.
_ENDED = (0, 4, 11, 15)


@dataclass(slots=True)
class StallDetector:
    """Find which of the awaited disks have stopped. ``disks`` maps each name to its whole disk."""

    host: Host
    disks: Mapping[str, str]
    _waits: dict[str, tuple[str, float]] = field(default_factory=dict)
    _seen: dict[str, tuple[str, float]] = field(default_factory=dict)

    def all_stalled(self, names: Iterable[str]) -> bool:
        """Return whether all have been stalled for STALL_TIMEOUT seconds; it must be called repeatedly."""
        return all([self._is_stalled(name) for name in names])

    def note_wait(self, name: str, why: str) -> None:
        """Set what the work on a disk waits for, of unknown duration (a check); "" when the wait ends."""
        self._waits[name] = (why, time.monotonic())

    def reason(self, name: str) -> str:
        """Return why the work on a disk is not waited for."""
        return f"waits for {self._waits[name][0]}" if self._is_waiting(name) else "does not answer"

    def _is_waiting(self, name: str) -> bool:
        why, since = self._waits.get(name, ("", 0.0))
        return bool(why) and time.monotonic() >= since + STALL_TIMEOUT

    def _is_stalled(self, name: str) -> bool:
        now, disk = time.monotonic(), self.disks[name]
        if self._is_waiting(name):
            return True
        ended, is_busy = _requests(self.host, disk)
        if not is_busy:
            self._seen.pop(disk, None)
            return False
        before, since = self._seen.get(disk, ("", 0.0))
        if before != ended:
            since = now - STALL_TIMEOUT if not before and is_unresponsive(self.host, disk) else now
            self._seen[disk] = ended, since
        return now >= since + STALL_TIMEOUT


def find_unresponsive(host: Host, disks: Iterable[str]) -> set[str]:
    """Return the disks (kernel names) that do not answer. Takes STALL_TIMEOUT seconds if one has stopped, at
    most _LONGEST.
    """
    from agent.lib.parallel import run_parallel

    if host.offline:
        return set()
    noted = {name for name in disks if is_unresponsive(host, name)}
    asked = [name for name in disks if name not in noted]
    still = StallDetector(host, {name: name for name in asked})
    work = {name: lambda name=name: _read(host, name) for name in asked}
    _, late = run_parallel(work, _LONGEST, lambda _name, _error: None, should_stop=still.all_stalled)
    for name in late:
        record_unresponsive(host, name)
    return noted | late


def is_unresponsive(host: Host, disk: str) -> bool:
    """Return whether the disk was noted as silent, and has completed no request since."""
    noted = host.read(f"{_FOLDER}/{disk}")
    if noted is None:
        return False
    ended, is_busy = _requests(host, disk)
    return is_busy and noted == ended


def record_unresponsive(host: Host, disk: str) -> None:
    """Note the disk as silent: it is not waited for until it answers."""
    if host.dry_run:
        return
    host.mkdir(_FOLDER)
    host.write(f"{_FOLDER}/{disk}", _requests(host, disk)[0])


def _read(host: Host, disk: str) -> None:
    try:
        # O_NONBLOCK: a drive with an open tray must not close it.
        with host.opened(devnode(disk), os.O_RDONLY | os.O_NONBLOCK) as descriptor:
            for offset in _PLACES:
                os.pread(descriptor, _BLOCK, offset)
    except (OSError, HostError):
        # A disk that returns an error does answer.
        return


def _requests(host: Host, disk: str) -> tuple[str, bool]:
    """Return the disk's attachment with its counts of completed requests, and whether any is in flight."""
    folder = f"{storage.BLOCK}/{disk}"
    counters = words(attribute(host, f"{folder}/stat"))
    ended = [counters[position] for position in _ENDED if position < len(counters)]
    is_busy = any(number != "0" for number in words(attribute(host, f"{folder}/inflight")))
    return " ".join([attribute(host, f"{folder}/diskseq"), *ended]), is_busy
