"""The differences between ext2-4, XFS and btrfs: how to get the size, how to grow, when to check.

The size is read from the filesystem itself: it shows whether growing has succeeded.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time

from agent.block import storage
from agent.lib.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.block.storage import Device
    from agent.host.host import Host

EXT = frozenset({"ext2", "ext3", "ext4"})
#: Commands that grow a mounted filesystem, by device or by mountpoint (resize2fs(8), xfs_growfs(8),
#: btrfs-filesystem(8)).
GROWERS = {
    **dict.fromkeys(EXT, ("resize2fs", "{node}")),
    "xfs": ("xfs_growfs", "{at}"),
    "btrfs": ("btrfs", "filesystem", "resize", "max", "{at}"),
}
#: Bytes that a fully grown filesystem may leave unused: ext4 omits a last block group that is smaller than
#: its own tables.
SLACK = 16 << 20
#: Offset and length of the ext superblock (kernel Documentation/filesystems/ext4/super.rst).
_SUPERBLOCK = 1024
_EXT_MAGIC = 0xEF53
_CLEAN, _ERRORS = 1, 2
_COMPAT_JOURNAL = 0x4
_INCOMPAT_64BIT = 0x80
#: s_log_block_size of the largest blocks, 64 KiB (the kernel's EXT4_MAX_BLOCK_LOG_SIZE is 16).
_MOST_EXPONENT = 6
#: XFS_IOC_FSGEOMETRY_V1, _IOR('X', 100, 112 bytes) (xfs_fs.h); every version of XFS supports it.
_XFS_GEOMETRY = 0x80705864
_XFS_GEOMETRY_BYTES = 112
#: struct xfs_dsb (fs/xfs/libxfs/xfs_format.h): magic, sb_blocksize, sb_dblocks, big-endian.
_XFS_MAGIC = b"XFSB"
#: struct btrfs_super_block (include/uapi/linux/btrfs_tree.h) at 64 KiB: magic at 64, total_bytes at 112.
_BTRFS, _BTRFS_MAGIC = 65536, b"_BHRfS_M"


def grower(fstype: str, node: str, mountpoint: str) -> tuple[str, ...]:
    """Return the command that grows the mounted filesystem to its device's size, () if there is none."""
    return tuple(word.format(node=node, at=mountpoint) for word in GROWERS.get(fstype, ()))


def size(host: Host, fstype: str, node: str, mountpoint: str) -> int:
    """Return the present size of the mounted filesystem in bytes. Raise HostError if it cannot be read."""
    try:
        if fstype in EXT:
            return _ext_size(node, superblock(host, node))
        if fstype == "xfs":
            return _xfs_size(host, mountpoint)
        statistics = os.statvfs(host.path(mountpoint))
        return statistics.f_blocks * statistics.f_frsize
    except OSError as error:
        raise HostError(f"{mountpoint}: its size cannot be read: {error.strerror}") from error


def unmounted_size(host: Host, fstype: str, node: str) -> int:
    """Return the size of a filesystem that is not mounted in bytes, by its superblock. Raise HostError if
    it cannot be read.
    """
    if fstype in EXT:
        return _ext_size(node, superblock(host, node))
    block = storage.read_at(host, node, 512, _BTRFS if fstype == "btrfs" else 0)
    if block[:4] == _XFS_MAGIC:
        return int.from_bytes(block[4:8], "big") * int.from_bytes(block[8:16], "big")
    if block[64:72] == _BTRFS_MAGIC:
        return int.from_bytes(block[112:120], "little")
    raise HostError(f"{node}: no superblock of {fstype}")


def fills_disk(host: Host, device: Device) -> bool:
    """Return whether the filesystem on a whole disk fills it: that is then stored with the mountpoint, in
    one write. A partition is checked after the mount, as everything that may grow (growth/sizing.py).
    """
    if not device.uuid or device.partition or device.fstype not in GROWERS:
        return False
    try:
        spans = unmounted_size(host, device.fstype, device.node)
    except HostError:
        return False  # checked again after the mount
    return device.size - spans < SLACK


def superblock(host: Host, node: str) -> bytes:
    """Return the ext superblock of a device. Raise HostError if there is none, or it cannot be read."""
    block = storage.read_at(host, node, _SUPERBLOCK, _SUPERBLOCK)
    if len(block) < _SUPERBLOCK or _u16(block, 0x38) != _EXT_MAGIC:
        raise HostError(f"{node}: no ext superblock")
    return block


def wants_check(block: bytes, now: float | None = None) -> str:
    """Return why the filesystem with this ext superblock must be checked before it is mounted, or "". A
    journal to replay is no reason: the kernel does that. ``now`` is in seconds since the epoch.
    """
    state, mounts, limit = _u16(block, 0x3A), _u16(block, 0x34), struct.unpack_from("<h", block, 0x36)[0]
    checked, interval = _u32(block, 0x40), _u32(block, 0x44)
    if state & _ERRORS:
        return "errors were seen on it"
    if not state & _CLEAN:
        return "it was not unmounted cleanly"
    if 0 < limit <= mounts:
        return f"it has been mounted {mounts} times"
    if interval and (time.time() if now is None else now) >= checked + interval:
        return "its last check is too long ago"
    return ""


def may_want_check(block: bytes) -> bool:
    """Return whether the filesystem with this ext superblock must be checked now, or may have to be before a
    later mount: it has a limit of mounts or of time, or no journal for a power failure.
    """
    limit, interval = struct.unpack_from("<h", block, 0x36)[0], _u32(block, 0x44)
    is_journaled = bool(_u32(block, 0x5C) & _COMPAT_JOURNAL)
    return bool(wants_check(block)) or limit > 0 or interval > 0 or not is_journaled


def _ext_size(node: str, block: bytes) -> int:
    blocks, exponent = _u32(block, 0x4), _u32(block, 0x18)
    if exponent > _MOST_EXPONENT:
        raise HostError(f"{node}: damaged ext superblock: blocks of 2^{10 + exponent} bytes")
    if _u32(block, 0x60) & _INCOMPAT_64BIT:
        blocks |= _u32(block, 0x150) << 32
    return blocks << (10 + exponent)


def _xfs_size(host: Host, mountpoint: str) -> int:
    geometry = bytearray(_XFS_GEOMETRY_BYTES)
    with host.opened(mountpoint, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
        fcntl.ioctl(descriptor, _XFS_GEOMETRY, geometry)
    block_size, blocks = struct.unpack_from("=I", geometry, 0)[0], struct.unpack_from("=Q", geometry, 32)[0]
    return int(block_size) * int(blocks)


def _u16(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 2], "little")


def _u32(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 4], "little")
