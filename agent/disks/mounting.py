"""Mount a filesystem (check, folder, mount unit, owner, record); clean up after a device that has gone."""

from __future__ import annotations

import contextlib
import fcntl
import os

from agent.block import mounts, storage
from agent.disks.base import filesystem
from agent.disks.base.record import DiskState, Records, renewed
from agent.disks.base.system import environment, mounts_at, unit_name
from agent.disks.policy import FAT, identity
from agent.host.sysfs import devnode
from agent.lib.errors import HostError
from agent.lib.records import replace
from agent.report import Item, changed, failed, skipped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence

    from agent.block.storage import Device, Disk
    from agent.context import Context
    from agent.disks.base.facts import MountAt
    from agent.disks.base.record import Record
    from agent.disks.base.system import System


def mount(
    ctx: Context,
    system: System,
    disk: Disk,
    device: Device,
    decision: MountAt,
    claim: Record,
    *,
    grown: bool = False,
) -> Iterator[Item]:
    """Mount the device and record it. ``claim``: its present record, in the state "mounting"; ``grown``: its
    filesystem fills the disk. Raise HostError if the superblock cannot be read or the mount fails.
    """
    host, mountpoint = ctx.host, decision.mountpoint
    if _is_locked(ctx, disk):
        yield skipped(device.name, "locked by a program that works on it; looked at again when it ends")
        return
    if problem := _check(ctx, system, disk, device, claim):
        yield failed(device.name, problem, f"run: fsck.{device.fstype} {device.node}")
        return
    yield from _remember(ctx, disk, device, claim, grown=grown)
    made = False
    try:
        made = host.mkdir(mountpoint) or claim.made
        system.mount(host, device.node, mountpoint, device.fstype, decision.options)
        if not host.dry_run and not is_mounted(ctx, device.devno, mountpoint):
            raise HostError(
                f"{device.node}: not mounted at {mountpoint}", hint=f"see: systemctl status {mountpoint}"
            )
    except HostError:
        if made:
            # A mount that was given up may still come: the first error is the reason.
            with contextlib.suppress(HostError):
                host.remove(mountpoint)
        if storage.is_claimed(host, device.node):
            yield skipped(device.name, "in exclusive use by another program")
            return
        raise
    _record(ctx, disk, device, mountpoint, made=made)
    yield changed(
        device.name, f"mounted at {mountpoint}" + (f", {decision.warning}" if decision.warning else "")
    )
    if problem := _own(ctx, device, mountpoint):
        yield failed(device.name, problem, "check CONFIG_MOUNT_OWNER")
    from agent.programs import hooks

    attached = environment(device.node, "add", device.udev)
    yield from hooks.run(
        ctx, "post-disk-attach", device.node, device.fstype, mountpoint, environment=attached
    )


def record_existing_mount(ctx: Context, disk: Disk, device: Device, mountpoint: str) -> None:
    """Record a mount of the agent without a record: the daemon died between mounting and writing it."""
    _record(ctx, disk, device, mountpoint, made=_was_made(ctx, device.uuid))


def clean_up(
    ctx: Context, system: System, name: str, record: Record, places: Sequence[str]
) -> Iterator[Item]:
    """Clean up after a device that has gone: its dead mounts (PID 1 ends some too), the folder that the
    agent made for it, the record. ``places`` are the mountpoints of the dead mounts; hooks get the first, or
    the agent's former one. Raise HostError if one stays.
    """
    from agent.disks.usage import dead_mounts, holders
    from agent.programs import hooks

    node, at = devnode(name), places[0] if places else record.mountpoint
    gone = environment(node, "remove")
    yield from hooks.run(ctx, "pre-disk-detach", node, at, environment=gone)
    if places:
        dead_mounts.end(ctx.host, system, name, record.devno, places)
    if record.made and not mounts_at(ctx.host, record.mountpoint):
        ctx.host.remove(record.mountpoint)
        if _was_made(ctx, record.uuid):
            ctx.state.remember_disk(record.uuid, made=None)
    Records(ctx.host).put(name, None)
    was = f"gone, was mounted at {holders.summary(places)}" if places else _described(record)
    yield changed(name, was)
    yield from hooks.run(ctx, "post-disk-detach", node, at, environment=gone)


def tidy(ctx: Context, present: Container[str]) -> Iterator[Item]:
    """Remove the empty folders that were made for filesystems which are no longer there. ``present``: the
    UUIDs of those that are.
    """
    used = {mount.mountpoint for mount in mounts.mounts(ctx.host)}
    for uuid, known in ctx.state.disks().items():
        mountpoint = known.get("at", "")
        if mountpoint and known.get("made") and uuid not in present and mountpoint not in used:
            try:
                if ctx.host.remove(mountpoint):
                    yield changed(mountpoint, "removed: its disk has gone")
                if not ctx.host.dry_run:
                    ctx.state.remember_disk(uuid, made=None)
            except HostError as error:
                yield skipped(mountpoint, f"not removed, though its disk has gone: {error.message}")


def is_mounted(ctx: Context, devno: str, mountpoint: str) -> bool:
    """Return whether the device is mounted at this mountpoint."""
    return _mounted(ctx, devno, mountpoint) is not None


