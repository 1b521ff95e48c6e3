"""Facts about block devices from sysfs, udev's database and libblkid; no decisions.

A ``Disk`` is a snapshot, read again for each event. Sizes and offsets are in bytes; sysfs counts in sectors
of 512 bytes, whatever the device's own sector size (Documentation/ABI, block).
"""

from __future__ import annotations

import errno
import os
import re

from agent.block.transport import Transport, attachment
from agent.host.sysfs import attribute, devnode, listed
from agent.lib.errors import HostError
from agent.lib.records import dataclass, field
from agent.lib.text import lines, number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.host.host import Host

BLOCK = "/sys/class/block"
#: The unit of sysfs, in bytes.
SECTOR = 512
#: Contents that hold a filesystem by way of the device mapper.
STACKED = frozenset({"LVM2_member", "crypto_LUKS"})
#: Seconds for libblkid's probe of a device that udev has not processed.
_PROBE_TIMEOUT = 10.0
#: Exit statuses of blkid(8) with a result: found, nothing found, several found.
_PROBED = (0, 2, 8)
#: Offsets of most filesystems' signatures, each in the _BEGINNING bytes from there: a device that cannot be
#: read there appears empty.
_BEGINNINGS = (0, 32 << 10, 60 << 10)
_BEGINNING = 8 << 10
#: Partition types that are never a data filesystem: EFI system (UEFI 2.10, 5.3.3; 0xef on msdos), BIOS
#: boot, swap.
_SYSTEM_PARTITIONS = {
    "c12a7328-f81f-11d2-ba4b-00a0c93ec93b": "an EFI system partition",
    "0xef": "an EFI system partition",
    "21686148-6449-6e6f-744e-656564454649": "a BIOS boot partition",
    "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f": "a swap partition",
    "0x82": "a swap partition",
    "0x5": "an extended partition",
    "0xf": "an extended partition",
    "0x85": "an extended partition",
}
#: Compiled at their first use, to keep the start of the daemon for an event short.
_ESCAPE = rb"\\x([0-9a-fA-F]{2})"
_PCI_ADDRESS = r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]"


@dataclass(frozen=True, slots=True)
class Device:
    """A whole disk, or a partition. ``devno`` is major:minor; ``partition`` is 0 for the whole disk;
    ``udev`` has udev's properties.
    """

    name: str
    devno: str
    size: int
    start: int = 0
    partition: int = 0
    readonly: bool = False
    holders: tuple[str, ...] = ()
    udev: Mapping[str, str] = field(default_factory=dict)
    #: Why its beginning cannot be read, if nothing was found on it; else "".
    error: str = ""
    #: udev has found nothing, and its beginning is not all zero: unknown data, or what udev has missed.
    is_raw: bool = False

    @property
    def node(self) -> str:
        """The path with the kernel's name below /dev; links by label or UUID may belong to a copy."""
        return devnode(self.name)

    @property
    def fstype(self) -> str:
        """libblkid's type of the content, "" if it finds none."""
        return self.udev.get("ID_FS_TYPE", "")

    @property
    def usage(self) -> str:
        """libblkid's class of the content: filesystem, raid, crypto, other or ""."""
        return self.udev.get("ID_FS_USAGE", "")

    @property
    def uuid(self) -> str:
        """The filesystem's UUID as libblkid spells it, or ""."""
        return self.udev.get("ID_FS_UUID", "")

    @property
    def label(self) -> bytes:
        """The filesystem's label as bytes (udev writes some bytes as ``\\xNN``)."""
        return _unescaped(self.udev.get("ID_FS_LABEL_ENC", self.udev.get("ID_FS_LABEL", "")))

    @property
    def part_name(self) -> str:
        """The partition's name in a GPT, or ""."""
        return os.fsdecode(_unescaped(self.udev.get("ID_PART_ENTRY_NAME", "")))

    @property
    def has_contents(self) -> bool:
        """Whether libblkid has found something on it. A partition has its disk's ID_PART_TABLE_TYPE."""
        names = ("ID_FS_TYPE", "ID_FS_AMBIVALENT", *(() if self.partition else ("ID_PART_TABLE_TYPE",)))
        return any(name in self.udev for name in names)

    @property
    def system_use(self) -> str:
        """Why a partition of its type is never a data filesystem, or ""."""
        return _SYSTEM_PARTITIONS.get(self.udev.get("ID_PART_ENTRY_TYPE", "").lower(), "")

    @property
    def end(self) -> int:
        """The offset of the first byte after it, from the beginning of the disk."""
        return self.start + self.size


