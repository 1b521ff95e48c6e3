"""``disk_setup`` and ``fs_setup`` of ``#cloud-config``: partition tables and filesystems to make."""

from __future__ import annotations

import re

from agent.config import system
from agent.lib.records import dataclass
from agent.reader.common import fields, values
from agent.reader.common.lenient import unused, value
from agent.reader.common.problem import shown
from agent.reader.common.values import Choice
from agent.reader.formats import cloud_system_values as written_as

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.reader.common.merge import Draft

_STABLE = "/dev/disk/by-"
_KINDS = {"gpt": "gpt", "mbr": "dos"}
#: GUIDs of types of partitions, by sgdisk's codes, which cloud-init takes too.
_GUIDS = {
    "": "0FC63DAF-8483-4772-8E79-3D69D8477DE4",
    "8200": "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F",
    "8300": "0FC63DAF-8483-4772-8E79-3D69D8477DE4",
    "8e00": "E6D6D379-F507-44C2-A23C-238F2A3DF928",
    "ef00": "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
    "fd00": "A19D880F-05FC-4D3B-A006-743F0F84911E",
}
_GUID = re.compile("[0-9A-F]{8}(?:-[0-9A-F]{4}){3}-[0-9A-F]{12}")
#: Most partitions of a table: an msdos table has four without an extended one, for a GPT any bound will do.
_MOST = {"gpt": 32, "mbr": 4}


def layout(written: object) -> tuple[tuple[int, str], ...]:
    """Return the percentage of the disk and the type of each partition; none of them for false."""
    if isinstance(written, list):
        return tuple(_partition(one) for one in written)
    return ((100, ""),) if values.boolean(written) else ()


def _partition(written: object) -> tuple[int, str]:
    size, code = written if isinstance(written, list) and len(written) == 2 else (written, "")
    percent = re.fullmatch("[0-9]{1,3}", fields.stripped(values.word(size)))
    if percent is None or not 1 <= int(percent[0]) <= 100:
        raise ValueError("not a percentage of the disk; write 1 to 100, or [PERCENT, TYPE]")
    return int(percent[0]), fields.stripped(values.word(code))


@dataclass(frozen=True, slots=True)
class DiskSetup:
    """``disk_setup.DEVICE``."""

    table_type: str = value(Choice(tuple(_KINDS)), "mbr", exact=True)
    layout: tuple[tuple[int, str], ...] = value(layout, (), exact=True)
    overwrite: bool = value(values.boolean, default=False, exact=True)


def _filesystem(written: object) -> str:
    if fields.stripped(written).lower() == "swap":
        raise ValueError("no partition is made swap; write swap with its size, for a file")
    return Choice(("ext4", "xfs", "btrfs"))(written)


@dataclass(frozen=True, slots=True)
class Filesystem:
    """``fs_setup[]``."""

    device: str = value(written_as.device, exact=True)
    filesystem: str = value(_filesystem, exact=True)
    label: str = value(written_as.label, "", exact=True)
    partition: str = value(written_as.partition, "", exact=True)
    overwrite: bool = value(values.boolean, default=False, exact=True)


unused(DiskSetup)
unused(
    Filesystem,
    refused={
        "replace_fs": "a filesystem is replaced with overwrite only",
        "extra_opts": "no options of mkfs are passed on",
        "cmd": "no other command makes filesystems: run it by bootcmd",
    },
)


def tables(
    found: Mapping[str, DiskSetup | None] | None, name: str, draft: Draft
) -> tuple[system.PartitionTable, ...]:
    """Return the partition tables; each invalid one is left out and reported."""
    made: list[system.PartitionTable] = []
    for key, one in (found or {}).items():
        try:
            device = written_as.device(key)
            if one:
                _refuse_unstable(device, overwrite=one.overwrite)
                made.append(_table(device, one))
        except ValueError as error:
            draft.add_refused(f"{name}: disk_setup.{shown(key)}", error)
    return tuple(made)


def _table(device: str, one: DiskSetup) -> system.PartitionTable:
    if not one.layout:
        raise ValueError("a table without partitions; write layout: true, or a list of percentages")
    if len(one.layout) > _MOST[one.table_type] or sum(percent for percent, _ in one.layout) > 100:
        most = _MOST[one.table_type]
        raise ValueError(f"more than 100 percent or {most} partitions; write less")
    parts = tuple((percent, _type(code, one.table_type)) for percent, code in one.layout)
    return system.PartitionTable(device, _KINDS[one.table_type], parts, one.overwrite)


def _type(code: str, kind: str) -> str:
    """Return the type of a partition as sfdisk(8) takes it."""
    found = code.upper() if kind == "gpt" else code.lower() or "83"
    if kind == "gpt":
        # The type of an msdos table stands for sgdisk's, as in cloud-init's documentation.
        found = _GUIDS.get(code.lower(), "") or _GUIDS.get(f"{code.lower()}00", found)
    if not (_GUID if kind == "gpt" else re.compile("[0-9a-f]{1,2}")).fullmatch(found):
        hint = "a GUID or one of 8200, 8300, 8e00, ef00, fd00" if kind == "gpt" else "two hexadecimal digits"
        raise ValueError(f"not a type of a partition in this table; write {hint}")
    return found


def filesystems(
    found: Iterable[Filesystem | None] | None, name: str, draft: Draft
) -> tuple[system.Filesystem, ...]:
    """Return the filesystems; each that could be written to another disk is left out and reported."""
    made: list[system.Filesystem] = []
    for place, one in enumerate(found or ()):
        if one is None:
            continue
        try:
            _refuse_unstable(one.device, overwrite=one.overwrite)
        except ValueError as error:
            draft.add_refused(f"{name}: fs_setup[{place}]", error)
        else:
            made.append(
                system.Filesystem(one.device, one.filesystem, one.label, one.partition, one.overwrite)
            )
    return tuple(made)


def _refuse_unstable(device: str, *, overwrite: bool) -> None:
    if overwrite and not device.startswith(_STABLE):
        what = "overwrite of a device that may have another name at the next boot"
        raise ValueError(f"{what}; name it by a link in /dev/disk")
