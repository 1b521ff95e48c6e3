"""CONFIG_DISK_FORMAT: make a filesystem on a whole disk that has just been attached and is proven blank.

policy.py decides which disk that may be; here the disk itself is read, immediately before.
"""

from __future__ import annotations

from agent.block import blank, storage
from agent.disks.base.system import unit_name
from agent.lib.errors import HostError
from agent.report import changed, skipped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.block.storage import Disk
    from agent.context import Context
    from agent.disks.base.system import System
    from agent.report import Item

#: By filesystem type. None has an option to overwrite what it finds: each of them checks once more (mke2fs
#: only warns).
MAKERS = {
    "ext4": ("mkfs.ext4", "-q"),
    "xfs": ("mkfs.xfs", "-q"),
    "btrfs": ("mkfs.btrfs", "-q"),
}


def apply(ctx: Context, system: System, disk: Disk, fstype: str) -> Iterator[Item]:
    """Format the disk. The writer's close() makes udev send an event, and the agent mounts the disk then.

    Raise HostError if the disk has no such filesystem afterwards.
    """
    host, device = ctx.host, disk.device
    if why := blank.why_not_blank(host, device):
        yield skipped(device.name, f"not formatted: not blank: {why}")
        return
    ctx.on_wait(f"{device.name} to be formatted")
    unit = unit_name("format", device.name)
    system.write(host, unit, device.node, (*MAKERS[fstype], device.node))
    if not host.dry_run and storage.probe(host, device.node).get("ID_FS_TYPE") != fstype:
        raise HostError(f"{device.node}: not formatted as {fstype}", hint=f"see: journalctl -b -u {unit}")
    yield changed(device.name, f"formatted as {fstype}: it was blank and has just been attached")