@dataclass(frozen=True, slots=True)
class Disk:
    """A whole disk, its partitions in the order of their offsets, and its attachment."""

    device: Device
    partitions: tuple[Device, ...] = ()
    transport: Transport | None = None
    #: Why a disk with this attachment is never a data disk; "" for those that may be one.
    excluded: str = ""
    #: The kernel's number of this attachment (diskseq), unique in a boot; "" before Linux 5.15.
    diskseq: str = ""
    #: Bytes of a logical sector, the unit of the disk's partition table.
    sector_size: int = SECTOR

    @property
    def name(self) -> str:
        """The kernel's name of the whole disk."""
        return self.device.name

    @property
    def devices(self) -> tuple[Device, ...]:
        """The whole disk and each partition."""
        return (self.device, *self.partitions)

    @property
    def identity(self) -> str:
        """The disk's serial number or WWN, which does not depend on its attachment, or ""."""
        udev = self.device.udev
        return udev.get("ID_SERIAL") or udev.get("ID_WWN") or ""


def names(host: Host) -> list[str]:
    """Return all whole disks that are present, in bus order."""
    disks = []
    for name in listed(host, BLOCK):
        path = devpath(host, name)
        if path and not host.exists(f"{path}/partition") and attribute(host, f"{path}/hidden") != "1":
            disks.append(([_natural(part) for part in path.split("/")], name))
    return [name for _, name in sorted(disks)]


def whole_disk(host: Host, name: str) -> str:
    """Return the whole disk of a device: ``name`` itself if it is one, or does not exist any more."""
    path = devpath(host, name)
    return path.split("/")[-2] if path and host.exists(f"{path}/partition") else name


def devpath(host: Host, name: str) -> str:
    """Return the device's real path below /sys/devices, "" if there is no such device."""
    path = _followed(host, f"{BLOCK}/{name}")
    return path if host.live else path.removeprefix(os.path.realpath(host.root))


def devno_of(host: Host, name: str) -> str:
    """Return ``major:minor`` of a block device by its kernel name, "" if there is none."""
    return attribute(host, f"{BLOCK}/{name}/dev") if name else ""


def name_of(host: Host, devno: str) -> str:
    """Return the kernel name of ``major:minor``, "" if there is no such block device."""
    return os.path.basename(_followed(host, f"/sys/dev/block/{devno}"))


def with_partitions(host: Host, disk: str) -> list[str]:
    """Return the kernel names of a disk and of its partitions, in order."""
    parts = _partitions(host, devpath(host, disk))
    return [disk, *sorted(parts, key=lambda part: (len(part), part))]


def underlying_disks(host: Host, name: str) -> set[str]:
    """Return the whole disks below a device, through dm and md; for a disk, the disk itself."""
    return {whole_disk(host, bottom) for bottom in underlying_devices(host, name)}


def underlying_devices(host: Host, name: str) -> set[str]:
    """Return the disks and partitions below a device, through dm and md; for one of them, itself."""
    slaves = listed(host, f"{BLOCK}/{name}/slaves")
    return {bottom for slave in slaves for bottom in underlying_devices(host, slave)} if slaves else {name}


def read(
    host: Host, name: str, properties: Callable[[str], dict[str, str]], *, opened: bool = True
) -> Disk | None:
    """Return the present state of the whole disk ``name``, None if it is gone.

    ``properties`` returns udev's properties by kernel name. ``opened``: as ``with_beginnings`` returns it.
    Raise HostError as ``probe`` does.
    """
    path = devpath(host, name)
    if not path:
        return None
    bus, excluded = attachment(host, path)
    inside = _partitions(host, path)
    parts = [_device(host, f"{path}/{entry}", properties(entry), probe=not excluded) for entry in inside]
    disk = Disk(
        _device(host, path, properties(name), probe=not excluded),
        tuple(sorted(parts, key=lambda part: part.start)),
        bus,
        excluded,
        attribute(host, f"{path}/diskseq"),
        number(attribute(host, f"{path}/queue/logical_block_size")) or SECTOR,
    )
    return with_beginnings(host, disk) if opened else disk


def with_beginnings(host: Host, disk: Disk) -> Disk:
    """Return the disk after opening and reading the beginning of each device on which udev found nothing:
    whether it is all zero, or why it cannot be read.
    """
    if disk.excluded:
        return disk
    whole = disk.device if disk.partitions else _opened(host, disk.device)
    parts = tuple(_opened(host, part) for part in disk.partitions)
    if (whole, parts) == (disk.device, disk.partitions):
        return disk
    from agent.lib.records import replace

    return replace(disk, device=whole, partitions=parts)


