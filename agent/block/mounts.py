"""The uses of block devices: the kernel's mounts and swaps, and the administrator's fstab, crypttab and
units.

Facts only, read again for each decision.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache

from agent.block import storage
from agent.host.sysfs import listed
from agent.lib.records import dataclass, replace
from agent.lib.text import lines, words
from agent.systemd import boot_mounts, credentials

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agent.block.storage import Device
    from agent.host.host import Host

MOUNTINFO = "/proc/self/mountinfo"
#: The folders of administrators' units. Units that a generator made of fstab are read from fstab.
_UNIT_FOLDERS = ("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system")
_IN_UNIT = r"^[ \t\r]*(What|Where)[ \t]*=[ \t]*(.*?)[ \t\r]*$"
#: The mountpoints of the system's own disks.
SYSTEM = frozenset({"/", "/usr", "/boot"})
#: A folder for each mounted btrfs, by UUID.
_BTRFS = "/sys/fs/btrfs"
_BY = {"by-uuid": "UUID", "by-label": "LABEL", "by-partuuid": "PARTUUID", "by-partlabel": "PARTLABEL"}

#: Whether this process has reported a line of mountinfo in another format.
_is_reported = False


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo (proc_pid_mountinfo(5)). ``devnos`` are its block devices, as major:minor;
    ``devno`` is the one in the line (for btrfs not that of a device).
    """

    mountpoint: str
    source: str
    fstype: str
    devnos: frozenset[str]
    root: str = "/"
    options: str = ""
    devno: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """A device that the administrator manages: ``what`` is its specification as written, ``where`` its
    mountpoint (or ""), ``origin`` the file and line that say so.
    """

    what: str
    where: str
    origin: str


def mounts(host: Host) -> tuple[Mount, ...]:
    """Return all mounts in the kernel's order; a line in another format is reported and left out."""
    parsed = []
    for line in lines(host.read(MOUNTINFO, limit=16 << 20) or ""):
        mount = _mount(line)
        if mount is None:
            _report(host, line)
        else:
            parsed.append(_with_members(host, mount) if mount.fstype == "btrfs" else mount)
    return tuple(parsed)


def _report(host: Host, line: str) -> None:
    """Write to the journal that a line of mountinfo is left out; once, since it is read for each event."""
    global _is_reported
    if not _is_reported:
        _is_reported = True
        from agent.systemd.journal import Journal

        Journal(host).unread(MOUNTINFO, line)


@lru_cache(maxsize=512)
def _mount(line: str) -> Mount | None:
    """Return the mount of a line, None for a line in another format. Cached: most lines never change.

    The kernel writes one blank between fields, which may be empty, and octal escapes for blanks and line
    ends within a field (show_mountinfo of fs/proc_namespace.c). Every other byte of a subtype or a source,
    which a user may choose, is written unchanged.
    """
    fields = line.split(" ")
    try:
        end = fields.index("-", 6)  # of the optional fields
        fstype, source = fields[end + 1 : end + 3]
    except ValueError:
        return None
    devno, root, at, options = fields[2:6]
    return Mount(
        _unescape(at), _unescape(source), fstype, frozenset({devno}), _unescape(root), options, devno
    )


def _with_members(host: Host, mount: Mount) -> Mount:
    """Return the mount of a btrfs with its device numbers: mountinfo has an anonymous one (0:N)."""
    name = os.path.basename(mount.source)
    numbers = {storage.devno_of(host, member) for member in btrfs_members(host, name) or (name,)}
    return replace(mount, devnos=frozenset(numbers - {""}))


def btrfs_members(host: Host, name: str) -> tuple[str, ...]:
    """Return the kernel names of all devices of the mounted btrfs on device ``name``; none without one."""
    uuid = btrfs_uuid(host, name)
    return tuple(_listed_members(host, uuid)) if uuid else ()


def btrfs_uuid(host: Host, name: str) -> str:
    """Return the UUID of the mounted btrfs on device ``name``, which may have gone; "" without one."""
    known = listed(host, _BTRFS)
    return next((uuid for uuid in known if name in _listed_members(host, uuid)), "")


