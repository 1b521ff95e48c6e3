"""Decide from its superblock whether a filesystem that is not mounted yet would grow.

autofs mounts a disk when its folder is accessed: the agent accesses those of enlarged disks, and no others.
"""

from __future__ import annotations

import os

from agent.disks.base import filesystem, partition_table
from agent.disks.growth import sizing
from agent.lib.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.block.storage import Device, Disk
    from agent.context import Context
    from agent.disks.base.facts import Leave
    from agent.host.host import Host

#: struct xfs_dsb (fs/xfs/libxfs/xfs_format.h): magic, sb_blocksize, sb_dblocks, big-endian.
_XFS_MAGIC = b"XFSB"
#: struct btrfs_super_block (include/uapi/linux/btrfs_tree.h) at 64 KiB: magic at 64, total_bytes at 112.
_BTRFS, _BTRFS_MAGIC = 65536, b"_BHRfS_M"


def wants_to_grow(ctx: Context, disk: Disk, device: Device) -> bool:
    """Return whether the filesystem would grow, as far as its superblock shows. Raises HostError if the disk
    cannot be read.
    """
    if not filesystem.grower(device.fstype, device.node, ""):
        return False
    return isinstance(_decide(ctx, disk, device), sizing.Grow)


def is_grown(ctx: Context, disk: Disk, device: Device) -> bool:
    """Return whether there is nothing to grow. Raises HostError if the disk cannot be read."""
    return bool(filesystem.grower(device.fstype, device.node, "")) and (
        _decide(ctx, disk, device) in (sizing.NOT_GROWN, sizing.FULL)
    )


def _decide(ctx: Context, disk: Disk, device: Device) -> sizing.Grow | Leave:
    settled = int(ctx.state.disks().get(device.uuid, {}).get("size", 0)) if device.uuid else 0
    parted = partition_table.read(ctx.host, disk) if device.partition else None
    case = sizing.Case(disk, device, _spans(ctx.host, device), settled, parted)
    return sizing.decide(case)


def _spans(host: Host, device: Device) -> int:
    if device.fstype in filesystem.EXT:
        return filesystem.size(host, device.fstype, device.node, "")
    offset = _BTRFS if device.fstype == "btrfs" else 0
    try:
        with host.opened(device.node, os.O_RDONLY) as descriptor:
            block = os.pread(descriptor, 512, offset)
    except OSError as error:
        raise HostError(f"{device.node}: cannot be read: {error.strerror}") from error
    if block[:4] == _XFS_MAGIC:
        return int.from_bytes(block[4:8], "big") * int.from_bytes(block[8:16], "big")
    if block[64:72] == _BTRFS_MAGIC:
        return int.from_bytes(block[112:120], "little")
    raise HostError(f"{device.node}: no superblock of {device.fstype}")
