"""Disks that do not answer, so that a boot goes on without them.

A read of a disk that hangs has no end: no signal and no timeout takes it back, and whoever does it cannot
end either. So each disk is first read in a thread of its own. One that has requests under way and ends none
of them for PATIENCE seconds is silent: it is opened no more, until one of its requests has ended. A disk
that is slow, but moves, is waited for.

The kernel counts requests in /sys/class/block/NAME/stat and inflight (Documentation/block/stat.rst). Who is
silent is noted in /run/gandi/silent, a file for each disk, so that what comes later in a boot does not wait
again: its text is the disk's attachment (diskseq) and the numbers of requests that had ended.
"""

from __future__ import annotations

import os
import time

from agent.block import storage
from agent.host.sysfs import attribute
from agent.lib.errors import HostError
from agent.lib.records import dataclass, field
from agent.lib.text import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.host.host import Host

#: Seconds without a sign of a disk after which it is not waited for.
PATIENCE = 2.0
#: Seconds for a disk of which the counters say nothing.
_LONGEST = 15.0
_FOLDER = "/run/gandi/silent"
#: Where a disk is read to see whether it answers: both places of an archive, in bytes.
_PLACES = (0, 512 << 10)
_BLOCK = 512
#: Of the numbers in ``stat``: how many reads, writes, discards and flushes have ended.
_ENDED = (0, 4, 11, 15)


@dataclass(slots=True)
class Stillness:
    """Which of the disks that are waited for have stopped. ``disks``: the whole disk of each name."""

    host: Host
    disks: Mapping[str, str]
    _waits: dict[str, tuple[str, float]] = field(default_factory=dict)
    _seen: dict[str, tuple[str, float]] = field(default_factory=dict)

    def all(self, names: Iterable[str]) -> bool:
        """Whether nothing has moved for PATIENCE seconds on any of them; to be asked again and again."""
        return all([self._is_still(name) for name in names])

    def waiting(self, name: str, why: str) -> None:
        """The work on a name waits for something that may have no end (a check), or no longer ("")."""
        self._waits[name] = (why, time.monotonic())

    def why(self, name: str) -> str:
        """Why the work on a name is not waited for."""
        return f"waits for {self._waits[name][0]}" if self._is_held(name) else "does not answer"

    def _is_held(self, name: str) -> bool:
        why, since = self._waits.get(name, ("", 0.0))
        return bool(why) and time.monotonic() >= since + PATIENCE

    def _is_still(self, name: str) -> bool:
        now, disk = time.monotonic(), self.disks[name]
        if self._is_held(name):
            return True
        ended, is_busy = _requests(self.host, disk)
        if not is_busy:
            self._seen.pop(disk, None)
            return False
        before, since = self._seen.get(disk, ("", 0.0))
        if before != ended:
            since = now - PATIENCE if not before and is_silent(self.host, disk) else now
            self._seen[disk] = ended, since
        return now >= since + PATIENCE


def find(host: Host, disks: Iterable[str]) -> set[str]:
    """The disks (kernel names) that do not answer now; waits PATIENCE seconds where one is in doubt."""
    from agent.lib.parallel import together

    if host.offline:
        return set()
    noted = {name for name in disks if is_silent(host, name)}
    asked = [name for name in disks if name not in noted]
    still = Stillness(host, {name: name for name in asked})
    work = {name: lambda name=name: _read(host, name) for name in asked}
    _, late = together(work, _LONGEST, lambda _name, _error: None, stopped=still.all)
    for name in late:
        note(host, name)
    return noted | late


def is_silent(host: Host, disk: str) -> bool:
    """Whether the disk did not answer, and has not since."""
    noted = host.read(f"{_FOLDER}/{disk}")
    if noted is None:
        return False
    ended, is_busy = _requests(host, disk)
    return is_busy and noted == ended


def note(host: Host, disk: str) -> None:
    """Have nobody wait for the disk until it answers."""
    if host.dry_run:
        return
    host.mkdir(_FOLDER)
    host.write(f"{_FOLDER}/{disk}", _requests(host, disk)[0])


def _read(host: Host, disk: str) -> None:
    try:
        # Not blocking: a drive with an open tray must not close it.
        with host.opened(f"/dev/{disk.replace('!', '/')}", os.O_RDONLY | os.O_NONBLOCK) as descriptor:
            for place in _PLACES:
                os.pread(descriptor, _BLOCK, place)
    except (OSError, HostError):
        # An error is an answer.
        return


def _requests(host: Host, disk: str) -> tuple[str, bool]:
    """The disk's attachment with how many of its requests have ended, and whether any is under way."""
    folder = f"{storage.BLOCK}/{disk}"
    counters = words(attribute(host, f"{folder}/stat"))
    ended = [counters[place] for place in _ENDED if place < len(counters)]
    is_busy = any(number != "0" for number in words(attribute(host, f"{folder}/inflight")))
    return " ".join([attribute(host, f"{folder}/diskseq"), *ended]), is_busy