def _listed_members(host: Host, uuid: str) -> list[str]:
    return listed(host, f"{_BTRFS}/{uuid}/devices")


def root_disks(host: Host, found: Iterable[Mount] | None = None) -> frozenset[str]:
    """Return the disks of the system itself, by ``found`` or the present mounts."""
    here = mounts(host) if found is None else found
    numbers = {number for mount in here if mount.mountpoint in SYSTEM for number in mount.devnos}
    names = (storage.name_of(host, number) for number in numbers)
    return frozenset(disk for name in names if name for disk in storage.underlying_disks(host, name))


def swaps(host: Host) -> frozenset[str]:
    """Return the numbers (major:minor) of the block devices in use as swap."""
    names = (os.path.basename(name) for name in swap_names(host))
    return frozenset(storage.devno_of(host, name) for name in names) - {""}


def swap_names(host: Host) -> list[str]:
    """Return the devices and files in use as swap, as the kernel spells them: the name of a deleted one ends
    in `` (deleted)``.
    """
    entries = map(words, lines(host.read("/proc/swaps") or "")[1:])
    return [_unescape(fields[0]) for fields in entries if fields]


def claims(host: Host) -> tuple[Claim, ...]:
    """Return the devices named in fstab (also with noauto), in systemd's credential fstab.extra, in
    crypttab, and in the administrator's mount, automount and swap units; the agent's own do not count.
    """
    folders = () if host.offline else credentials.FOLDERS
    passed = (f"{folder}/{credentials.FSTAB}" for folder in folders)
    return (
        *_table(host, "/etc/fstab", 0, 1),
        *(claim for path in passed for claim in _table(host, path, 0, 1)),
        *_table(host, "/etc/crypttab", 1, None),
        *_units(host),
    )


def is_claimed_as(device: Device, what: str) -> bool:
    """Return whether a device specification of fstab(5), crypttab(5) or a unit means this device."""
    what = what.replace('"', "").replace("'", "")
    if not what:
        return False
    if what.startswith("/dev/disk/"):
        folder, _, name = what.removeprefix("/dev/disk/").partition("/")
        name = re.sub(r"\\x([0-9a-fA-F]{2})", lambda found: chr(int(found[1], 16)), name)
        what = f"{_BY[folder]}={name}" if folder in _BY else what
    tag, equals, value = what.partition("=")
    if not equals or what.startswith("/"):
        return what == device.node or what in device.udev.get("DEVLINKS", "").split(" ")
    match tag.upper():
        case "UUID":
            return bool(value) and value.lower() == device.uuid.lower()
        case "LABEL":
            return bool(value) and os.fsencode(value) == device.label
        case "PARTUUID":
            return bool(value) and value.lower() == device.udev.get("ID_PART_ENTRY_UUID", "").lower()
        case "PARTLABEL":
            return bool(value) and value == device.part_name
        case "ID":
            return f"/dev/disk/by-id/{value}" in device.udev.get("DEVLINKS", "").split(" ")
    return False


def _table(host: Host, name: str, what: int, where: int | None) -> Iterator[Claim]:
    for number, line in enumerate(lines(host.read(name) or ""), start=1):
        fields = words(line)
        if len(fields) > 1 and not fields[0].startswith("#"):
            at = "" if where is None else _unescape(fields[where])
            yield Claim(_unescape(fields[what]), at if at.startswith("/") else "", f"{name} line {number}")


def _units(host: Host) -> Iterator[Claim]:
    for folder in _UNIT_FOLDERS:
        for name in listed(host, folder):
            if name.endswith((".mount", ".automount", ".swap")):
                text = host.read(f"{folder}/{name}") or ""
                if boot_mounts.is_ours(text):
                    continue
                settings = dict(re.findall(_IN_UNIT, text, re.MULTILINE))
                if settings:
                    yield Claim(settings.get("What", ""), settings.get("Where", ""), f"{folder}/{name}")


def _unescape(text: str) -> str:
    """Return the text without the octal escapes of getmntent(3)."""
    if "\\" not in text:
        return text
    data = re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8) & 0xFF]), os.fsencode(text))
    return os.fsdecode(data)
