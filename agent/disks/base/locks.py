"""Locks on disks and decisions, between the threads of a process and between processes (the daemon, a stage
that runs without it, the commands).
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
    from collections.abc import Iterator, Mapping

    from agent.disks.base.facts import Filesystem
    from agent.disks.base.record import Record
    from agent.host.host import Host

#: Seconds to wait for the lock on a disk; growing a large filesystem takes minutes.
PATIENCE = 1800.0
#: Seconds to wait for another process's decision, which takes a fraction of a second.
_DECISION = 60.0


@dataclass(slots=True)
class Locks:
    """Serialise the work on each disk and all decisions; keep the mountpoints that are assigned."""

    _decision_lock: threading.Lock = field(default_factory=threading.Lock)
    _table_lock: threading.Lock = field(default_factory=threading.Lock)
    _disk_locks: dict[str, threading.Lock] = field(default_factory=dict)
    #: The former records of the devices that this process is about to mount.
    _before: dict[str, Record] = field(default_factory=dict)

    @contextlib.contextmanager
    def disk(self, host: Host, name: str, patience: float = PATIENCE) -> Iterator[None]:
        """Hold the lock on the disk. Raise Busy if it is not free within ``patience`` seconds."""
        with self._table_lock:
            lock = self._disk_locks.setdefault(name, threading.Lock())
        deadline = time.monotonic() + patience
        if not lock.acquire(timeout=patience):
            raise Busy(f"{name}: still being worked on after {patience:g} s", hint="see: gandi-agent status")
        try:
            with record.exclusive(host, name, max(deadline - time.monotonic(), 0.0)):
                yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def decisions(self, host: Host) -> Iterator[None]:
        """Hold the lock on decisions. Raise Busy if another process does not free it."""
        with self._decision_lock, record.exclusive(host, "decisions", _DECISION):
            yield

    def pending_mounts(self, records: Mapping[str, Record]) -> dict[str, Filesystem]:
        """Return what any process is about to mount, by device number. ``records`` are read before the
        kernel's mounts: what is no longer pending is among them then.
        """
        me = processes.this_process()
        return {
            known.devno: known.filesystem
            for device, known in records.items()
            if known.is_being_mounted and (known.process != me or device in self._before)
        }

    def begin_mount(self, records: Records, device: str, claim: Record, before: Record) -> None:
        """Store the record of a device that is about to be mounted. The caller holds the lock on decisions.
        Raise HostError.
        """
        records.put(device, claim)
        self._before[device] = before

    def end_mount(self, host: Host, device: str) -> None:
        """End what ``begin_mount`` began. If the device is not mounted, restore its former record."""
        records, before = Records(host), self._before.pop(device, None)
        known = records.get(device) if before else None
        if (
            before
            and known
            and known.state == DiskState.MOUNTING
            and known.process == processes.this_process()
        ):
            here = (mount for mount in mounts.mounts(host) if mount.mountpoint == known.mountpoint)
            if not any(known.devno in mount.devnos for mount in here):
                records.put(device, replace(before, checked=known.checked))


#: The locks of this process on the machine's disks.
LOCKS = Locks()
