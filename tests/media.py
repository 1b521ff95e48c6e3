"""Media as the platform makes them: configuration archives, and the disk images that carry them."""

from __future__ import annotations

import json
import struct
import tarfile
import uuid
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO

from agent.host.host import Host
from agent.image import seed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SECTOR = 512
#: Where the platform puts the archive (bytes); older platforms put it at 0.
OFFSET = seed.OFFSET
#: Where the partition of a GPT swap disk begins (bytes).
PARTITION = 1 << 20
#: GPT type of a swap partition (UEFI's own byte order comes from bytes_le).
_SWAP_TYPE = uuid.UUID("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f")


def make_archive(
    config: Mapping[str, Any] | bytes | None,
    script: bytes | None = None,
    modules: Mapping[str, bytes] | None = None,
    *,
    init: bytes | None = None,
    mtime: int = 1_700_000_000,
) -> bytes:
    """The tar archive of a machine. ``modules``: a file name (``6.12.0-modules.tar.gz``) to its content."""
    files = {
        "config": json.dumps(config).encode() if not isinstance(config, bytes | None) else config,
        "script": script,
        "init": init,
        **(modules or {}),
    }
    return seed.archive({name: data for name, data in files.items() if data is not None}, mtime=mtime)


def member(name: str, content: bytes = b"", **attributes: object) -> bytes:
    """One member as it lies in an archive, for putting before a whole one; ``attributes`` of TarInfo."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for attribute, value in attributes.items():
        setattr(info, attribute, value)
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % SECTOR)


def _sparse(name: str, size: int) -> bytes:
    """A member in the old GNU format: one sector of data, said to be a file of ``size`` bytes (tar's
    manual, "Old GNU Format").
    """
    block = bytearray(member(name, type=b"S"))
    block[124:136] = b"%011o\0" % SECTOR
    block[386:410] = b"%011o\0%011o\0" % (0, SECTOR)
    block[483:495] = b"\x80" + size.to_bytes(11, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + b"x" * SECTOR


#: Members that are none of the platform's: an archive with one of them is somebody else's.
FOREIGN: dict[str, bytes] = {
    "../../etc/cron.d/evil": member("../../etc/cron.d/evil", b"* * * * * root true\n"),
    "gandi/../../evil": member("gandi/../../evil", b"evil"),
    "/evil": member("/evil", b"evil"),
    "home/user/notes": member("home/user/notes", b"somebody's own"),
}
#: Members that a platform never sends, by what they are: none may be followed, made or unpacked.
HOSTILE: dict[str, bytes] = {
    "a symbolic link": member("gandi/script", type=tarfile.SYMTYPE, linkname="/etc/shadow"),
    "a hard link": member("gandi/evil", type=tarfile.LNKTYPE, linkname="/etc/shadow"),
    "a character device": member("gandi/evil", type=tarfile.CHRTYPE, devmajor=1, devminor=1),
    "a block device": member("gandi/evil", type=tarfile.BLKTYPE, devmajor=253),
    "a FIFO": member("gandi/evil", type=tarfile.FIFOTYPE),
    "a sparse file of 10 GiB": _sparse("gandi/evil", 10 << 30),
}


def md_superblock(size: int) -> tuple[int, bytes]:
    """Where on a disk of ``size`` bytes the metadata of an md member at its end (version 1.0) stands, and
    what (kernel: drivers/md/md.c, super_1_load).
    """
    sector = (size // SECTOR - 16) & ~7
    head = bytearray(256 + 2 * 128)
    head[0:8] = (0xA92B4EFC).to_bytes(4, "little") + (1).to_bytes(4, "little")
    head[16:32] = bytes(range(16))
    head[144:152] = sector.to_bytes(8, "little")
    head[220:224] = (128).to_bytes(4, "little")
    total = sum(int.from_bytes(head[n : n + 4], "little") for n in range(0, len(head), 4))
    head[216:220] = ((total & 0xFFFFFFFF) + (total >> 32) & 0xFFFFFFFF).to_bytes(4, "little")
    return sector * SECTOR, bytes(head)


def swap_image(
    path: Path, size: int, offset: int = OFFSET, *, archive: bytes = b"", gpt: bool = False
) -> None:
    """A sparse disk image (``size`` in bytes) with the archive; ``gpt``: one partition, gandiswap."""
    seed.swap(Host(), str(path), archive, size=size, offset=offset)
    if gpt:
        with path.open("r+b") as image:
            _write_gpt(image, size)


def _write_gpt(image: BinaryIO, size: int, name: str = "gandiswap") -> None:
    """A GPT with one partition from 1 MiB to the end (UEFI 2.10, chapter 5.3)."""
    last = size // SECTOR - 1
    entry = _SWAP_TYPE.bytes_le + uuid.uuid4().bytes_le
    entry += struct.pack("<QQQ", PARTITION // SECTOR, last - 34, 0) + name.encode("utf-16-le").ljust(
        72, b"\0"
    )
    entries = entry.ljust(128 * 128, b"\0")
    disk = uuid.uuid4().bytes_le
    image.seek(446)
    image.write(struct.pack("<B3sB3sII", 0, b"\0\x02\0", 0xEE, b"\xff\xff\xff", 1, min(last, 0xFFFFFFFF)))
    image.seek(510)
    image.write(b"\x55\xaa")
    for here, there, table in ((1, last, 2), (last, 1, last - 32)):
        head = struct.pack(
            "<8sIIIIQQQQ16sQIII",
            *(b"EFI PART", 0x10000, 92, 0, 0, here, there, 34, last - 33, disk, table, 128, 128),
            zlib.crc32(entries),
        )
        head = head[:16] + struct.pack("<I", zlib.crc32(head)) + head[20:]
        image.seek(here * SECTOR)
        image.write(head)
        image.seek(table * SECTOR)
        image.write(entries)