def probe(host: Host, node: str) -> dict[str, str]:
    """Return what libblkid finds on the device, under udev's names; nothing also if it cannot read it.

    Raise HostError if blkid does not end, or ends with an error.
    """
    asked = ("blkid", "-p", "-o", "udev", node)
    done = host.run(asked, changes=False, check=False, timeout=_PROBE_TIMEOUT)
    if done.returncode not in _PROBED:
        raise HostError(f"{node}: blkid ended with status {done.returncode}")
    pairs = (line.partition("=") for line in lines(done.stdout))
    return {key: value for key, _, value in pairs if key.startswith("ID_")}


def read_at(host: Host, node: str, size: int, offset: int) -> bytes:
    """Return bytes of a device from an offset. Raise HostError if it cannot be read."""
    try:
        with host.opened(node, os.O_RDONLY) as descriptor:
            return os.pread(descriptor, size, offset)
    except OSError as error:
        raise HostError(f"{node}: cannot be read: {error.strerror}") from error


def is_claimed(host: Host, node: str) -> bool:
    """Return whether a device is in exclusive use: by a mount, swap, the device mapper, ZFS, a hypervisor.
    The test itself claims a free one for a moment.
    """
    try:
        os.close(os.open(host.path(node), os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        return error.errno == errno.EBUSY
    return False


def current_size(host: Host, name: str) -> int:
    """Return the device's present size in bytes, 0 if it is gone."""
    return (number(attribute(host, f"{BLOCK}/{name}/size")) or 0) * SECTOR


def _partitions(host: Host, path: str) -> list[str]:
    """Return the kernel names of the partitions of the disk at a sysfs path; each begins with the disk's."""
    name = os.path.basename(path)
    inside = (entry for entry in listed(host, path) if entry.startswith(name))
    return [entry for entry in inside if host.exists(f"{path}/{entry}/partition")]


def _followed(host: Host, link: str) -> str:
    """Return the folder that a link of sysfs leads to, "" for none. One step: there are no other links."""
    name = host.path(link)
    try:
        path = os.path.normpath(f"{os.path.dirname(name)}/{os.readlink(name)}")
    except OSError:  # no link, or ``host.path`` followed it (a root that is not this system's)
        path = os.path.realpath(name)
    return path if os.path.isdir(path) else ""


def _device(host: Host, path: str, udev: dict[str, str], *, probe: bool) -> Device:
    name, size = path.rpartition("/")[2], (number(attribute(host, f"{path}/size")) or 0) * SECTOR
    device = Device(
        name,
        attribute(host, f"{path}/dev"),
        size,
        (number(attribute(host, f"{path}/start")) or 0) * SECTOR,
        number(attribute(host, f"{path}/partition")) or 0,
        attribute(host, f"{path}/ro") == "1",
        tuple(listed(host, f"{path}/holders")),
        udev,
    )
    # Once udev has processed a device, no result means that nothing was found. Before that, any result
    # counts.
    answered = "USEC_INITIALIZED" in udev or "ID_FS_USAGE" in udev or device.has_contents
    return _with_probe(host, device) if probe and size and not answered else device


def _with_probe(host: Host, device: Device) -> Device:
    from agent.lib.records import replace

    return replace(device, udev=probe(host, device.node) | dict(device.udev))


def _opened(host: Host, device: Device) -> Device:
    if not device.size or device.has_contents or device.system_use:
        return device
    from agent.lib.records import replace

    try:
        with host.opened(device.node, os.O_RDONLY | os.O_NONBLOCK) as descriptor:
            data = b"".join(os.pread(descriptor, _BEGINNING, offset) for offset in _BEGINNINGS)
    except HostError:
        return device  # it is gone, or opened exclusively: not known to be broken
    except OSError as error:
        return replace(device, error=error.strerror or "unknown error")
    return replace(device, is_raw=True) if data.strip(b"\0") else device


def _unescaped(text: str) -> bytes:
    """Return the bytes of a value in which udev has escaped some."""
    data = os.fsencode(text)
    return re.sub(_ESCAPE, lambda found: bytes([int(found[1], 16)]), data) if b"\\x" in data else data


def _natural(part: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key under which 2 comes before 10. PCI addresses are hexadecimal of a fixed width, so
    their text is the key.
    """
    if re.fullmatch(_PCI_ADDRESS, part):
        return ((1, 0, part),)
    pieces = re.findall(r"[0-9]+|[^0-9]+", part)
    values = ((piece, number(piece)) for piece in pieces)
    return tuple((1, 0, piece) if value is None else (0, value, "") for piece, value in values)
