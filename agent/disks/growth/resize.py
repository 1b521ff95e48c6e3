"""Grow a mounted filesystem to the size of its disk: partition table, partition, filesystem.

Each step starts from what it finds, as it may have been done already: so growing continues after a power
failure or a killed daemon. The new size shows success, never an exit status. stacked.py handles devices of
the device mapper.
"""

from __future__ import annotations

from agent.block import mounts
from agent.disks.base import filesystem, partition_table
from agent.disks.base.facts import Leave
from agent.disks.base.record import Records
from agent.disks.base.system import environment, unit_name
from agent.disks.growth import sizing
from agent.lib.errors import HostError
from agent.lib.records import replace
from agent.lib.text import gib
from agent.report import Item, changed, failed, skipped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.block.storage import Device, Disk
    from agent.context import Context
    from agent.disks.base.system import System

_QUIET = (sizing.NOT_GROWN, sizing.FULL)


def grow(
    ctx: Context, system: System, disk: Disk, device: Device, mountpoint: str, *, root: bool = False
) -> Iterator[Item]:
    """Grow the mounted filesystem of ``device`` if the disk has grown. Yield nothing if it has not. Raise
    HostError if growing fails; it is not tried again for this attachment and size.
    """
    if device.fstype not in filesystem.GROWERS:
        return
    spans = filesystem.size(ctx.host, device.fstype, device.node, mountpoint)
    case = _case(ctx, disk, device, spans, root=root)
    decision = sizing.decide(case)
    if isinstance(decision, Leave):
        if decision in _QUIET:
            settle(ctx, device, disk.device.size)
        else:
            yield skipped(device.name, f"not grown: {decision.reason}")
        return
    if device.fstype == "btrfs" and len(mounts.btrfs_members(ctx.host, device.name)) > 1:
        yield skipped(device.name, "not grown: a btrfs of several devices (run: btrfs filesystem resize)")
        return
    if given_up(ctx, case):
        yield already_failed(case)
        return
    ctx.on_wait(f"{device.name} to grow")
    yield _do(ctx, system, case, decision, mountpoint)
    if decision.warning:
        yield failed(device.name, decision.warning)
    if not root:
        yield from run_hook(ctx, device, mountpoint)


def run_hook(ctx: Context, device: Device, mountpoint: str) -> Iterator[Item]:
    """Run the hook of a data disk that has grown."""
    from agent.programs import hooks

    given = environment(device.node, "change", device.udev)
    yield from hooks.run(ctx, "post-disk-grow", device.node, mountpoint, environment=given)


def wants_to_grow(ctx: Context, disk: Disk, device: Device) -> bool:
    """Return whether a filesystem that is not mounted yet would grow, as far as its superblock shows: autofs
    mounts a disk when its folder is accessed, and the agent accesses those of enlarged disks, and no others.
    Raise HostError if the disk cannot be read.
    """
    if device.fstype not in filesystem.GROWERS:
        return False
    spans = filesystem.unmounted_size(ctx.host, device.fstype, device.node)
    return isinstance(sizing.decide(_case(ctx, disk, device, spans)), sizing.Grow)


def _do(ctx: Context, system: System, case: sizing.Case, decision: sizing.Grow, mountpoint: str) -> Item:
    host, disk, device = ctx.host, case.disk, case.device
    if case.table and case.table.covered and not case.settled:
        # Writing the table removes the evidence that the disk has grown; a power failure must not lose it.
        settle(ctx, device, case.table.covered)
    try:
        if decision.partition and case.table:
            partition_table.extend(host, system, case.table, disk, device)
        argv = filesystem.grower(device.fstype, device.node, mountpoint)
        system.write(host, unit_name("grow", device.name), disk.device.node, argv)
        if host.dry_run:
            return changed(device.name, "would grow")
        spans = filesystem.size(host, device.fstype, device.node, mountpoint)
        if spans <= case.spans:
            raise HostError(f"{mountpoint}: still {gib(spans)} after {argv[0]}", hint=hint(device))
    except HostError:
        give_up(ctx, case)
        raise
    settle(ctx, device, disk.device.size)
    return changed(device.name, f"grown from {gib(case.spans)} to {gib(spans)}")


def _case(ctx: Context, disk: Disk, device: Device, spans: int, *, root: bool = False) -> sizing.Case:
    return sizing.Case(
        disk,
        device,
        spans,
        int(ctx.state.disks().get(device.uuid, {}).get("size", 0)) if device.uuid else 0,
        partition_table.read(ctx.host, disk) if device.partition else None,
        root,
    )


def settle(ctx: Context, device: Device, size: int) -> None:
    """Store the disk's size, in bytes, up to which everything on the device has grown."""
    if device.uuid:
        ctx.state.remember_disk(device.uuid, size=size)


def given_up(ctx: Context, case: sizing.Case) -> bool:
    """Return whether growing to this size has failed in this attachment. The writer's close() makes udev
    send another event, which would try again without end.
    """
    return Records(ctx.host).current(case.disk, case.device).not_grown == case.disk.device.size


def give_up(ctx: Context, case: sizing.Case) -> None:
    """Store that growing to this size has failed in this attachment."""
    records = Records(ctx.host)
    known = records.current(case.disk, case.device)
    records.put(case.device.name, replace(known, not_grown=case.disk.device.size))


def already_failed(case: sizing.Case) -> Item:
    """Return the item for a growth that has failed before."""
    again = f"to try again: udevadm trigger --action=add {case.disk.device.node}"
    return failed(
        case.device.name, "growing failed and is not tried again by itself", f"{hint(case.device)}; {again}"
    )


def hint(device: Device) -> str:
    """Return the command that shows the output of the device's writer."""
    return f"see: journalctl -b -u {unit_name('grow', device.name)}.service"
