"""Who may look at a disk and who decides: among the threads of a process, and among the processes (the
daemon, a stage client that fell back, the verbs).
"""

from __future__ import annotations

import contextlib
import threading
import time

from agent.block import mounts
from agent.disks.base import record
from agent.disks.base.record import DiskState, Records
from agent.host import processes
from agent.lib.errors import Busy
from agent.lib.records import dataclass, field, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.disks.base.facts import Filesystem
    from agent.disks.base.record import Record
    from agent.host.host import Host

#: Seconds that one look at a disk waits for another one to end; growing a large filesystem takes minutes.
PATIENCE = 1800.0
#: Seconds that a decision waits for another process's, which takes a fraction of one.
_DECISION = 60.0


@dataclass(slots=True)
class Turns:
    """One look at a disk at a time, one decision at a time, and which places have been given out."""

    _deciding: threading.Lock = field(default_factory=threading.Lock)
    _making: threading.Lock = field(default_factory=threading.Lock)
    _disks: dict[str, threading.Lock] = field(default_factory=dict)
    #: What this process is about to mount, by device, as it was on record before.
    _before: dict[str, Record] = field(default_factory=dict)

    @contextlib.contextmanager
    def of(self, host: Host, name: str, patience: float = PATIENCE) -> Iterator[None]:
        """Hold the disk. Raises Busy when another look at it does not end."""
        with self._making:
            lock = self._disks.setdefault(name, threading.Lock())
        deadline = time.monotonic() + patience
        if not lock.acquire(timeout=patience):
            raise Busy(f"{name}: still being worked on after {patience:g} s", hint="see: gandi-agent status")
        try:
            with record.exclusive(host, name, max(deadline - time.monotonic(), 0.0)):
                yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def deciding(self, host: Host) -> Iterator[None]:
        """Be the only one who decides."""
        with self._deciding, record.exclusive(host, "decisions", _DECISION):
            yield

    def pending(self, host: Host) -> dict[str, Filesystem]:
        """What is about to be mounted, by whichever process, by device number. To be asked before the kernel
        is asked what is mounted: what is pending no more is mounted then.
        """
        me = processes.me()
        return {
            known.number: known.filesystem
            for device, known in Records(host).mounting().items()
            if known.process != me or device in self._before
        }

    def begin(self, host: Host, device: str, claim: Record, before: Record) -> None:
        """Record that the device is about to be mounted. To be called while deciding. Raises HostError."""
        Records(host).put(device, claim)
        self._before[device] = before

    def end(self, host: Host, device: str) -> None:
        """It is mounted, or it could not be: then what was on record before is so again."""
        records, before = Records(host), self._before.pop(device, None)
        known = records.all().get(device) if before else None
        if before and known and known.state == DiskState.MOUNTING and known.process == processes.me():
            here = (mount for mount in mounts.mounts(host) if mount.at == known.at)
            if not any(known.number in mount.numbers for mount in here):
                records.put(device, replace(before, checked=known.checked))


#: The disks of this machine, for everything in this process that acts on them.
TURNS = Turns()
