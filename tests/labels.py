"""Filesystems that carry any bytes as their label: written into the superblock, as mkfs and the tools that
change a label refuse many. Offsets and checksums are those of the kernel's headers.
"""

from __future__ import annotations

import os
import subprocess
import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

#: The most bytes of a label.
ROOM = {"ext4": 16, "vfat": 11, "btrfs": 255, "xfs": 12, "swap": 16}
#: Bytes of the smallest filesystem that mkfs makes.
SIZE = {"ext4": 4 << 20, "vfat": 2 << 20, "btrfs": 128 << 20, "xfs": 304 << 20, "swap": 1 << 20}
#: ext4: s_uuid and s_volume_name of struct ext4_super_block, which begins at byte 1024.
_EXT4_UUID, _EXT4 = 1024 + 104, 1024 + 120
#: btrfs: the first super block, its length, and where in it the label is; its checksum comes first.
_BTRFS, _BTRFS_SIZE, _BTRFS_LABEL, _BTRFS_CSUM = 0x10000, 0x1000, 0x12B, 0x20
#: xfs: sb_fname and sb_crc of struct xfs_dsb, which has a sector of its own.
_XFS_LABEL, _XFS_CRC, _XFS_SECTOR = 108, 224, 512
#: swap: volume_name of union swap_header.
_SWAP = 1024 + 28
_PLACEHOLDER = b"PLACEHOLDER"
_MKFS = {
    # Without checksums, which the label is a part of.
    "ext4": ("mkfs.ext4", "-q", "-F", "-O", "^metadata_csum"),
    "vfat": ("mkfs.vfat", "-n", _PLACEHOLDER.decode()),
    "btrfs": ("mkfs.btrfs", "-q"),
    "xfs": ("mkfs.xfs", "-q"),
    "swap": ("mkswap",),
}


def kinds(label: bytes) -> list[str]:
    """The filesystems that have room for the label, the smallest first."""
    return [fstype for fstype, room in ROOM.items() if len(label) <= room]


def make(path: Path, fstype: str, label: bytes) -> Path:
    """Make a filesystem with this label in a sparse file."""
    with path.open("wb") as file:
        file.truncate(SIZE[fstype])
    number = ("-i", uuid.uuid4().hex[:8]) if fstype == "vfat" else ()  # otherwise by the second
    subprocess.run((*_MKFS[fstype], *number, str(path)), check=True, capture_output=True)
    put(path, fstype, label)
    return path


def renew(path: Path) -> None:
    """Give an ext4 that ``make`` made, or a copy of it, another UUID: for the agent it is another disk."""
    with path.open("r+b", buffering=0) as file:
        os.pwrite(file.fileno(), uuid.uuid4().bytes, _EXT4_UUID)


def put(path: Path, fstype: str, label: bytes) -> None:
    """Write the label into a filesystem that ``make`` made."""
    name = label.ljust(ROOM[fstype], b"\0")
    with path.open("r+b", buffering=0) as file:
        disk = file.fileno()
        match fstype:
            case "ext4":
                os.pwrite(disk, name, _EXT4)
            case "swap":
                os.pwrite(disk, name, _SWAP)
            case "vfat":  # in the boot sector and in the root folder, padded with blanks
                head = os.pread(disk, 1 << 20, 0).replace(_PLACEHOLDER, label.ljust(ROOM[fstype]))
                os.pwrite(disk, head, 0)
            case "btrfs":
                block = bytearray(os.pread(disk, _BTRFS_SIZE, _BTRFS))
                block[_BTRFS_LABEL : _BTRFS_LABEL + len(name)] = name
                block[:4] = crc32c(bytes(block[_BTRFS_CSUM:]))
                os.pwrite(disk, block, _BTRFS)
            case _:
                block = bytearray(os.pread(disk, _XFS_SECTOR, 0))
                block[_XFS_LABEL : _XFS_LABEL + len(name)] = name
                block[_XFS_CRC : _XFS_CRC + 4] = bytes(4)
                block[_XFS_CRC : _XFS_CRC + 4] = crc32c(bytes(block))
                os.pwrite(disk, block, 0)


def crc32c(data: bytes) -> bytes:
    """CRC-32C (RFC 3720), as these filesystems store it."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return (value ^ 0xFFFFFFFF).to_bytes(4, "little")
