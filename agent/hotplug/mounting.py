"""Makes one filesystem usable, or cleans up after one that has gone: check, folder, mount unit, owner,
record.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading

from agent import mounts
from agent.errors import HostError
from agent.hotplug import filesystem
from agent.hotplug.policy import identity
from agent.hotplug.record import Record, Records
from agent.hotplug.system import unit_name
from agent.plain import dataclass, field
from agent.report import Item, changed, failed, skipped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context
    from agent.hotplug.facts import MountAt
    from agent.hotplug.system import System
    from agent.storage import Device, Disk


@dataclass(slots=True)
class _Checked:
    """Attachments whose check has been run: its close() makes udev send another event, which must not
    run it again.
    """

    seen: set[tuple[str, str]] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def first(self, name: str, sequence: str) -> bool:
        with self.lock:
            is_new = (name, sequence) not in self.seen
            self.seen.add((name, sequence))
            return is_new


_checked = _Checked()


def mount(ctx: Context, system: System, disk: Disk, device: Device, decision: MountAt) -> Iterator[Item]:
    """Mount the device and record it. Raises HostError when the check or the mount failed."""
    host, at = ctx.host, decision.at
    if _is_locked(ctx, disk):
        yield skipped(device.name, "locked by a program that works on it; looked at again when it ends")
        return
    if problem := _check(ctx, system, disk, device):
        yield failed(device.name, problem, f"run: fsck.{device.fstype} {device.node}")
        return
    yield from _remember(ctx, disk, device, at)
    made = host.mkdir(at)
    try:
        system.mount(host, device.node, at, device.fstype, decision.options)
        if not host.dry_run and not is_mounted(ctx, device.number, at):
            raise HostError(f"{device.node}: not mounted at {at}", hint=f"see: systemctl status {at}")
    except HostError:
        if made:
            host.remove(at)
        if _is_claimed(ctx, device):
            yield skipped(device.name, "in exclusive use by another program")
            return
        raise
    label = os.fsdecode(device.label)
    record = Record(disk.name, disk.sequence, device.uuid, label, device.number, at, made)
    Records(host).put(device.name, record)
    yield changed(device.name, f"mounted at {at}" + (f", {decision.warning}" if decision.warning else ""))
    if problem := _own(ctx, at):
        yield failed(device.name, problem, "check CONFIG_MOUNT_OWNER")


def adopt(ctx: Context, disk: Disk, device: Device, at: str) -> None:
    """Record a mount of ours of which the record was lost: the daemon died between mounting and writing
    it.
    """
    label = os.fsdecode(device.label)
    Records(ctx.host).put(
        device.name, Record(disk.name, disk.sequence, device.uuid, label, device.number, at)
    )


def forget(ctx: Context, system: System, name: str, record: Record) -> Iterator[Item]:
    """Clean up after a device that has gone: its mount (PID 1 is ending it), our folder, the record."""
    if is_mounted(ctx, record.number, record.at):
        try:
            system.unmount(ctx.host, record.at)
        except HostError:
            # PID 1 was faster, and its unit has gone with the mount.
            if is_mounted(ctx, record.number, record.at):
                raise
        if is_mounted(ctx, record.number, record.at):
            raise HostError(
                f"{record.at}: still mounted from {name}, which has gone", hint=f"run: umount -l {record.at}"
            )
    if record.made:
        ctx.host.remove(record.at)
    Records(ctx.host).put(name, None)
    yield changed(name, f"gone, was mounted at {record.at}")


def is_mounted(ctx: Context, number: str, at: str) -> bool:
    """Whether the device is mounted at that place."""
    return any(number in mount.numbers and mount.at == at for mount in mounts.mounts(ctx.host))


def _is_locked(ctx: Context, disk: Disk) -> bool:
    """Whether somebody holds the whole disk's lock for writing (systemd's BLOCK_DEVICE_LOCKING)."""
    with ctx.host.opened(disk.device.node, os.O_RDONLY | os.O_NONBLOCK) as descriptor:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _is_claimed(ctx: Context, device: Device) -> bool:
    """Whether somebody has opened the device O_EXCL, as ZFS, DRBD and a hypervisor do. Asked only after
    the kernel has refused a mount: the question itself claims the device for a moment.
    """
    try:
        os.close(os.open(ctx.host.path(device.node), os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        return error.errno == errno.EBUSY
    return False


def _check(ctx: Context, system: System, disk: Disk, device: Device) -> str:
    """Run the check that the superblock asks for, once for each attachment; what is wrong afterwards, or
    "".
    """
    if device.fstype not in filesystem.EXT or device.readonly:
        return ""
    why = filesystem.wants_check(filesystem.superblock(ctx.host, device.node))
    if why and _checked.first(device.name, disk.sequence):
        ctx.waiting(f"the check of {device.name}: {why}")
        argv = (f"fsck.{device.fstype}", "-p", device.node)
        with contextlib.suppress(HostError):
            # Exit status 1 means repaired: the superblock tells whether it was.
            system.write(ctx.host, unit_name("fsck", device.name), disk.device.node, argv)
        why = filesystem.wants_check(filesystem.superblock(ctx.host, device.node))
    return f"its filesystem needs a check by hand: {why}" if why and not ctx.host.dry_run else ""


def _remember(ctx: Context, disk: Disk, device: Device, at: str) -> Iterator[Item]:
    """Make the mountpoint the filesystem's own for good. That it cannot be stored (the disk is full) is a
    failure, and no reason not to mount.
    """
    if not device.uuid:
        return
    try:
        ctx.state.remember_disk(device.uuid, at=at, on=identity(disk, device) or None)
    except HostError as error:
        yield failed(device.name, f"its mountpoint is not remembered: {error.message}", error.hint)


def _own(ctx: Context, at: str) -> str:
    """Give the mountpoint the owner and mode of CONFIG_MOUNT_OWNER; what went wrong, or ""."""
    if not ctx.settings.mount_owner:
        return ""
    user, group, mode = ctx.settings.mount_owner.split(":")
    try:
        ctx.host.run(("chown", "--", f"{user}:{group}", at))
        ctx.host.run(("chmod", "--", mode, at))
    except HostError as error:
        return error.message
    return ""
