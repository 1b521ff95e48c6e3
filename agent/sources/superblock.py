"""Recognise a configuration drive by two reads and without a process: an ISO 9660 or FAT filesystem with one
of the known labels. Only if that matches, libblkid is run; it must find no other signature.
"""

from __future__ import annotations

import os

from agent.block import storage
from agent.host.sysfs import devnode
from agent.lib.errors import HostError
from agent.lib.records import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from agent.host.host import Host

FILESYSTEMS = frozenset({"iso9660", "vfat"})
#: ECMA-119, 8.4: offset of the primary volume descriptor (sector 16), how it begins, and its volume
#: identifier.
_VOLUME, _ISO, _VOLUME_LABEL = 16 * 2048, b"\x01CD001\x01", slice(40, 72)
#: Microsoft's FAT specification, 3.1 to 3.3: offsets of type and label in FAT12 and FAT16, then in FAT32.
_FAT = ((54, slice(43, 54)), (82, slice(71, 82)))
_SIGNATURE, _SECTOR = slice(510, 512), 512
#: Written by formatters where there is no label, or where it is in the root folder only.
_NO_NAME = frozenset({"", "no name"})


@dataclass(frozen=True, slots=True)
class LabelledDevice:
    """A device with a filesystem that has one of the known labels (in lower case)."""

    name: str
    devno: str
    fstype: str
    label: str

    @property
    def node(self) -> str:
        """The path of its device node."""
        return devnode(self.name)


def labelled(host: Host, name: str, labels: Collection[str]) -> LabelledDevice | None:
    """Return the device if it has one of the labels (lower case), None also if it cannot be read."""
    guess = _guess(host, name)
    if guess is None or (guess not in labels and guess not in _NO_NAME):
        return None
    found = storage.probe(host, devnode(name))
    names = (found.get(key, "").lower() for key in ("ID_FS_LABEL", "ID_FS_LABEL_FATBOOT"))
    label = next((label for label in names if label in labels), "")
    if not label or found.get("ID_FS_TYPE") not in FILESYSTEMS or "ID_FS_AMBIVALENT" in found:
        return None
    return LabelledDevice(name, storage.devno_of(host, name), found["ID_FS_TYPE"], label)


def _guess(host: Host, name: str) -> str | None:
    """Return the label in the superblock, in lower case; None without one of these filesystems."""
    if storage.current_size(host, name) < _VOLUME + _SECTOR:
        return None
    try:
        # O_NONBLOCK: without it, opening an optical drive closes its tray.
        with host.opened(devnode(name), os.O_RDONLY | os.O_NONBLOCK) as device:
            volume = os.pread(device, 2048, _VOLUME)
            boot = os.pread(device, _SECTOR, 0)
    except (OSError, HostError):
        # A drive without a medium, or one that went away.
        return None
    if volume.startswith(_ISO):
        return _text(volume[_VOLUME_LABEL])
    if boot[_SIGNATURE] == b"\x55\xaa":
        return next((_text(boot[label]) for kind, label in _FAT if boot[kind : kind + 3] == b"FAT"), None)
    return None


def _text(field: bytes) -> str:
    return field.rstrip(b" \0").decode("ascii", "replace").lower()