def as_mounted(ctx: Context, device: Device, mountpoint: str) -> Device | None:
    """Return the device if it is mounted at this mountpoint, or None. If udev has no filesystem type, as of
    a disk with read errors, it is taken from the kernel.
    """
    mount = _mounted(ctx, device.devno, mountpoint)
    if mount is None or device.fstype:
        return device if mount else None
    return replace(device, udev={**device.udev, "ID_FS_TYPE": mount.fstype})


def _mounted(ctx: Context, devno: str, mountpoint: str) -> mounts.Mount | None:
    found = (m for m in mounts.mounts(ctx.host) if m.mountpoint == mountpoint)
    return next((mount for mount in found if devno in mount.devnos), None)


def _described(record: Record) -> str:
    """Return what there was of a device that was mounted nowhere when it went."""
    match record.state:
        case DiskState.OFFERED:
            return f"gone, was offered at {record.mountpoint}"
        case DiskState.MOUNTING:
            return f"gone before it was mounted at {record.mountpoint}"
    return f"gone; its mount at {record.mountpoint} had ended"


def _is_locked(ctx: Context, disk: Disk) -> bool:
    """Return whether a program has the whole disk's lock exclusively (systemd's BLOCK_DEVICE_LOCKING)."""
    with ctx.host.opened(disk.device.node, os.O_RDONLY | os.O_NONBLOCK) as descriptor:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _check(ctx: Context, system: System, disk: Disk, device: Device, claim: Record) -> str:
    """Run the check that the superblock requires, once for each attachment. Return what is wrong afterwards,
    or "". Raise HostError if there is no superblock.
    """
    if device.fstype not in filesystem.EXT or device.readonly:
        return ""
    why = filesystem.wants_check(filesystem.superblock(ctx.host, device.node))
    if why and (not disk.diskseq or not claim.checked):
        argv = (f"fsck.{device.fstype}", "-p", device.node)
        with ctx.waiting(f"the check of {device.name}: {why}"), contextlib.suppress(HostError):
            # Exit status 1 means repaired: the superblock shows whether it was.
            system.write(ctx.host, unit_name("fsck", device.name), disk.device.node, argv)
        # The check's close() makes udev send another event, which must not run it again.
        Records(ctx.host).put(device.name, replace(claim, checked=True))
        why = filesystem.wants_check(filesystem.superblock(ctx.host, device.node))
    return f"its filesystem needs a check by hand: {why}" if why and not ctx.host.dry_run else ""


def _remember(ctx: Context, disk: Disk, device: Device, claim: Record, *, grown: bool) -> Iterator[Item]:
    """Store the mountpoint as the filesystem's own, and whether the agent makes its folder. This comes
    before the folder is made: otherwise, after a crash of the daemon or the machine, it would never be
    removed. If it cannot be stored (the disk is full), that is a failure, but the mount goes on.
    """
    if not device.uuid:
        return
    size = {"size": disk.device.size} if grown else {}
    try:
        ctx.state.remember_disk(
            device.uuid,
            at=claim.mountpoint,
            on=identity(disk, device) or None,
            made=claim.made or None,
            **size,
        )
    except HostError as error:
        yield failed(device.name, f"its mountpoint could not be stored: {error.message}", error.hint)


def _was_made(ctx: Context, uuid: str) -> bool:
    """Return whether the agent made the folder of the filesystem's mountpoint."""
    return bool(ctx.state.disks().get(uuid, {}).get("made"))


def _record(ctx: Context, disk: Disk, device: Device, mountpoint: str, *, made: bool) -> None:
    """Record the mount, then add the services in the disk's own file: reading that may take long."""
    from agent.disks.usage import holders, services_file

    records, alias = Records(ctx.host), holders.alias(ctx.host, mountpoint, device.fstype)
    known = renewed(records.current(disk, device), disk, device)
    record = replace(known, state=DiskState.MOUNTED, mountpoint=mountpoint, made=made, alias=alias)
    records.put(device.name, record)
    used_by = () if ctx.host.dry_run else services_file.read(ctx.host, mountpoint)
    if used_by:
        records.put(device.name, replace(record, services=used_by))


def _own(ctx: Context, device: Device, mountpoint: str) -> str:
    """Give the mountpoint the owner and mode of CONFIG_MOUNT_OWNER. Return what went wrong, or "". FAT has
    neither: mount options set them.
    """
    if not ctx.settings.mount_owner or device.fstype in FAT or device.readonly:
        return ""
    user, group, mode = ctx.settings.mount_owner.split(":")
    if not ctx.host.allows(f"chown {user}:{group} {mountpoint}, chmod {mode} {mountpoint}"):
        return ""
    try:
        # By descriptor: a user who may change a folder on the way could put a link there. By chown(1): it
        # finds every user of the system.
        with ctx.host.opened(mountpoint, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW) as folder:
            path = f"/proc/{os.getpid()}/fd/{folder}"
            ctx.host.run(("chown", "--", f"{user}:{group}", path))
            ctx.host.run(("chmod", "--", mode, path))
    except HostError as error:
        return error.message
    return ""
