"""Dispatch of device events: one line in ``HANDLERS`` for each role that udev's rules name.

An event only means "examine this device": events of one device are merged while they wait, and a handler
computes from current facts, since its event may be stale. Disk events are dropped until the mount stage has
begun, which scans all disks.
"""

from __future__ import annotations

import re
import threading
import time

from agent import stages
from agent.block import storage
from agent.context import attempt, record
from agent.daemon.activity import Activity
from agent.daemon.worker_pool import Workers
from agent.lib.records import dataclass, field, replace
from agent.lib.text import number
from agent.report import Outcome, items
from agent.systemd import units
from agent.systemd.journal import Journal, status_line
from agent.udev import database

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from agent.context import Context
    from agent.host.host import Host
    from agent.report import Item, StepReport
    from agent.udev.monitor import Uevent

    Handle = Callable[[Context, str, str], Iterator[Item]]

#: The role and the name of what was restored or resumed, the machine: by a request, not an event of udev.
RESTORED = "restored"
#: Devices handled at the same time; one that hangs takes one of these places.
AT_ONCE = 8
#: Filesystems of configuration drives, as libblkid names them.
_DRIVES = ("iso9660", "vfat")
#: Block devices here have no disk tag by the agent's udev rules.
_VIRTUAL = "/sys/devices/virtual/block/"
#: Seconds for which the answer "the system is not stopping" is cached.
_STOPPING_BELIEVED = 1.0
#: Seconds between two queries whether the boot is over.
_ASK_AGAIN = 5.0


def _disk(ctx: Context, sysname: str, action: str) -> Iterator[Item]:
    """Handle a data disk or a configuration drive."""
    from agent.disks import needed

    yield from needed.handle(ctx, sysname, action)
    if action != "remove" and _may_be_drive(ctx.host, sysname):
        from agent.daemon import configdrive
        from agent.disks import handler

        if not handler.is_known(ctx, sysname):
            yield from configdrive.handle(ctx, sysname)


def _may_be_drive(host: Host, disk: str) -> bool:
    """Return whether the disk has a filesystem of ``_DRIVES``, or udev has not examined it yet.

    Most disks have none: the modules that read drives are not imported for them.
    """
    records = [database.block(host, name) for name in storage.with_partitions(host, disk)]
    return any("USEC_INITIALIZED" not in record or record.get("ID_FS_TYPE") in _DRIVES for record in records)


def _stray(ctx: Context, _sysname: str, _action: str) -> Iterator[Item]:
    from agent.daemon import configdrive

    return configdrive.strays(ctx)


def _cpus(ctx: Context, _sysname: str, _action: str) -> Iterator[Item]:
    from agent.hotplug import cpu
    from agent.network import virtio_queues

    yield from cpu.handle(ctx)
    yield from virtio_queues.reconcile(ctx)


def _memory(ctx: Context, _sysname: str, _action: str) -> Iterator[Item]:
    from agent.hotplug import memory

    return memory.handle(ctx)


def _nics(ctx: Context, _sysname: str, _action: str) -> Iterator[Item]:
    from agent.hotplug import nic

    return nic.handle(ctx, lambda: stages.rerun_step(ctx, "network"))


def _disks(ctx: Context) -> set[str]:
    from agent.disks.base.record import Records

    return Records(ctx.host).disks()


def _restored(ctx: Context, _sysname: str, action: str) -> Iterator[Item]:
    from agent.restored import handler

    return handler.handle(ctx, action)


#: Role -> function that handles a device of that role, called with its name and the action; it imports what
#: it needs.
HANDLERS: dict[str, Handle] = {
    "disk": _disk,
    "drive": _stray,
    "cpu": _cpus,
    "memory": _memory,
    "nic": _nics,
    RESTORED: _restored,
}
#: Roles with devices that are examined all at once, so that hundreds of events are one job.
HANDLED_AS_ONE = frozenset({"cpu", "memory", "nic", RESTORED})


