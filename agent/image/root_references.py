"""References to the filesystems of a disk, in the texts that a boot reads: fstab, crypttab, command lines
of a kernel. What leads to no partition of the disk any more, or goes by a name that depends on the bus, is
replaced by the UUID of the filesystem that it means.

These are functions of texts and facts, without effects. What may be on another disk stays as it is.
"""

from __future__ import annotations

import re

from agent.block import fstab
from agent.lib.records import dataclass
from agent.lib.text import BLANKS, lines, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: A kernel's name of a partition: the disk, and the number of the partition.
_KERNEL_NAME = re.compile(
    r"/dev/(?:((?:sd|vd|xvd|hd)[a-z]{1,3})|(nvme[0-9]+n[0-9]+|mmcblk[0-9]+)p)([0-9]{1,3})"
)
#: The first disk of each bus.
_FIRST = re.compile(r"(?:sd|vd|xvd|hd)a|nvme0n1|mmcblk0")
_BY = {"by-uuid": "uuid", "by-label": "label", "by-partuuid": "partuuid"}
_TAGS = {"UUID": "uuid", "LABEL": "label", "PARTUUID": "partuuid", "PARTLABEL": ""}
#: Mountpoints of the system's own filesystems, beside the root.
BOOT = "/boot"
SYSTEM = (BOOT, "/boot/efi", "/efi")
SWAP, LUKS = "swap", "crypto_LUKS"
#: What has other filesystems inside, which nothing here looks for.
_VOLUMES = ("LVM2_member", "linux_raid_member")
_ALL_VOLUMES = (*_VOLUMES, LUKS)


@dataclass(frozen=True, slots=True)
class Part:
    """A filesystem, swap or encrypted volume of the disk, by what udev calls it; 0 is the whole disk."""

    number: int
    fstype: str
    uuid: str
    label: str = ""
    partuuid: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """A reference: where it is, as it was, and as it is now; without ``now`` it stays, for the reason
    ``why``.
    """

    where: str
    was: str
    now: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Disk:
    """The parts of the disk, which one is the root filesystem, and which one has /boot, None if that is the
    root. ``former`` is the kernel's name that the disk had in fstab, "" if that goes by UUIDs.
    """

    parts: tuple[Part, ...]
    root: Part
    former: str = ""
    boot: Part | None = None

    def of_type(self, *types: str) -> tuple[Part, ...]:
        """Return the parts of these types."""
        return tuple(part for part in self.parts if part.fstype in types)

    def meant(self, spec: str) -> tuple[Part | None, bool]:
        """Return the part that a specification leads to, or None, and whether it does so on any bus."""
        spec = spec.replace('"', "").replace("'", "")
        if found := _KERNEL_NAME.fullmatch(spec):
            disk, number = found[1] or found[2], int(found[3])
            is_ours = disk == self.former or (not self.former and _FIRST.fullmatch(disk))
            return next((p for p in self.parts if is_ours and p.number == number), None), False
        tag, equals, value = spec.partition("=")
        field = _TAGS.get(tag.upper(), "") if equals else ""
        if spec.startswith("/dev/disk/"):
            folder, _, value = spec.removeprefix("/dev/disk/").partition("/")
            field = _BY.get(folder, "")
        if not field or not value:
            return None, True
        found_part = (p for p in self.parts if str(getattr(p, field)).lower() == value.lower())
        return next(found_part, None), True


def former_disk(text: str) -> str:
    """Return the kernel's name of the disk in the root's entry of an fstab, "" if it has none."""
    for line in lines(text):
        fields = words(line)
        if len(fields) > 1 and fields[1] == "/" and (found := _KERNEL_NAME.fullmatch(fields[0])):
            return found[1] or found[2]
    return ""


