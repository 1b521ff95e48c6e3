"""Detach a disk, so that the platform can remove it, and take it back.

Either everything is done or nothing: if the disk is in use, what was stopped and unmounted before is
restored, and the users are named. A detached disk stays released until it is added again, the machine boots,
or an administrator asks for it. This works with and without the daemon: the disk's lock excludes the other.
"""

from __future__ import annotations

import os
import time

from agent.block import mounts, storage
from agent.context import record
from agent.disks import handler as handler
from agent.disks.base.automounter import has_automounter
from agent.disks.base.locks import LOCKS
from agent.disks.base.record import DiskState, Records
from agent.disks.base.system import SYSTEMD, environment
from agent.disks.usage import holders, stop_services
from agent.lib.errors import ConfigError, HostError
from agent.lib.records import dataclass, field, replace
from agent.programs import hooks
from agent.report import Item, Outcome, StepReport, changed, failed, items

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agent.block.mounts import Mount
    from agent.block.storage import Device, Disk
    from agent.context import Context
    from agent.disks.base.record import Record
    from agent.disks.base.system import System
    from agent.host.host import Host

#: Seconds to wait for the lock on the disk.
PATIENCE = 60.0
#: Seconds to write all cached data to the disk.
_SYNC_TIMEOUT = 600.0
_SWAPOFF_TIMEOUT = 600.0


def find(ctx: Context, system: System, what: str) -> Disk:
    """Return the disk for an administrator's argument: a kernel name or device path (its own or a
    partition's), mountpoint, label or serial number. Raise ConfigError if there is none, or more than one.
    """
    host = ctx.host
    disks: list[Disk] = []
    unread: list[str] = []
    for name in system.names(host):
        try:
            disk = system.read(host, name)
        except HostError as error:
            unread.append(f"{name}: {error.message}")
        else:
            disks += [disk] if disk else []
    found = _by_place(host, disks, what) or _by_content(disks, what)
    if not found:
        more = f"; could not be read: {holders.summary(unread)}" if unread else ""
        raise ConfigError(
            f"{what}: no such disk, mountpoint, label or serial number{more}", hint="gandi-agent disks"
        )
    if len(found) > 1:
        names = ", ".join(disk.device.node for disk in found)
        raise ConfigError(f"{what}: more than one disk ({names})", hint=f"name one of them: {found[0].name}")
    return found[0]


def detach(ctx: Context, what: str, *, system: System = SYSTEMD) -> Iterator[Item]:
    """Detach the disk. The last item is the result: failed, and nothing has changed; or changed. Raise
    ConfigError as ``find``, Busy, and HostError.
    """
    disk = find(ctx, system, what)
    with LOCKS.disk(ctx.host, disk.name, PATIENCE):
        known = system.read(ctx.host, disk.name)
        if known is None or known.diskseq != disk.diskseq:
            raise HostError(f"{disk.device.node}: has just gone")
        if why := _refused(ctx, known):
            yield failed(disk.name, f"not detached: {why}")
            return
        yield from _noted(ctx, disk.name, "detach", _Detach(ctx, system, known).run())


def take_back(ctx: Context, what: str, *, system: System = SYSTEMD) -> Iterator[Item]:
    """Mount the disk now, even if it was released; the settings and the disk decide whether and where.
    Raise ConfigError as ``find``, and Busy.
    """
    disk = find(ctx, system, what)
    with LOCKS.disk(ctx.host, disk.name, PATIENCE):
        work = handler.handle_locked(ctx, disk.name, system, explicit=True, insist=True)
        yield from _noted(ctx, disk.name, "mount", work)


def _noted(ctx: Context, name: str, action: str, work: Iterable[Item]) -> Iterator[Item]:
    """Yield the items as they come, and record them as the disk's latest outcome. An attempt to detach that
    changed nothing is not recorded.
    """
    done = list[Item]()
    for item in work:
        done.append(item)
        yield item
    if not done or (action == "detach" and done[-1].outcome is Outcome.FAILED):
        return
    report = StepReport(name, tuple(done), 0.0)
    entry = {"role": "disk", "action": action, "outcome": report.outcome, "items": items(done)}
    record(ctx, lambda: ctx.status.merge("devices", name, entry | {"ended": int(time.time())}))


