"""Read a partition table, grow the last partition to the end of the disk, renew GUIDs.

When only the size of a partition changes, sfdisk keeps its start, type, GUID, attributes and name, and moves
a GPT's backup header to the end of the disk (util-linux 2.38 to 2.41).
"""

from __future__ import annotations

from enum import StrEnum
from functools import partial

from agent.block import storage
from agent.disks.base.system import unit_name
from agent.lib.errors import HostError
from agent.lib.records import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.block.storage import Device, Disk
    from agent.disks.base.system import System
    from agent.host.host import Host

#: Bytes of a GPT's entries before the backup header (UEFI 2.10, 5.3.2: 128 entries of 128 bytes).
_GPT_ENTRIES = 16384
_GPT_MAGIC, _GPT_HEADER = b"EFI PART", 92
#: Sectors that the 32-bit fields of an msdos table can count: 2 TiB with sectors of 512 bytes.
_DOS_SECTORS = (1 << 32) - 1
#: The beginning of a command that changes one partition and nothing else.
KEEP = ("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--wipe=never", "--wipe-partitions=never")
#: Partitions end at a multiple of this many bytes.
_ALIGNED = 1 << 20
#: The types of an extended partition, and the four entries of an msdos table: offset and bytes of the first.
_EXTENDED = (0x05, 0x0F, 0x85)
_ENTRIES, _ENTRY = 446, 16


class Kind(StrEnum):
    """The kind of a partition table; those of kind OTHER are not changed."""

    GPT = "gpt"
    DOS = "msdos"
    OTHER = "unknown"


@dataclass(frozen=True, slots=True)
class Extended:
    """The extended partition of an msdos table, which the logical ones lie in: its number, and its place in
    bytes from the start of the disk.
    """

    number: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Table:
    """``covered``: size in bytes of the disk for which the table was written, 0 if unknown. ``limit``: where
    a partition could end now, in bytes from the start of the disk. ``backed``: a GPT's backup header is
    where the first one says.
    """

    kind: Kind
    covered: int = 0
    limit: int = 0
    guid: bytes = b""
    backed: bool = True
    extended: Extended | None = None

    @property
    def blank_guid(self) -> bool:
        """Whether the disk is a clone of an image without a GUID, and needs its own."""
        return self.kind is Kind.GPT and not any(self.guid)


def read(host: Host, disk: Disk) -> Table:
    """Read the table from the disk. Raise HostError if the disk cannot be read."""
    sector, end, take = disk.sector_size, disk.device.size, partial(storage.read_at, host, disk.device.node)
    first, header = take(512, 0), take(_GPT_HEADER, sector)
    alternate = int.from_bytes(header[32:40], "little") if header[:8] == _GPT_MAGIC else 0
    backup = take(_GPT_HEADER, alternate * sector) if 0 < alternate * sector < end else b""
    if header[:8] == _GPT_MAGIC:
        limit, backed = end - sector - _GPT_ENTRIES, backup[:8] == _GPT_MAGIC
        return Table(Kind.GPT, (alternate + 1) * sector, limit, header[56:72], backed)
    if first[510:512] == b"\x55\xaa":
        return Table(Kind.DOS, 0, min(end, _DOS_SECTORS * sector), extended=_extended(first, sector))
    return Table(Kind.OTHER)


def _extended(first: bytes, sector: int) -> Extended | None:
    """Return the extended partition of an msdos table by its first sector, None if it has none."""
    for number in range(1, 5):
        entry = first[_ENTRIES + (number - 1) * _ENTRY :][:_ENTRY]
        if entry[4] in _EXTENDED:
            start, count = (int.from_bytes(entry[place : place + 4], "little") for place in (8, 12))
            return Extended(number, start * sector, (start + count) * sector)
    return None


def is_logical(table: Table, device: Device) -> bool:
    """Return whether the device is a partition within the extended one of an msdos table."""
    return table.kind is Kind.DOS and device.partition > 4


def extend(
    host: Host, system: System, table: Table, disk: Disk, device: Device, *, reserve: int = 0
) -> None:
    """Grow the last partition to the end of the disk, in the table and in the kernel; before a logical one
    the extended one that it lies in. The table's ``limit`` is ``reserve`` bytes before the end.

    If it ends there already, this completes a table without a backup header (``backed``). Raise HostError
    if the partition is no larger in the kernel afterwards, or the backup header is still missing.
    """
    number, around = str(device.partition), table.extended
    if is_logical(table, device) and around and table.limit - around.end >= _ALIGNED:
        # The kernel has two sectors of it in any case: it need not know the new size.
        argv, unit = (*KEEP, "-N", str(around.number), disk.device.node), f"{disk.name}-extended"
        system.write(
            host, unit_name("grow", unit), disk.device.node, argv, _size(table, disk, around.start, reserve)
        )
    argv = (*KEEP, "-N", number, disk.device.node)
    system.write(
        host, unit_name("grow", disk.name), disk.device.node, argv, _size(table, disk, device.start, reserve)
    )
    host.run(("partx", "--update", "--nr", number, disk.device.node))
    # udev read the table when it was written: then table and kernel differed, so it found no entry for the
    # partition and removed its links (by-partuuid, by-partlabel). Growing XFS or btrfs makes no event.
    host.sysfs_write(f"{storage.BLOCK}/{device.name}/uevent", "change")
    if host.dry_run:
        return
    if not read(host, disk).backed:
        raise HostError(f"{disk.device.node}: its GPT has no second header")
    if table.limit - device.end >= _ALIGNED and storage.current_size(host, device.name) <= device.size:
        raise HostError(
            f"{device.node}: still {device.size} bytes after its table was written",
            hint=f"see: journalctl -b -u {unit_name('grow', disk.name)}.service",
        )


def _size(table: Table, disk: Disk, start: int, reserve: int) -> str:
    """Return sfdisk's input for the new size of the partition that begins at ``start``, in bytes: for a GPT
    "the rest", as sfdisk knows where a GPT ends.

    For an msdos table, which counts in 32 bits, it is a number of sectors: there "the rest" wraps around on
    a disk of more than 2 TiB, to less than the partition had (sfdisk 2.38).
    """
    if table.kind is Kind.GPT and not reserve:
        return ", +"
    return f", {(table.limit // _ALIGNED * _ALIGNED - start) // disk.sector_size}"


def renew_guids(host: Host, system: System, disk: Disk) -> None:
    """Give a cloned disk and each of its partitions new GUIDs. Raise HostError if the disk's GUID is still
    blank afterwards.
    """
    from uuid import uuid4

    # The disk's GUID last: if it is blank, the next boot tries again.
    node = disk.device.node
    parts = (("--part-uuid", node, str(part.partition)) for part in disk.partitions)
    fresh = (*parts, ("--disk-id", node))
    for step, words in enumerate(fresh):
        argv = (*KEEP, *words, str(uuid4()).upper())
        system.write(host, unit_name("guid", f"{disk.name}-{step}"), disk.device.node, argv)
    if not host.dry_run and read(host, disk).blank_guid:
        raise HostError(
            f"{disk.device.node}: its GUID is still all zeros", hint=f"run: sfdisk --dump {disk.device.node}"
        )
