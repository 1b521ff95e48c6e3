"""The swap disk as a source: a tar archive at 512 KiB of a disk, or at its beginning (older platforms).

Nothing is guessed by name. A disk is looked at where a valid tar header stands at one of the two places; it
is searched only when libblkid finds nothing else on it, since a user's file on a data disk can put a valid
archive there.
"""

from __future__ import annotations

import os

from agent import mounts, storage
from agent.bus import attachment
from agent.context import Medium
from agent.errors import HostError
from agent.parse import archive
from agent.report import failed, skipped
from agent.sources import Asked, Findings, Found

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent.host import Host
    from agent.parse.archive import Header
    from agent.parser import Piece
    from agent.storage import Device, Disk

NAME = "gandi"
#: Bytes from the beginning of the disk, in the order in which they are tried.
OFFSETS = (512 << 10, 0)
#: Name of the one partition that a swap disk may have.
PARTITION = "gandiswap"
#: Bytes that an archive may state as its own: what is overwritten later never reaches further.
LONGEST = 2 << 30


def platform_disks(host: Host) -> Iterable[str]:
    """The whole disks on a bus of the platform, in bus order; never a loop device or a network disk."""
    return [name for name in storage.names(host) if attachment(host, storage.devpath(host, name))[0]]


def look(asked: Asked, disks: Callable[[Host], Iterable[str]] = platform_disks) -> Findings:
    """The first disk that carries an archive, read. Raises HostError where reading failed and no other disk
    carries one.
    """
    host = asked.host
    marked = [(name, at) for name in disks(host) if (at := _marked(host, name)) is not None]
    carriers = [(disk, at) for name, at in marked if (disk := facts(host, name)) and not foreign(host, disk)]
    carriers.sort(key=lambda carrier: _rank(carrier[0]))
    broken = dict[str, HostError]()
    for place, (disk, offset) in enumerate(carriers):
        try:
            found = _read(host, disk, offset, asked.known)
        except HostError as error:
            broken[disk.device.node] = error
            continue
        if found:
            others = (other.device.node for other, _ in carriers[place + 1 :])
            why = f"carries an archive as well; {disk.device.node} counts"
            unread = (failed(node, error.message, error.hint) for node, error in broken.items())
            return Findings(found, (*unread, *(skipped(other, why) for other in others)))
    if broken:
        raise next(iter(broken.values()))
    return Findings()


def facts(host: Host, name: str) -> Disk | None:
    """The disk with what libblkid finds on it now: asked directly, not remembered by udev."""

    def asked(part: str) -> dict[str, str]:
        return {"ID_FS_USAGE": ""} | storage.probe(host, f"/dev/{part.replace('!', '/')}")

    return storage.read(host, name, asked)


def foreign(host: Host, disk: Disk) -> str:
    """Why the disk is somebody's and is neither searched nor formatted; "" for a swap disk or one with
    nothing on it.
    """
    table, parts = disk.device.udev.get("ID_PART_TABLE_TYPE", ""), disk.partitions
    in_use = mounts.swaps(host) | {number for mount in mounts.mounts(host) for number in mount.numbers}
    for device in disk.devices:
        if why := _content(device):
            return why
        if device.holders or device.number in in_use:
            return f"{device.name} is in use"
    if table not in ("", "gpt"):
        return f"has a partition table ({table})"
    if (table or parts) and [part.part_name for part in parts] != [PARTITION]:
        return "has partitions of its own"
    return ""


def target(disk: Disk) -> Device:
    """The device that becomes swap: the one partition, or the whole disk."""
    return disk.partitions[0] if disk.partitions else disk.device


def _content(device: Device) -> str:
    if "ID_FS_AMBIVALENT" in device.udev:
        return f"{device.name} has several signatures"
    other = device.fstype if device.fstype != "swap" else ""
    return f"{device.name} holds {other}" if other else ""


def _rank(disk: Disk) -> int:
    """Which of several carriers counts: the partition's name, then swap's label, then Xen's name for it."""
    if disk.partitions:
        return 0
    return 1 if disk.device.label == b"swap" else 2 if disk.name == "xvdz" else 3


def _marked(host: Host, name: str) -> int | None:
    """The place of a valid tar header, by two reads of the device and no process."""
    if storage.size_now(host, name) <= OFFSETS[0]:
        return None
    try:
        with host.opened(f"/dev/{name.replace('!', '/')}", os.O_RDONLY) as disk:
            return next(
                (at for at in OFFSETS if archive.header(os.pread(disk, archive.BLOCK, at)) is not None), None
            )
    except (OSError, HostError):
        # A drive without a medium, or one that went away: no carrier.
        return None


def _read(host: Host, disk: Disk, first: int, known: str) -> Found | None:
    from agent.parser import parse

    with host.opened(disk.device.node, os.O_RDONLY) as descriptor:
        info = os.fstat(descriptor)
        if f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}" != disk.device.number:
            raise HostError(f"{disk.device.node}: another device than a moment ago")
        for offset in (first, *(at for at in OFFSETS if at < first)):
            head = _head(descriptor, disk, offset)
            if head is None:
                continue
            medium = Medium(NAME, disk.name, disk.device.number, target(disk).name, offset, 0)
            if head.name == archive.WIPED:
                return Found(_sized(medium, disk, archive.BLOCK + head.size), None)
            parsed = parse(NAME, descriptor, offset=offset, known=known)
            if known and not parsed.same:
                parsed = parse(NAME, descriptor, offset=offset)
            if parsed.ours:
                return Found(_sized(medium, disk, parsed.extent[1], parsed.modules), parsed)
    return None


def _head(descriptor: int, disk: Disk, offset: int) -> Header | None:
    try:
        return archive.header(os.pread(descriptor, archive.BLOCK, offset))
    except OSError as error:
        raise HostError(f"{disk.device.node}: cannot be read at {offset}: {error.strerror}") from error


def _sized(medium: Medium, disk: Disk, length: int, modules: tuple[Piece, ...] = ()) -> Medium:
    """The medium with its archive's length, as far as that can be true."""
    from agent.plain import replace

    longest = min(LONGEST, disk.device.size - medium.offset)
    if not 0 < length <= longest:
        return replace(medium, left="states a length that it cannot have")
    inside = [m for m in modules if medium.offset < m.offset and m.offset + m.size <= medium.offset + length]
    return replace(medium, length=length, modules=tuple(inside))
