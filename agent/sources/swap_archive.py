"""The swap disk as a source: a tar archive at 512 KiB of a disk, or at its start (older platforms).

A disk is found by content and not by name: by the magic of a tar header at one of the two offsets, compared
with a constant. The confined reader then parses it, if libblkid finds nothing else on the disk: a user's
file on a data disk can put a valid archive at that offset. It is used only if all members are below gandi/
and no data lies before it: a backup on a raw disk may contain gandi/config among other files.
"""

from __future__ import annotations

import os

from agent.block import mounts, storage, unresponsive
from agent.block.transport import attachment
from agent.context import Medium
from agent.host.sysfs import attribute, devnode
from agent.lib.errors import HostError
from agent.reader.common import archive_layout
from agent.report import failed, skipped
from agent.sources import TRUSTED_KEYS, FoundMedium, SearchRequest, SearchResult, needs_signature

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent.block.storage import Device, Disk
    from agent.host.host import Host
    from agent.reader.client import Piece
    from agent.report import Item

NAME = "gandi"
#: Name of the only partition that a swap disk may have.
PARTITION = "gandiswap"
#: Bytes at most in an archive: no more than that is ever overwritten.
LONGEST = 2 << 30
#: Bytes that mkswap(8) writes: a page, 4 KiB on every machine of the platform; the signature ends it.
PAGE = 4096


def platform_disks(host: Host) -> Iterable[str]:
    """Return the names of whole disks on the platform's buses, in bus order: no loop devices, no network
    disks, none that does not answer.
    """
    return [
        name
        for name in storage.names(host)
        if attachment(host, storage.devpath(host, name))[0] and not unresponsive.is_unresponsive(host, name)
    ]


def search(request: SearchRequest, disks: Callable[[Host], Iterable[str]] = platform_disks) -> SearchResult:
    """Return the first disk with an archive, parsed, and notes on archives that are not used.

    Raise HostError if a disk could not be read and no other has an archive.
    """
    host = request.host
    broken: dict[str, HostError] = {}
    notes: list[Item] = []
    carriers: list[Disk] = []
    for name in disks(host):
        try:
            if disk := _candidate(host, name):
                carriers.append(disk)
        except HostError as error:
            broken[name] = error
    if needs_signature(host):
        why = f"carries an archive, which cannot be signed: not read, since {TRUSTED_KEYS} is there"
        hint = "deliver a signed native document on a drive or as a credential"
        return SearchResult(None, tuple(failed(disk.device.node, why, hint) for disk in carriers))
    carriers.sort(key=_rank)
    for place, disk in enumerate(carriers):
        try:
            found = _read(host, disk, request.known_digest)
        except HostError as error:
            broken[disk.name] = error
            continue
        except _Foreign as error:
            why = f"carries an archive that is not the platform's ({error}): neither applied nor changed"
            notes.append(skipped(disk.device.node, why))
            continue
        if found:
            others = (other.device.node for other in carriers[place + 1 :])
            why = f"also carries an archive, neither read nor changed; {disk.device.node} counts"
            unread = (failed(f"/dev/{one}", error.message, error.hint) for one, error in broken.items())
            return SearchResult(found, (*unread, *notes, *(skipped(other, why) for other in others)))
    if broken:
        raise next(iter(broken.values()))
    return SearchResult(None, tuple(notes))


def probe_disk(host: Host, name: str, before: Disk | None = None) -> Disk | None:
    """Return the disk with libblkid's present results instead of udev's record, None if it is gone.

    ``before`` is the disk as this run has probed it: while it is the same one, libblkid is not asked again,
    which would be a hundredth of a first boot's CPU. What uses it is read in any case.
    """
    present = attribute(host, f"{storage.BLOCK}/{name}/diskseq")
    same = before if before is not None and before.diskseq == present != "" else None
    known = {device.name: dict(device.udev) for device in same.devices} if same else {}

    def asked(part: str) -> dict[str, str]:
        return known[part] if part in known else {"ID_FS_USAGE": ""} | storage.probe(host, devnode(part))

    return storage.read(host, name, asked)


def why_foreign(host: Host, disk: Disk) -> str:
    """Return why the disk must be neither read nor formatted; "" for a swap disk or one with no content."""
    table, parts = disk.device.udev.get("ID_PART_TABLE_TYPE", ""), disk.partitions
    in_use = mounts.swaps(host) | {number for mount in mounts.mounts(host) for number in mount.devnos}
    for device in disk.devices:
        if why := _content(device):
            return why
        if device.holders or device.devno in in_use:
            return f"{device.name} is in use"
    if table not in ("", "gpt"):
        return f"has a partition table ({table})"
    if (table or parts) and [part.part_name for part in parts] != [PARTITION]:
        return "has partitions of its own"
    return ""


def target(disk: Disk) -> Device:
    """Return the device that becomes swap: the only partition, or the whole disk."""
    return disk.partitions[0] if disk.partitions else disk.device