def mended_fstab(text: str, disk: Disk) -> tuple[str, list[Change]]:
    """Return the table with its entries of the disk by their UUIDs, and each entry that was looked at."""
    made: list[str] = []
    changes: list[Change] = []
    taken = _taken((words(line)[0] for line in lines(text) if words(line)), disk)
    for line in lines(text):
        fields = words(line)
        if len(fields) < 3 or line.lstrip(BLANKS).startswith("#") or not _is_device(fields[0]):
            made.append(line)
            continue
        change = _entry(fields, disk, taken)
        if change and change.now:
            fields[0] = change.now
            taken.add(change.now)
            if fields[1] == "/" and fields[2] not in (disk.root.fstype, "auto"):
                fields[2:4] = [disk.root.fstype, "defaults"]
            line = " ".join(fields)
        changes += [change] if change else []
        made.append(line)
    if not any(words(line)[1:2] == ["/"] for line in made if not line.lstrip(BLANKS).startswith("#")):
        made.append(fstab.line(f"UUID={disk.root.uuid}", "/", disk.root.fstype, "defaults", 0, 1))
        changes.append(Change("/", "no entry", f"UUID={disk.root.uuid}"))
    return "".join(f"{line}\n" for line in made), changes


def system_parts(text: str, disk: Disk) -> dict[str, Part]:
    """Return the parts of the disk that a mended fstab mounts as /boot or as ESP, by mountpoint, each before
    those below it.
    """
    entries = (words(line) for line in lines(text) if not line.lstrip(BLANKS).startswith("#"))
    found = {where: disk.meant(spec)[0] for spec, where, *_ in (e for e in entries if len(e) > 2)}
    return {where: part for where in SYSTEM if (part := found.get(where)) and part != disk.root}


def _is_device(spec: str) -> bool:
    """Return whether it names a partition. /dev/mapper and the like name what is made of others."""
    if spec.startswith("/dev/"):
        return spec.startswith("/dev/disk/") or bool(_KERNEL_NAME.fullmatch(spec))
    return spec.partition("=")[0].upper() in _TAGS


def _taken(specs: Iterable[str], disk: Disk) -> set[str]:
    """Return the parts to which an entry leads, which no other entry may get."""
    return {f"UUID={part.uuid}" for spec in specs if (part := disk.meant(spec)[0])}


def _free(parts: Iterable[Part], taken: set[str]) -> tuple[Part, ...]:
    return tuple(part for part in parts if f"UUID={part.uuid}" not in taken)


def _entry(fields: Sequence[str], disk: Disk, taken: set[str]) -> Change | None:
    spec, where, fstype = fields[:3]
    if where == "/":
        return _replaced(where, spec, disk, (disk.root,))
    part, _ = disk.meant(spec)
    if part is not None or (fstype != SWAP and where not in SYSTEM):
        return _replaced(where if fstype != SWAP else SWAP, spec, disk, ())
    candidates = _free(disk.of_type(fstype), taken | {f"UUID={disk.root.uuid}"})
    return _replaced(where if fstype != SWAP else SWAP, spec, disk, candidates)


def _replaced(
    where: str, spec: str, disk: Disk, candidates: tuple[Part, ...], volumes: Sequence[str] = _ALL_VOLUMES
) -> Change | None:
    """Return the change of a reference to the one candidate; None if it is right. Without candidates it may
    lead to any part. What leads to none may be within one of these volumes of the disk, except the root.
    """
    part, is_lasting = disk.meant(spec)
    if part is not None and (part in candidates or not candidates):
        return None if is_lasting else Change(where, spec, f"UUID={part.uuid}")
    if len(candidates) == 1 and (candidates[0] == disk.root or not disk.of_type(*volumes)):
        return Change(where, spec, f"UUID={candidates[0].uuid}")
    return Change(where, spec, why="leads to no part of this disk: left, since it may be on another one")


