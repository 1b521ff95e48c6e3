"""Decide what to do with a block device: a pure function from facts to a decision with its reason.

No I/O here: the hard cases are rows of tests/unit/disks/test_policy.py, and ``gandi-agent disks`` prints the
decision. The rules are in the order of their reasons' importance to users.
"""

from __future__ import annotations

import itertools
import os

from agent.block import storage
from agent.block.mounts import is_claimed_as
from agent.config.settings import MountMode
from agent.disks.base.facts import Decision, Facts, Format, Leave, Machine, MountAt, Mounted, Place
from agent.reader.dialects import DIALECTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.block.storage import Device, Disk
    from agent.config.settings import Settings

#: Filesystems that are mounted automatically; cluster filesystems (gfs2, ocfs2) are shared by several
#: machines.
MOUNTED_TYPES = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "vfat", "exfat"})
#: Labels of configuration drives, in lower case; CONFIG_CONFIGDRIVE_LABEL adds one.
DRIVE_LABELS = frozenset({"config"}.union(*(dialect.labels for dialect in DIALECTS.values())))
SWAP_NAME = "gandiswap"
PARTED = "has partitions; each is looked at by itself"
#: Filesystems without owners and modes: mount options set them.
FAT = frozenset({"vfat", "exfat"})
#: Bytes of the longest file name in Linux (NAME_MAX).
LONGEST = 255
#: Characters of a label that stay in a mountpoint's name, beside Unicode letters and digits.
_KEPT = frozenset("._+-")
#: Bit 63 of a GPT entry's attributes: "do not mount automatically" (Discoverable Partitions Specification).
_NO_AUTO = 1 << 63
#: The remedy for a disk with read errors; udev must read it again.
_BROKEN = "see: journalctl -k; when it answers again: udevadm trigger --subsystem-match=block"
_SIGNATURES = {
    "swap": "a swap disk",
    "LVM2_member": "holds an LVM volume",
    "crypto_LUKS": "encrypted",
    "iso9660": "an optical image",
    "udf": "an optical image",
}


def decide(facts: Facts) -> Decision:
    """Return the decision on the device. The first rule with a reason to leave it alone decides."""
    if decision := at_once(facts):
        return decision
    to_format = _to_format(facts)
    for rule in _UNFIT:
        if reason := "" if rule is _content and to_format else rule(facts):
            broken = rule is _content and bool(facts.device.error)
            return Leave(reason, quiet=reason == PARTED, remedy=_BROKEN if broken else "")
    return Format(to_format) if to_format else _place(facts)


def at_once(facts: Facts) -> Decision | None:
    """Return the decision on the device if it depends on no other disk, else None. Of the machine only the
    mounts and the root disks are used.
    """
    for rule in _FOREIGN:
        if reason := rule(facts):
            return Leave(reason, quiet=rule is _root)
    mountpoint = mounted_at(facts.machine, facts.device)
    return Mounted(mountpoint) if mountpoint else None


def mounted_at(machine: Machine, device: Device) -> str:
    """Return the device's first mountpoint, or ""."""
    return next((mount.mountpoint for mount in machine.mounts if device.devno in mount.devnos), "")


def why_not_grown(facts: Facts) -> str:
    """Return why a device must not be grown, also if the agent has not mounted it, or ""."""
    return next((reason for rule in (*_FOREIGN, _unwanted) if (reason := rule(facts))), "")


# -- not for the agent: the reason is reported even if it is mounted -----------------------------


#: udev properties of devices that must not be touched; the last one is set by multipath-tools.
_FLAGS = (
    ("SYSTEMD_READY", "0"),
    ("UDISKS_IGNORE", "1"),
    ("GANDI_IGNORE", "1"),
    ("DM_MULTIPATH_DEVICE_PATH", "1"),
)


def _attachment(facts: Facts) -> str:
    return facts.disk.excluded


def _flagged(facts: Facts) -> str:
    for device in (facts.disk.device, facts.device):
        for name, value in _FLAGS:
            if device.udev.get(name) == value:
                return f"udev says {name}={value}"
    return ""


def _root(facts: Facts) -> str:
    return "on the root disk" if facts.disk.name in facts.machine.root_disks else ""


_FOREIGN: tuple[Callable[[Facts], str], ...] = (_attachment, _flagged, _root)


# -- not fit to be mounted ------------------------------------------------------------------------