def _content(device: Device) -> str:
    if "ID_FS_AMBIVALENT" in device.udev:
        return f"{device.name} has several signatures"
    other = device.fstype if device.fstype != "swap" else ""
    return f"{device.name} holds {other}" if other else ""


def _rank(disk: Disk) -> int:
    """Return the precedence of a disk with an archive: 0 with a swap partition, then the label of the swap
    disk, then Xen's name for it.
    """
    if disk.partitions:
        return 0
    return 1 if disk.device.label == b"swap" else 2 if disk.name == "xvdz" else 3


def _candidate(host: Host, name: str) -> Disk | None:
    """Return a disk that may carry an archive, or None. Raise HostError if it cannot be read."""
    disk = probe_disk(host, name) if _has_tar_magic(host, name) else None
    why = why_foreign(host, disk) if disk else "no tar header where an archive would begin"
    if host.debug:
        host.debug(f"source archive: {name}: {f'not searched: {why}' if why else 'may carry an archive'}")
    return disk if not why else None


class _Foreign(Exception):
    """Why an archive, or the disk that it is on, is not the platform's."""


def _has_tar_magic(host: Host, name: str) -> bool:
    """Return whether there is the magic of a tar header, by two reads and without a process."""
    if storage.current_size(host, name) <= max(archive_layout.OFFSETS):
        return False
    try:
        with host.opened(devnode(name), os.O_RDONLY) as disk:
            blocks = (os.pread(disk, archive_layout.BLOCK, at) for at in archive_layout.OFFSETS)
            return any(map(archive_layout.has_magic, blocks))
    except (OSError, HostError):
        # A drive without a medium, or one that went away: no carrier.
        return False


def _read(host: Host, disk: Disk, known_digest: str) -> FoundMedium | None:
    """Return the disk's archive, None without one. Raise _Foreign if it is not the platform's, HostError
    if it cannot be read.
    """
    with host.opened(disk.device.node, os.O_RDONLY) as descriptor:
        info = os.fstat(descriptor)
        if f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}" != disk.device.devno:
            raise HostError(f"{disk.device.node}: replaced by another device while it was read")
        return _found(descriptor, disk, known_digest)


def _found(descriptor: int, disk: Disk, known_digest: str) -> FoundMedium | None:
    """Return what the reader finds on the open disk. Raise as ``_read``."""
    from agent.reader.client import parse_disk

    try:
        parsed = parse_disk(descriptor, known_digest=known_digest)
        if known_digest and parsed.is_recognised and not parsed.is_unchanged:
            # The reader imports the parts for a document before it reads the medium, or not at all.
            parsed = parse_disk(descriptor)
    except HostError as error:
        raise HostError(f"{disk.device.node}: {error.message}", hint=error.hint) from error
    if parsed.foreign:
        raise _Foreign(parsed.foreign)
    offset, length = parsed.extent
    medium = Medium(NAME, disk.name, disk.device.devno, target(disk).name, offset, 0, probed=disk)
    block = archive_layout.BLOCK
    if parsed.is_being_overwritten and _bytes(descriptor, disk, block, offset) == archive_layout.mark(
        length - block
    ):
        # mkswap may have been cut within its page.
        _nothing_before(descriptor, disk, offset, max(parsed.previous_end, PAGE))
        return FoundMedium(_sized(medium, disk, length), None)
    if not parsed.is_recognised:
        return None
    _nothing_before(descriptor, disk, offset, parsed.previous_end)
    return FoundMedium(_sized(medium, disk, length, parsed.modules), parsed)


def _nothing_before(descriptor: int, disk: Disk, offset: int, start: int) -> None:
    """Raise _Foreign if data lies between ``start`` and ``offset``: the archive may be a part of what
    libblkid does not recognise (a database's volume, another tar).

    Data after the archive does not count: the disk may have been swap before.
    """
    if disk.partitions or disk.device.fstype == "swap" or start >= offset:
        return
    before = _bytes(descriptor, disk, offset - start, start)
    if before.count(0) != offset - start:
        raise _Foreign("other data was written before it")


def _bytes(descriptor: int, disk: Disk, size: int, offset: int) -> bytes:
    try:
        return os.pread(descriptor, size, offset)
    except OSError as error:
        raise HostError(f"{disk.device.node}: cannot be read at {offset}: {error.strerror}") from error


def _sized(medium: Medium, disk: Disk, length: int, modules: tuple[Piece, ...] = ()) -> Medium:
    """Return the medium with its archive's length in bytes, or marked as left if that is impossible."""
    from agent.lib.records import replace

    longest = min(LONGEST, disk.device.size - medium.offset)
    if not 0 < length <= longest:
        return replace(medium, not_swap_reason="its archive states an impossible length")
    inside = [m for m in modules if medium.offset < m.offset and m.offset + m.size <= medium.offset + length]
    return replace(medium, length=length, modules=tuple(inside))
