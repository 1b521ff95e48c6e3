"""Media as the platform makes them: configuration archives, and the disk images that carry them."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import uuid
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SECTOR = 512
#: Where the platform puts the archive (bytes); older platforms put it at 0.
OFFSET = 512 << 10
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
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in files.items():
            if content is not None:
                member = tarfile.TarInfo(f"gandi/{name}")
                member.size, member.mode, member.mtime = len(content), 0o600, mtime
                tar.addfile(member, io.BytesIO(content))
    return target.getvalue()


def swap_image(
    path: Path, size: int, offset: int = OFFSET, *, archive: bytes = b"", gpt: bool = False
) -> None:
    """A sparse disk image (``size`` in bytes) with the archive; ``gpt``: one partition, gandiswap."""
    with path.open("wb") as image:
        image.truncate(size)
        if gpt:
            _write_gpt(image, size)
        image.seek(offset)
        image.write(archive)


def _write_gpt(image: io.BufferedWriter, size: int, name: str = "gandiswap") -> None:
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