@dataclass(slots=True)
class _Detach:
    """One attempt to detach, with what must be restored if it fails."""

    ctx: Context
    system: System
    disk: Disk
    mounts: list[Mount] = field(init=False)
    swaps: list[Device] = field(init=False)
    records: dict[str, Record] = field(init=False)
    undo: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        host, numbers = self.ctx.host, {device.devno for device in self.disk.devices}
        self.mounts = [mount for mount in mounts.mounts(host) if mount.devnos & numbers]
        swapped = mounts.swaps(host)
        self.swaps = [device for device in self.disk.devices if device.devno in swapped]
        self.records = Records(host).of(self.disk.name)

    def run(self) -> Iterator[Item]:
        ctx, name = self.ctx, self.disk.name
        yield from self._hooks("pre-disk-detach")
        places = [mount.mountpoint for mount in self.mounts]
        services = sorted({unit for known in self.records.values() for unit in known.services})
        stopped = stop_services.stop(ctx.host, services, places)
        yield from (changed(unit, "stopped") for unit in stopped)
        try:
            self._sync()
            if why := holders.summary(self._users().found):
                raise HostError(f"in use: {why}", hint="end them, then try again; nothing has been changed")
            self._release()
        except HostError as error:
            stop_services.start(ctx.host, stopped)
            yield failed(name, f"not detached: {error.message}", error.hint)
            return
        yield from (
            changed(known, f"unmounted from {mountpoint}") for known, mountpoint in self._mounted_devices()
        )
        yield from self._hooks("post-disk-detach")
        yield changed(
            name, "detached: the platform may detach it (to mount it again: gandi-agent mount " + name + ")"
        )

    def _release(self) -> None:
        """Unmount and swap off everything. If a part fails, undo the others and raise HostError."""
        host, records = self.ctx.host, Records(self.ctx.host)
        done: list[Mount | Device] = []
        try:
            for device in self.disk.devices:  # first, so that no process mounts it again after the unmount
                known = self.records.get(device.name) or records.current(self.disk, device)
                records.put(device.name, replace(known, state=DiskState.RELEASED))
            self._offer()
            for device in self.swaps:
                host.run(("swapoff", device.node), timeout=_SWAPOFF_TIMEOUT)
                done.append(device)
            for mount in reversed(self.mounts):
                self.system.release(host, mount.mountpoint)
                done.append(mount)
        except HostError as error:
            self._put_back(done)
            users = self._users()
            why = f"in use: {holders.summary(users.found)}" if users.found else error.message
            if users.missed:
                why += f"; not looked at: {holders.summary(users.missed)}"
            raise HostError(why, hint=error.hint) from error
        for name, known in self.records.items():
            if known.made and host.remove(known.mountpoint):
                records.put(name, replace(known, state=DiskState.RELEASED, made=False))

    def _put_back(self, done: list[Mount | Device]) -> None:
        """Undo what can be undone. Errors of swapon are ignored: the caller reports the first error."""
        host, records = self.ctx.host, Records(self.ctx.host)
        for entry in reversed(done):
            if isinstance(entry, storage.Device):
                host.run(("swapon", entry.node), check=False)
            else:
                self.system.mount(host, entry.source, entry.mountpoint, entry.fstype, entry.options)
        for device in self.disk.devices:
            records.put(device.name, self.records.get(device.name))
        self._offer()

    def _offer(self) -> None:
        """Update the automounter's map: without released devices, with restored ones."""
        if has_automounter(self.ctx):
            from agent.disks import mode_autofs

            mode_autofs.write_map(self.ctx)

    def _users(self) -> holders.Search:
        """Return the users of the disk's mounted filesystems, mounts inside them included."""
        mine = {mount.mountpoint for mount in self.mounts}
        inside = [
            holders.Holder(0, "mount", mount.mountpoint)
            for mount in mounts.mounts(self.ctx.host)
            if mount.mountpoint not in mine and any(mount.mountpoint.startswith(f"{own}/") for own in mine)
        ]
        search = holders.find_by_mountpoint(self.ctx.host, mine)
        return replace(search, found=(*inside, *search.found))

    def _sync(self) -> None:
        for mount in self.mounts:
            try:
                self.ctx.host.run(("sync", "--file-system", mount.mountpoint), timeout=_SYNC_TIMEOUT)
            except HostError as error:
                hint = f"see: journalctl -k; to give up what cannot be written: umount {mount.mountpoint}"
                raise HostError(error.message, hint=hint) from error

    def _hooks(self, name: str) -> Iterator[Item]:
        for device, mountpoint in self._mounted_devices():
            found = next(each for each in self.disk.devices if each.name == device)
            given = environment(found.node, "remove", found.udev)
            yield from hooks.run(self.ctx, name, found.node, mountpoint, environment=given)

    def _mounted_devices(self) -> list[tuple[str, str]]:
        """Return each mounted device with its first mountpoint."""
        places = dict[str, str]()
        for device in self.disk.devices:
            for mount in self.mounts:
                if device.devno in mount.devnos:
                    places.setdefault(device.name, mount.mountpoint)
        return list(places.items())


def _refused(ctx: Context, disk: Disk) -> str:
    """Return why the agent must not detach the disk, or ""."""
    if disk.name in mounts.root_disks(ctx.host):
        return "the system itself is on it"
    pending = LOCKS.pending_mounts(Records(ctx.host).of(disk.name))
    for device in disk.devices:
        if device.devno in pending:
            return f"{device.name} is being mounted now: try again in a moment"
        if device.holders:
            return f"{device.name} is held by {', '.join(device.holders)}: close it there first"
    return ""


def _by_place(host: Host, disks: list[Disk], what: str) -> list[Disk]:
    """Return the disks with this kernel name, device path or mountpoint."""
    names = {what}
    if what.startswith("/"):
        path = os.path.realpath(host.path(what))
        names = {os.path.relpath(path, host.path("/dev")).replace("/", "!")} if "/dev/" in path else set()
        numbers = {number for m in mounts.mounts(host) if m.mountpoint == path for number in m.devnos}
        names |= {storage.name_of(host, number) for number in numbers}
    return [disk for disk in disks if names & {device.name for device in disk.devices}]


def _by_content(disks: list[Disk], what: str) -> list[Disk]:
    """Return the disks with this label or serial number."""
    keys = ("ID_SERIAL", "ID_SERIAL_SHORT", "ID_WWN")
    return [
        disk
        for disk in disks
        if any(device.label == os.fsencode(what) for device in disk.devices)
        or what in [disk.device.udev.get(key) for key in keys]
    ]
