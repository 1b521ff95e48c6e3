"""Grow LVM and LUKS on a disk that has grown: partition, encrypted device, physical volume, logical volume,
filesystem.

The administrator mounts that filesystem, usually through fstab; the agent never does. Each step starts from
what it finds, as it may have been done already, and the disk's new size is stored only after the last one.
Reserved space is never used: nothing grows unless the disk itself has grown since its size was stored.
"""

from __future__ import annotations

from functools import partial

from agent.block import mounts, storage
from agent.disks.base import filesystem, partition_table
from agent.disks.base.facts import Leave
from agent.disks.base.system import unit_name
from agent.disks.growth import luks, lvm, resize, sizing
from agent.host.sysfs import devnode
from agent.lib.errors import HostError
from agent.lib.records import asdict, dataclass
from agent.lib.text import gib
from agent.report import changed, failed, skipped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.block.storage import Device, Disk
    from agent.context import Context
    from agent.disks.base.system import System
    from agent.disks.growth.lvm import Write
    from agent.report import Item

LUKS, PV = "crypto_LUKS", "LVM2_member"


@dataclass(frozen=True, slots=True)
class Done:
    """The result of growing: a text for the report, "" if there was nothing to grow; ``mountpoint``: that
    of the filesystem that has grown, or "".
    """

    what: str
    mountpoint: str = ""


def grow(ctx: Context, system: System, disk: Disk, device: Device, *, root: bool = False) -> Iterator[Item]:
    """Grow what is on ``device``, an encrypted device or a physical volume, by what the disk has gained.
    Yield nothing if the disk has not grown. ``root``: it is the root disk, see sizing.Case. Raise
    HostError if growing fails.
    """
    known = ctx.state.disks().get(device.uuid, {})
    table = partition_table.read(ctx.host, disk) if device.partition else None
    case = sizing.Case(disk, device, 0, int(known.get("size", 0)), table, root)
    decision = sizing.decide_stacked(case)
    if decision is sizing.NOT_GROWN:
        resize.settle(ctx, device, disk.device.size)
    elif isinstance(decision, Leave):
        yield skipped(device.name, f"not grown: {decision.reason}")
    elif resize.given_up(ctx, case):
        yield resize.already_failed(case)
    else:
        yield from _do(ctx, system, case, decision)


def _do(ctx: Context, system: System, case: sizing.Case, decision: sizing.Grow) -> Iterator[Item]:
    disk, device = case.disk, case.device
    ctx.on_wait(f"{device.name} to grow")
    try:
        done = _chain(ctx, system, case, decision)
    except HostError as error:
        resize.give_up(ctx, case)
        raise HostError(error.message, hint=error.hint or resize.hint(device)) from error
    if isinstance(done, Leave):
        yield skipped(device.name, f"not grown: {done.reason}")
        return
    if device.uuid:
        ctx.state.remember_disk(device.uuid, size=disk.device.size, lvm=None)
    if done.what:
        yield changed(device.name, done.what)
    if decision.warning:
        yield failed(device.name, decision.warning)
    if done.mountpoint and not case.root:
        yield from resize.run_hook(ctx, device, done.mountpoint)


def _chain(ctx: Context, system: System, case: sizing.Case, decision: sizing.Grow) -> Done | Leave:
    host, disk, device = ctx.host, case.disk, case.device
    if not device.holders:
        return Leave("nothing on it is in use: looked at again when it changes (udevadm trigger)")
    if case.table and case.table.covered and not case.settled:
        # Writing the table removes the evidence that the disk has grown; a power failure must not lose it.
        resize.settle(ctx, device, case.table.covered)
    if decision.partition and case.table:
        partition_table.extend(host, system, case.table, disk, device)
    if host.dry_run:
        return Done("would grow")
    write = partial(system.write, host, unit_name("grow", device.name), disk.device.node)
    name, node, fstype = device.name, device.node, device.fstype
    if fstype == LUKS:
        opened = luks.resize(host, write, device)
        if isinstance(opened, Leave):
            return opened
        name, node = opened[0], f"/dev/mapper/{opened[1]}"
        fstype = storage.probe(host, devnode(name)).get("ID_FS_TYPE", "")
        if fstype != PV:
            return _filesystem(ctx, write, name, fstype)
    return _volume(ctx, write, node, device.uuid)


def _volume(ctx: Context, write: Write, node: str, uuid: str) -> Done | Leave:
    """Grow the physical volume, its group's one logical volume, and the filesystem on that."""
    host = ctx.host
    pv = lvm.read(host, node)
    before = lvm.before(pv, ctx.state.disks().get(uuid, {}).get("lvm"))
    volume = pv.volumes[0] if before.volume and len(pv.volumes) == 1 else None
    name = storage.name_of(host, volume.number) if volume else ""
    fstype = storage.probe(host, devnode(name)).get("ID_FS_TYPE", "") if name else ""
    mountpoint = _mounted_at(ctx, volume.number) if volume else ""
    if volume and not (mountpoint and filesystem.grower(fstype, devnode(name), mountpoint)):
        return Leave(f"{pv.group}/{volume.name} is not mounted with a filesystem that grows")
    reserved = (
        volume and before.size - filesystem.size(host, fstype, devnode(name), mountpoint) >= filesystem.SLACK
    )
    ctx.state.remember_disk(uuid, lvm=asdict(before))
    after = lvm.resize(host, write, node, pv)
    due = "its filesystem is smaller than its volume: both stay" if reserved else lvm.due(after, before)
    if isinstance(due, str):
        gained = (after.extents - before.extents) * after.extent
        return Done(f"physical volume of {after.group} grown by {gib(gained)}; {due}" if gained else "")
    lvm.extend(host, write, node, after, due)
    return _filesystem(ctx, write, name, fstype)


def _filesystem(ctx: Context, write: Write, name: str, fstype: str) -> Done | Leave:
    """Grow the mounted filesystem on a device of the device mapper."""
    host, node = ctx.host, devnode(name)
    mountpoint = _mounted_at(ctx, storage.devno_of(host, name))
    argv = filesystem.grower(fstype, node, mountpoint) if mountpoint else ()
    if not argv:
        return Leave(f"what is on it ({fstype or 'nothing known'}) is not mounted, or does not grow")
    before, size = filesystem.size(host, fstype, node, mountpoint), storage.current_size(host, name)
    if size - before < filesystem.SLACK:
        return Done("")
    write(argv)
    spans = filesystem.size(host, fstype, node, mountpoint)
    if spans <= before:
        raise HostError(f"{mountpoint}: still {gib(spans)} after {argv[0]}")
    return Done(f"{mountpoint} grown from {gib(before)} to {gib(spans)}", mountpoint)


def _mounted_at(ctx: Context, number: str) -> str:
    return next((mount.mountpoint for mount in mounts.mounts(ctx.host) if number in mount.devnos), "")
