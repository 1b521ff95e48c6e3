"""Add a partition to swap to behind the last one of an image's disk."""

from __future__ import annotations

from agent.block import blank, storage
from agent.disks.base import partition_table
from agent.disks.base.partition_table import Kind
from agent.disks.offline.growing import write
from agent.lib.errors import ConfigError, HostError
from agent.lib.text import gib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.block.storage import Device, Disk
    from agent.host.host import Host

LABEL = "swap"
#: The types of a partition to swap to, in a GPT and in an msdos table.
_TYPES = ("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", "0x82")
_ALIGNED = 1 << 20
_INSTEAD = "write --swap=SIZE:file"


def find(host: Host, disk: Disk, size: int) -> Device | None:
    """Return the partition that an earlier run has made, or begun to: of this size in bytes, with swap or of
    that type and blank; None if there is none.
    """
    return next((part for part in disk.partitions if part.size == size and _is_ours(host, part)), None)


def _is_ours(host: Host, part: Device) -> bool:
    is_typed = part.udev.get("ID_PART_ENTRY_TYPE", "") in _TYPES and not part.fstype
    return part.fstype == "swap" or (is_typed and not blank.why_not_blank(host, part))


def check(host: Host, disk: Disk, image: str, size: int) -> None:
    """Raise ConfigError if no partition of ``size`` bytes can be added."""
    other = next((part for part in disk.partitions if part.fstype == "swap"), None)
    if other:
        what = f"{image}: --swap: partition {other.partition} is swap already, of {gib(other.size)}"
        raise ConfigError(what, hint=f"write --swap=none, or {_INSTEAD}")
    if not disk.partitions:
        raise ConfigError(f"{image}: --swap: no partition table on it", hint=_INSTEAD)
    table = partition_table.read(host, disk)
    if table.kind is Kind.OTHER:
        raise ConfigError(f"{image}: --swap: a partition table of an unknown kind", hint=_INSTEAD)
    if table.kind is Kind.DOS and not _free_number(disk):
        raise ConfigError(f"{image}: --swap: its msdos table has four partitions", hint=_INSTEAD)
    free = table.limit - _first_free(disk)
    if size > free:
        what = (
            f"{image}: --swap: {gib(size)} do not fit into the {gib(max(free, 0))} behind the last partition"
        )
        raise ConfigError(what, hint=f"enlarge the image first (truncate, qemu-img resize), or {_INSTEAD}")


def make(host: Host, disk: Disk, size: int) -> str:
    """Make the partition if there is none, and swap on it; return its UUID. Raise HostError."""
    found = find(host, disk, size)
    if found is not None and found.fstype == "swap":
        return found.uuid
    number = found.partition if found else _add(host, disk, size)
    node = f"{disk.device.node}p{number}"
    write(host, "", node, ("mkswap", "-L", LABEL, node))
    uuid = storage.probe(host, node).get("ID_FS_UUID", "")
    if not uuid:
        raise HostError(f"{node}: no swap on it after mkswap")
    return uuid


def _add(host: Host, disk: Disk, size: int) -> int:
    table, number = partition_table.read(host, disk), _free_number(disk)
    start = (table.limit - size) // _ALIGNED * _ALIGNED
    values = f"start={start // disk.sector_size}, size={size // disk.sector_size}, type=S"
    name = f', name="{LABEL}"' if table.kind is Kind.GPT else ""
    argv = (*partition_table.KEEP, "-N", str(number), disk.device.node)
    write(host, "", disk.device.node, argv, values + name)
    host.run(("partx", "--add", "--nr", str(number), disk.device.node))
    return number


def _first_free(disk: Disk) -> int:
    """Return the first byte behind all partitions, at a multiple of 1 MiB."""
    return -(-max(part.end for part in disk.partitions) // _ALIGNED) * _ALIGNED


def _free_number(disk: Disk) -> int:
    """Return the lowest unused number of a primary partition, 0 if there is none in an msdos table."""
    used = {part.partition for part in disk.partitions}
    most = 5 if _scheme(disk) == "dos" else 129
    return next((number for number in range(1, most) if number not in used), 0)


def _scheme(disk: Disk) -> str:
    return disk.partitions[0].udev.get("ID_PART_ENTRY_SCHEME", "")