def _used(facts: Facts) -> str:
    device = facts.device
    if device.devno in facts.machine.swaps:
        return "in use as swap"
    # For LVM and LUKS, _content has a better reason than the name of the device on it.
    if device.holders and device.fstype not in storage.STACKED:
        return f"held by {', '.join(device.holders)}"
    return ""


def _system_partition(facts: Facts) -> str:
    device = facts.device
    if device.part_name == SWAP_NAME:
        return "the swap disk"
    if facts.settings.swap_device and is_claimed_as(device, facts.settings.swap_device):
        return "the swap disk (CONFIG_SWAP_DEVICE)"
    if int(device.udev.get("ID_PART_ENTRY_FLAGS", "0"), 16) & _NO_AUTO and device.partition:
        return "its partition says that it is not to be mounted automatically"
    return device.system_use


def _content(facts: Facts) -> str:
    device, fstype = facts.device, facts.device.fstype
    if not device.partition and facts.disk.partitions:
        return PARTED
    if "ID_FS_AMBIVALENT" in device.udev:
        return "more than one signature on it"
    if not fstype:
        # A partition inherits this property from its disk.
        is_table = not device.partition and "ID_PART_TABLE_TYPE" in device.udev
        if device.error:
            return f"cannot be read: {device.error}"
        return "an empty partition table" if is_table else "no filesystem on it"
    if fstype in _SIGNATURES:
        return _SIGNATURES[fstype]
    if device.usage != "filesystem" or fstype.endswith("_member"):
        return f"holds {fstype}"
    if fstype not in MOUNTED_TYPES:
        return f"{fstype} is not mounted by itself"
    if device.udev.get("ID_BTRFS_READY") == "0":
        return "a btrfs of several devices that are not all there"
    return ""


def _config_drive(facts: Facts) -> str:
    label = facts.device.label.lower()
    names = DRIVE_LABELS | {facts.settings.configdrive_label.lower()}
    return "a configuration drive" if os.fsdecode(label) in names else ""


def _claim(facts: Facts) -> str:
    for claim in facts.machine.claims:
        if claim.what and is_claimed_as(facts.device, claim.what):
            return f"the administrator's: {claim.origin}"
    return ""


def _duplicate(facts: Facts) -> str:
    # Once: a property is made of udev's at each access, and there may be hundreds of other filesystems.
    devno, uuid, label = facts.device.devno, facts.device.uuid.lower(), facts.device.label
    for other in facts.machine.filesystems:
        if other.devno == devno:
            continue
        if uuid and uuid == other.uuid.lower():
            return f"the same filesystem UUID as what is mounted at {other.mountpoint}"
        if label and label == other.label and not other.ours:
            return f"the same label as what is mounted at {other.mountpoint}"
    return ""


def _unwanted(facts: Facts) -> str:
    ignored, only = facts.settings.disk_ignore, facts.settings.disk_only
    if not (ignored or only):
        return ""
    from fnmatch import fnmatchcase

    named = [name for name in _names(facts) if name]
    for pattern in ignored:
        if any(fnmatchcase(name, pattern) for name in named):
            return f"CONFIG_DISK_IGNORE={pattern}"
    if only and not any(fnmatchcase(name, pattern) for name in named for pattern in only):
        return "not in CONFIG_DISK_ONLY"
    return ""


def _names(facts: Facts) -> tuple[str, ...]:
    udev = facts.disk.device.udev
    keys = ("ID_SERIAL", "ID_SERIAL_SHORT", "ID_WWN", "ID_WWN_WITH_EXTENSION", "ID_PATH")
    own = facts.device.udev.get("ID_PATH", "")
    return (os.fsdecode(facts.device.label), own, *(udev.get(key, "") for key in keys))


def _switched_off(facts: Facts) -> str:
    if not facts.settings.allow_mount:
        return "CONFIG_ALLOW_MOUNT=0"
    mode = facts.settings.mount_mode
    return "" if mode is MountMode.DIRECT else f"mount mode {mode}"


def _released(facts: Facts) -> str:
    return "released by the administrator" if facts.device.name in facts.machine.released else ""


_UNFIT: tuple[Callable[[Facts], str], ...] = (
    _used,
    _system_partition,
    _content,
    _config_drive,
    # Before _claim: fstab's entry with the UUID of a disk claims its copy too, but "copy" is the reason.
    _duplicate,
    _claim,
    _unwanted,
    _switched_off,
    _released,
)


