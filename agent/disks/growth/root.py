"""Find the root disk by its mount, or by its partition's name in the platform's images; grow it in place."""

from __future__ import annotations

from agent.block import mounts, storage
from agent.disks.base import partition_table
from agent.disks.base.locks import LOCKS
from agent.disks.base.system import SYSTEMD
from agent.disks.growth import resize
from agent.lib.errors import HostError
from agent.lib.records import dataclass, replace
from agent.report import changed, failed, skipped, unchanged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.block.storage import Device, Disk
    from agent.context import Context
    from agent.disks.base.system import System
    from agent.report import Item

#: The root partition's name in the platform's images.
PARTITION_NAME = "gandiroot"
#: Files that may name a partition by GUID: then the GUIDs of a clone stay.
_NAMERS = ("/proc/cmdline", "/etc/fstab", "/etc/crypttab")


@dataclass(frozen=True, slots=True)
class Root:
    """The root filesystem: its mountpoint, and the disk or partition with it, or with the LVM or LUKS below
    it.
    """

    disk: Disk
    device: Device
    mountpoint: str


def find(ctx: Context, system: System) -> Root | str:
    """Find the root disk. Return it, or why there is none that can grow."""
    config = ctx.config or ctx.state.config()
    if config and config.system and not config.system.grow_root:
        return "not grown: the document says so (growpart, resize_rootfs)"
    found = mounts.mounts(ctx.host)
    top = [mount for mount in found if mount.mountpoint == "/"]
    name = (
        next((n for n in (storage.name_of(ctx.host, m) for m in sorted(top[-1].devnos)) if n), "")
        if top
        else ""
    )
    if name:
        return _by_mount(ctx, system, name, "/")
    for disk in filter(None, (system.read(ctx.host, each) for each in system.names(ctx.host))):
        for part in disk.partitions:
            mountpoint = next((mount.mountpoint for mount in found if part.devno in mount.devnos), "")
            if part.part_name == PARTITION_NAME and mountpoint:
                return Root(disk, _probed(ctx, part), mountpoint)
    return "the root filesystem is on no block device"


def grow_all(ctx: Context, *, system: System = SYSTEMD) -> Iterator[Item]:
    """Step: grow the root filesystem to the size of its disk, after a growth that is under way."""
    found = find(ctx, system)
    if isinstance(found, str):
        yield skipped("root disk", found)
        return
    with LOCKS.disk(ctx.host, found.disk.name):
        # Find it again: a growth that was under way has changed the sizes.
        found = find(ctx, system)
        if isinstance(found, Root):
            yield from apply(ctx, system, found)


def grow_on(ctx: Context, name: str, system: System = SYSTEMD) -> Iterator[Item]:
    """Grow the root filesystem if it is on this disk, which was resized while the machine runs. The caller
    holds the disk's lock.
    """
    found = find(ctx, system)
    if isinstance(found, Root) and found.disk.name == name:
        yield from apply(ctx, system, found)


def apply(ctx: Context, system: System, root: Root) -> Iterator[Item]:
    """Give a cloned disk new GUIDs, then grow the root filesystem. The caller holds the disk's lock."""
    try:
        yield from _renew(ctx, system, root)
    except HostError as error:
        yield failed(root.disk.name, error.message, error.hint)
    if root.device.fstype in storage.STACKED:
        from agent.disks.growth import stacked

        grown = list(stacked.grow(ctx, system, root.disk, root.device, root=True))
    else:
        grown = list(resize.grow(ctx, system, root.disk, root.device, root.mountpoint, root=True))
    yield from grown or [unchanged(root.device.name, "has the size of its disk")]


def _by_mount(ctx: Context, system: System, name: str, mountpoint: str) -> Root | str:
    (bottom, *others) = sorted(storage.underlying_devices(ctx.host, name))
    if others:
        return f"the root filesystem is on {name}, which lies on several devices: it is not grown"
    disk = system.read(ctx.host, storage.whole_disk(ctx.host, bottom))
    for device in disk.devices if disk else ():
        if disk and device.name == bottom:
            found = _probed(ctx, device)
            if bottom != name and found.fstype not in storage.STACKED:
                return f"the root filesystem is on {name}, a device that is not grown"
            return Root(disk, found, mountpoint)
    return f"{bottom}: no longer there"


def _probed(ctx: Context, device: Device) -> Device:
    if device.fstype:
        return device
    return replace(device, udev=storage.probe(ctx.host, device.node) | dict(device.udev))


def _renew(ctx: Context, system: System, root: Root) -> Iterator[Item]:
    if not root.device.partition or not partition_table.read(ctx.host, root.disk).blank_guid:
        return
    for name in _NAMERS:
        text = (ctx.host.read(name) or "").lower()
        if "partuuid" in text:
            yield skipped(root.disk.name, f"keeps its blank GUID: {name} names partitions by GUID")
            return
    partition_table.renew_guids(ctx.host, system, root.disk)
    yield changed(root.disk.name, "new GUIDs for a cloned disk")