def mended_crypttab(text: str, disk: Disk) -> tuple[str, list[Change]]:
    """Return crypttab(5) with the encrypted volumes of the disk by their UUIDs."""
    made: list[str] = []
    changes: list[Change] = []
    taken = _taken((words(line)[1] for line in lines(text) if len(words(line)) > 1), disk)
    for line in lines(text):
        fields = words(line)
        if len(fields) < 2 or line.lstrip(BLANKS).startswith("#") or not _is_device(fields[1]):
            made.append(line)
            continue
        part, _ = disk.meant(fields[1])
        candidates = _free(disk.of_type(LUKS), taken) if part is None else ()
        change = _replaced(fields[0], fields[1], disk, candidates, _VOLUMES)
        if change and change.now:
            taken.add(change.now)
            line = " ".join((fields[0], change.now, *fields[2:]))
        changes += [change] if change else []
        made.append(line)
    return "".join(f"{line}\n" for line in made), changes


#: A parameter of the kernel's command line that names a device.
_PARAMETER = re.compile(r"(?<![A-Za-z0-9_.])(root|resume)=([^ \t\r\n\"']+)")


def mended_line(text: str, disk: Disk) -> tuple[str, list[Change]]:
    """Return a text with command lines of a kernel, of which root= and resume= lead to the disk."""
    changes: list[Change] = []

    def replaced(found: re.Match[str]) -> str:
        name, spec = found.groups()
        if not _is_device(spec):
            return found[0]
        candidates = (disk.root,) if name == "root" else disk.of_type(SWAP)
        change = _replaced(f"{name}=", spec, disk, candidates)
        changes.extend([change] if change else [])
        return f"{name}={change.now}" if change and change.now else found[0]

    return _PARAMETER.sub(replaced, text), changes


def mended_resume(text: str, disk: Disk) -> tuple[str, list[Change]]:
    """Return a file of initramfs-tools with RESUME= of the swap on the disk; ``none`` if it has no swap."""
    changes: list[Change] = []

    def replaced(found: re.Match[str]) -> str:
        spec = found[2].strip("\"'")
        if not _is_device(spec):
            return found[0]
        swaps = disk.of_type(SWAP)
        is_sure = not swaps and not disk.of_type(*_ALL_VOLUMES)
        change = Change("RESUME=", spec, "none") if is_sure else _replaced("RESUME=", spec, disk, swaps)
        changes.extend([change] if change else [])
        return f"{found[1]}{change.now}" if change and change.now else found[0]

    return re.sub(r"(?m)^([ \t]*RESUME=)([^ \t\r\n]+)", replaced, text), changes


#: How a configuration of GRUB looks for a filesystem, in both forms; hints have no blanks.
_SEARCH = re.compile(
    r"(search\.fs_uuid[ \t]+|--fs-uuid[ \t](?:[^\n]{0,300}[ \t])?--set=root[ \t](?:[^\n]{0,300}[ \t])?)"
    r"([0-9A-Fa-f-]{9,40})(?![A-Za-z0-9_-])"
)


def mended_search(text: str, disk: Disk) -> tuple[str, list[Change]]:
    """Return a configuration of GRUB that looks for the filesystem with /boot by its UUID."""
    changes: list[Change] = []

    def replaced(found: re.Match[str]) -> str:
        change = _replaced("search", f"UUID={found[2]}", disk, (disk.boot or disk.root,))
        changes.extend([change] if change else [])
        return f"{found[1]}{change.now.removeprefix('UUID=')}" if change and change.now else found[0]

    return _SEARCH.sub(replaced, text), changes


def mended_menu(text: str, disk: Disk) -> tuple[str, list[Change]]:
    """Return a grub.cfg that looks for the filesystem with /boot, and starts its kernels with the root."""
    text, searched = mended_search(text, disk)
    text, started = mended_line(text, disk)
    return text, searched + started


def is_right(text: str, disk: Disk) -> bool:
    """Return whether a configuration of GRUB looks for parts of the disk only, and starts its kernels so."""
    uuids = {part.uuid for part in disk.parts}
    searched = {found[2] for found in _SEARCH.finditer(text)}
    return searched <= uuids and not any(change.now for change in mended_line(text, disk)[1])
