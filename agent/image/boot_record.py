"""The partition table of another machine's disk, as far as a boot loader needs it, and GRUB's boot record:
boot.img in the first sector, and core.img where the table leaves room for it.

The formats are those of GRUB (include/grub/i386/pc/boot.h, include/grub/offsets.h), of the UEFI
Specification (5.3, GUID Partition Table) and of the master boot record. A table comes from an image: each
number is checked.
"""

from __future__ import annotations

import os
import struct
import uuid

from agent.lib.errors import ConfigError, HostError
from agent.lib.records import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.host.host import Host

SECTOR = 512
#: boot.img: what the disk has there stays (a FAT's parameters, the disk's signature and partitions).
_KEPT = ((0x3, 0x5A), (0x1B8, 0x1FE))
#: boot.img: where core.img begins, and the jump that is taken if the BIOS passes a floppy's number.
_CORE_SECTOR, _DRIVE_CHECK, _NO_CHECK = struct.Struct("<Q"), 0x66, b"\x90\x90"
_CORE_SECTOR_AT = 0x5C
#: core.img, at the end of its first sector: where its other sectors are, how many, and their address.
_BLOCKS, _BLOCKS_AT, _ADDRESS = struct.Struct("<QHH"), 0x1F4, 0x820
_SIGNATURE = b"\x55\xaa"
#: Four partitions of the master boot record: status, CHS, type, CHS, first sector, sectors.
_PARTITION, _PARTITIONS_AT = struct.Struct("<B3sB3sII"), 0x1BE
_PROTECTIVE, _EXTENDED = 0xEE, (0x05, 0x0F, 0x85)
#: The GPT's header after its name: revision, size, CRCs, this and the other header, first and last usable
#: sector, GUID of the disk, then first sector, number and size of the partitions.
_GPT, _GPT_NAME = struct.Struct("<8sIIII4Q16sQIII"), b"EFI PART"
#: A partition of the GPT: type, GUID, first and last sector.
_ENTRY = struct.Struct("<16s16sQQ")
_MOST_ENTRIES, _ENTRY_SIZES = 1024, (128, 256, 512)
#: The first sector behind a GPT of 128 partitions.
_FIRST_USABLE = 34
_ESP = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b").bytes_le
_BIOS_BOOT = uuid.UUID("21686148-6449-6e6f-744e-656564454649").bytes_le
#: Most sectors of core.img: what GRUB loads from there fits below 640 KiB.
_MOST_CORE = 1024


@dataclass(frozen=True, slots=True)
class Layout:
    """The places for a boot loader on a disk. ``table`` is msdos or gpt. core.img goes to ``first``, in the
    gap before the first partition or in a BIOS boot partition; without room ``sectors`` is 0. ``esp`` is the
    first sector of the ESP and the number of its sectors, (0, 0) without one.
    """

    table: str
    first: int
    sectors: int
    esp: tuple[int, int] = (0, 0)


def layout(host: Host, disk: str) -> Layout:
    """Return the layout of the disk. Raise HostError if it cannot be read, ConfigError if it has no
    partition table.
    """
    with host.opened(disk, os.O_RDONLY) as device:
        try:
            return _layout(disk, device)
        except OSError as error:
            raise HostError(f"{disk}: cannot be read: {error.strerror}") from error


def _layout(disk: str, device: int) -> Layout:
    size = os.lseek(device, 0, os.SEEK_END) // SECTOR
    record = os.pread(device, SECTOR, 0)
    parts = [
        _PARTITION.unpack_from(record, _PARTITIONS_AT + number * _PARTITION.size)
        for number in range(4)
        if len(record) == SECTOR and record.endswith(_SIGNATURE)
    ]
    first_sectors = {kind: first for _, _, kind, _, first, sectors in parts if kind and sectors}
    if _PROTECTIVE in first_sectors:
        return _gpt_layout(disk, device, size)
    if not first_sectors or any(first >= size for first in first_sectors.values()):
        raise ConfigError(
            f"{disk}: no partition table: no BIOS boots it",
            hint="make the disk with partition=gpt or msdos, or leave the boot loader out",
        )
    return Layout("msdos", 1, max(0, min(min(first_sectors.values()) - 1, _MOST_CORE)))


def _gpt_layout(disk: str, device: int, size: int) -> Layout:
    header = os.pread(device, SECTOR, SECTOR)
    if len(header) < _GPT.size or not header.startswith(_GPT_NAME):
        raise ConfigError(f"{disk}: its GPT is damaged", hint="mend it: sgdisk --verify")
    *_, table, number, length, _crc = _GPT.unpack_from(header)
    if length not in _ENTRY_SIZES or number > _MOST_ENTRIES or table >= size:
        raise ConfigError(f"{disk}: its GPT is damaged", hint="mend it: sgdisk --verify")
    entries = os.pread(device, number * length, table * SECTOR)
    found = dict[bytes, tuple[int, int]]()
    for at in range(0, len(entries) - length + 1, length):
        kind, _, first, last = _ENTRY.unpack_from(entries, at)
        if _FIRST_USABLE <= first <= last < size:
            found.setdefault(kind, (first, last - first + 1))
    first, sectors = found.get(_BIOS_BOOT, (0, 0))
    return Layout("gpt", first, min(sectors, _MOST_CORE), found.get(_ESP, (0, 0)))


def write(host: Host, disk: str, there: Layout, boot: bytes, core: bytes) -> bool:
    """Write both images, which the disk's own GRUB has made; return False if they are there already.

    Raise ConfigError if they are no such images or do not fit, HostError if they cannot be written.
    """
    sectors = -(-len(core) // SECTOR)
    if len(boot) != SECTOR or not boot.endswith(_SIGNATURE):
        raise ConfigError("boot.img: not a boot record of GRUB", hint="install grub-pc-bin again")
    if sectors < 2 or _BLOCKS.unpack_from(core, _BLOCKS_AT)[2] != _ADDRESS:
        raise ConfigError("core.img: not an image of GRUB for a BIOS", hint="install grub-pc-bin again")
    if sectors > there.sectors:
        raise ConfigError(
            f"{disk}: {there.sectors} sectors are free for GRUB, and it needs {sectors}",
            hint="let the first partition begin at 1 MiB, or make a larger BIOS boot partition",
        )
    image = bytearray(core.ljust(sectors * SECTOR, b"\0"))
    _BLOCKS.pack_into(image, _BLOCKS_AT, there.first + 1, sectors - 1, _ADDRESS)
    with host.opened(disk, os.O_RDWR) as device:
        try:
            return _written(device, there, _record(boot, os.pread(device, SECTOR, 0), there), bytes(image))
        except OSError as error:
            raise HostError(f"{disk}: cannot be written: {error.strerror}") from error


def _record(boot: bytes, old: bytes, there: Layout) -> bytes:
    record = bytearray(boot)
    for begin, end in _KEPT:
        record[begin:end] = old[begin:end]
    _CORE_SECTOR.pack_into(record, _CORE_SECTOR_AT, there.first)
    record[_DRIVE_CHECK : _DRIVE_CHECK + len(_NO_CHECK)] = _NO_CHECK
    return bytes(record)


def _written(device: int, there: Layout, record: bytes, image: bytes) -> bool:
    """Write core.img first, so that a boot record never leads to half of one."""
    parts = ((there.first * SECTOR, image), (0, record))
    if all(os.pread(device, len(content), offset) == content for offset, content in parts):
        return False
    for offset, content in parts:
        done = 0
        while done < len(content):
            done += os.pwrite(device, content[done:], offset + done)
        os.fsync(device)
    return True