def _to_format(facts: Facts) -> str:
    """Return the filesystem type of CONFIG_DISK_FORMAT if the disk is new, and blank according to udev, or
    "". Other rules that leave the disk alone come first.
    """
    udev = facts.device.udev
    has_any = any(key.startswith(("ID_FS_", "ID_PART_TABLE_")) for key in udev) or facts.disk.partitions
    may = facts.is_new and not facts.device.partition and not facts.device.readonly and not has_any
    return facts.settings.disk_format if may else ""


# -- where ----------------------------------------------------------------------------------------


def _place(facts: Facts) -> MountAt:
    machine, device = facts.machine, facts.device
    wanted = folder_name(device.label) or device.name.replace("!", "_")
    known = str(facts.remembered.get(device.uuid, {}).get("at", ""))
    fresh = (f"{machine.disk_root}/{numbered_name(wanted, number)}" for number in itertools.count(1))
    first = (known,) if known.rpartition("/")[0] == machine.disk_root else ()
    taken = _taken(facts)
    mountpoint = next(path for path in itertools.chain(first, fresh) if path not in taken)
    warning = "over a folder that is not empty" if machine.places.get(mountpoint) is Place.FULL else ""
    return MountAt(mountpoint, options(facts.settings, facts.device), warning)


def folder_name(label: bytes) -> str:
    """Return a label, which may be any bytes, as a folder's name: Unicode letters, digits and ``._+-`` stay,
    every other character becomes ``_``; "" stays "".

    A leading dot becomes ``_`` too, so that the name is neither hidden nor ``..``.
    """
    text = label.decode("utf-8", "replace")
    name = "".join(char if char.isalpha() or char.isdecimal() or char in _KEPT else "_" for char in text)
    if name.startswith("."):
        name = "_" + name[1:]
    return _cut(name, LONGEST)


def numbered_name(name: str, number: int) -> str:
    """Return the name for the ``number``-th filesystem with it: unchanged, then with ``_2``, ``_3``."""
    if number < 2:
        return name
    suffix = f"_{number}"
    return _cut(name, LONGEST - len(suffix)) + suffix


def _cut(name: str, limit: int) -> str:
    """Return at most ``limit`` bytes of the name, cut between two characters."""
    return name.encode()[:limit].decode("utf-8", "ignore")


def _taken(facts: Facts) -> set[str]:
    machine = facts.machine
    others = {uuid: entry for uuid, entry in facts.remembered.items() if uuid != facts.device.uuid}
    here = identity(facts.disk, facts.device)
    return {
        *(mount.mountpoint for mount in machine.mounts),
        *(other.mountpoint for other in machine.filesystems if other.devno != facts.device.devno),
        *(claim.where.rstrip("/") for claim in machine.claims if claim.where),
        *(path for path, place in machine.places.items() if place is Place.OTHER),
        # A filesystem that this one has overwritten no longer keeps its stored mountpoint.
        *(str(entry.get("at", "")) for entry in others.values() if not here or entry.get("on") != here),
    }


def identity(disk: Disk, device: Device) -> str:
    """Return a name for this partition of this disk, or "" if the disk has no serial number."""
    return f"{disk.identity} {device.partition}" if disk.identity else ""


def options(settings: Settings, device: Device) -> str:
    """Return the mount options of a data disk."""
    given = settings.mount_params.split(",")
    if device.readonly:
        given = ["ro", *(option for option in given if option not in ("rw", "ro", "defaults"))]
    if device.fstype in FAT:
        set_already = {option.partition("=")[0] for option in given}
        owned = _owned(settings, device)
        given += [option for option in owned if option.partition("=")[0] not in set_already]
    return ",".join(option for option in given if option) or "defaults"


def _owned(settings: Settings, device: Device) -> tuple[str, ...]:
    """Return the options of FAT for names in UTF-8, owner and mode: root, or as in CONFIG_MOUNT_OWNER. The
    mode is for folders; files get it without the right to execute.
    """
    names = ("utf8=1",) if device.fstype == "vfat" else ()
    if not settings.mount_owner:
        return (*names, "dmask=0022", "fmask=0133")
    user, group, mode = settings.mount_owner.split(":")
    mask = ~int(mode, 8) & 0o777
    return (*names, f"uid={user}", f"gid={group}", f"dmask={mask:04o}", f"fmask={mask | 0o111:04o}")