def merge(waiting: list[str], action: str) -> list[str]:
    """Return the actions that wait for a device, with ``action`` merged in.

    ``add`` and ``remove`` are kept in order; ``change`` is dropped if another action waits or follows, since
    its handler sees the change.
    """
    last = waiting[-1] if waiting else ""
    if action == last or (action not in ("add", "remove") and last):
        return waiting
    kept = waiting[:-1] if last and last not in ("add", "remove") else waiting
    return [*kept, action]


def target(event: Uevent) -> tuple[str, str]:
    """Return the device to handle for an event, and the action.

    For a partition: its whole disk, "change". For a CPU, a memory block or a NIC: its role, "change".
    """
    if event.role in HANDLED_AS_ONE:
        return event.role, "change"
    if event.devtype == "partition":
        return event.devpath.rsplit("/", 2)[-2], "change"
    return event.sysname, event.action if event.action in ("add", "remove") else "change"


@dataclass(slots=True)
class Devices:
    """Runs handlers for events in worker threads, the events of each device in order."""

    ctx: Context
    workers: Workers = field(init=False)
    activity: Activity = field(init=False)
    handlers: dict[str, Handle] = field(default_factory=lambda: HANDLERS)
    #: Called with device, role, action and outcome, in a worker's thread.
    reported: Callable[[str, str, str, StepReport], None] = lambda *_: None
    _waiting: dict[str, list[str]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _mounting: bool = False
    _closed: bool = False
    _query_lock: threading.Lock = field(default_factory=threading.Lock)
    _not_stopping_until: float = 0.0
    _ask_again: float = 0.0

    def __post_init__(self) -> None:
        self.workers = Workers(AT_ONCE, Journal(self.ctx.host).defect)
        self.activity = Activity(self.ctx)

    def queue(self, events: Iterable[Uevent]) -> None:
        """Queue the events that have a handler; those of disks only if ``mounting``."""
        for event in events:
            if event.role in self.handlers and (event.role != "disk" or self.mounting()):
                self._queue(event.role, *target(event))
                if event.is_resized and event.sysname.startswith("sd"):
                    self._rescan_controller(event.sysname)

    def queue_all(self, present: list[Uevent]) -> None:
        """Queue all present devices, and a removal for each known device that has gone without an event."""
        self.queue(present)
        names = {event.sysname for event in present} | HANDLED_AS_ONE
        known = self.ctx.status.read()["devices"]
        roles = {name: str(entry.get("role", "")) for name, entry in known.items()}
        for name, role in (roles | dict.fromkeys(_disks(self.ctx), "disk")).items():
            if name not in names and role in self.handlers:
                self._queue(role, name, "remove")

    def mounting(self) -> bool:
        """Return whether disks may be changed: the mount stage has begun, or the boot ended without it."""
        if not self._mounting:
            self._mounting = self.ctx.host.exists(stages.MOUNTING) or self._installed_later()
        return self._mounting

    def queue_drives(self) -> None:
        """Queue the present configuration drives: one may have come before events were handled."""
        from agent.daemon import configdrive

        def look() -> None:
            for disk in configdrive.present(self.ctx):
                self._queue("disk", disk, "change")

        self.workers.submit("configuration drives", look)

    def has_unfinished(self) -> bool:
        """Return whether udev has yet to examine a disk or an optical drive for the first time, or a NIC has
        come since the network was configured.
        """
        from agent.hotplug import nic

        host = self.ctx.host
        return nic.has_changes(self.ctx) or any(
            "USEC_INITIALIZED" not in database.block(host, name)
            for name in storage.names(host)
            if not storage.devpath(host, name).startswith(_VIRTUAL)
        )

    def queue_restored(self, action: str) -> None:
        """Handle that the machine was restored or resumed; ``action`` is the request."""
        self._queue(RESTORED, RESTORED, action)

    def close(self) -> None:
        """Drop all waiting and later events: the daemon or the system is stopping."""
        self._closed = True
        self.workers.close()

    def _installed_later(self) -> bool:
        """Return whether the agent was installed on a booted machine, so that no stage will begin."""
        if time.monotonic() < self._ask_again or self.ctx.status.read()["stages"]:
            return False
        self._ask_again = time.monotonic() + _ASK_AGAIN
        booted = units.system_state(self.ctx.host) in ("running", "degraded")
        if booted:
            record(self.ctx, lambda: self.ctx.host.write(stages.MOUNTING, b""))
        return booted

    def _rescan_controller(self, disk: str) -> None:
        """Rescan the disk's SCSI controller: of several disks enlarged at once it may report only some."""
        from agent.disks import scsi_rescan

        host = self.ctx.host
        if controller := scsi_rescan.controller(host, disk):
            key = f"SCSI controller {controller}"
            self.workers.submit(key, lambda: scsi_rescan.rescan(host, controller), once=True)

    def _queue(self, role: str, device: str, action: str) -> None:
        with self._lock:
            before = self._waiting.get(device, [])
            after = self._waiting[device] = merge(before, action)
        if len(after) > len(before):
            self.workers.submit(device, lambda: self._handle(role, device))

    def _handle(self, role: str, device: str) -> None:
        with self._lock:
            action, *later = self._waiting[device]
            self._waiting[device] = later
            if not later:
                del self._waiting[device]
        if self.ctx.host.debug:
            self.ctx.host.debug(f"event: {role} {device}: {action}, then {later or 'nothing'}")
        if not self._is_stopping(action):
            self._do(role, device, action, lambda ctx: self.handlers[role](ctx, device, action))

    def _do(self, role: str, device: str, action: str, work: Callable[[Context], Iterable[Item]]) -> None:
        """Do the work, show it as work in progress, and record its outcome."""
        self.activity.begin(device, action)
        ctx = replace(self.ctx, on_wait=lambda why: self.activity.set_waiting(device, why))
        before = ctx.config
        report = attempt(ctx, device, lambda: work(ctx))
        if ctx.config is not before:  # a drive was applied: later stages use its configuration
            self.ctx.config, self.ctx.files, self.ctx.secrets = ctx.config, ctx.files, ctx.secrets
        self.activity.end(device)
        if self._closed:
            return
        record(ctx, lambda: stages.note_settings(ctx))
        Journal(ctx.host).device(device, report)
        record(ctx, lambda: self._record(role, device, action, report))
        self.reported(device, role, action, report)
        if ctx.settings.metrics_file:
            from agent.metrics import file as metrics

            record(ctx, lambda: metrics.event_ended(ctx, role, report))
        status_line(f"{device}: {report.outcome}")

    def _record(self, role: str, device: str, action: str, report: StepReport) -> None:
        """Record the last outcome of a device for ``status``; delete it and its partitions' if removed.

        Without items there was nothing new to do, as with a drive that was applied before: what failed then
        stays shown.
        """
        gone = action == "remove" and report.outcome is not Outcome.FAILED
        if not gone and not report.items:
            last = self.ctx.status.read()["devices"].get(device, {})
            if last.get("outcome") == Outcome.FAILED:
                return
        self.ctx.status.merge("devices", device, None if gone else _entry(role, action, report))
        if gone:
            between = "p" if number(device[-1:]) is not None else ""  # nvme0n1p1, vda1
            for name in self.ctx.status.read()["devices"]:
                if re.fullmatch(rf"{re.escape(device)}{between}[0-9]+", name):
                    self.ctx.status.merge("devices", name, None)

    def _is_stopping(self, action: str) -> bool:
        """Return whether the system is stopping: mounts then end by themselves, which is
        neither handled nor recorded.

        For ``add`` PID 1 is not queried: a new device must not wait for that.
        """
        if self._closed or action == "add":
            return self._closed
        with self._query_lock:  # serialise the query; waiters share the cached answer
            if time.monotonic() >= self._not_stopping_until:
                if units.system_state(self.ctx.host) == "stopping":
                    return True
                self._not_stopping_until = time.monotonic() + _STOPPING_BELIEVED
        return False


def _entry(role: str, action: str, report: StepReport) -> dict[str, object]:
    return {
        "role": role,
        "action": action,
        "outcome": report.outcome,
        "ended": int(time.time()),
        "seconds": round(report.seconds, 3),
        "items": items(report.items),
    }
