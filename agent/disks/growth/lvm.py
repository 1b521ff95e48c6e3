"""LVM: read a physical volume, and grow it and its one logical volume by what its disk has gained.

Free space of a volume group may be reserved for snapshots: a logical volume gets only what its physical
volume gains in this operation. So the sizes of both are stored first: after a power failure the operation
continues, and free space alone never starts one.
"""

from __future__ import annotations

import json

from agent.lib.errors import HostError
from agent.lib.records import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from agent.host.host import Host

    Write = Callable[[Sequence[str]], None]

_PV = ("pv_uuid", "dev_size", "pe_start", "pv_pe_count", "vg_name", "vg_extent_size", "vg_free_count")
_SEGMENT = (
    "vg_name",
    "lv_name",
    "lv_size",
    "segtype",
    "pvseg_start",
    "pvseg_size",
    "pe_start",
    "vg_extent_size",
)
_LV = ("lv_name", "lv_uuid", "lv_size", "lv_layout", "lv_kernel_major", "lv_kernel_minor")
#: Seconds to wait for a report: LVM may have to read each disk of the machine.
_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Lv:
    """A logical volume. ``size`` is in bytes, ``number`` its device's major:minor while it is active."""

    name: str
    uuid: str
    size: int
    layout: str
    number: str


@dataclass(frozen=True, slots=True)
class Pv:
    """A physical volume and its group. ``room``: bytes of its device that it does not cover; ``extent``: the
    size of an extent in bytes; ``extents``: its number of extents; ``free``: free extents of the group.
    """

    room: int
    extents: int
    extent: int
    group: str = ""
    free: int = 0
    volumes: tuple[Lv, ...] = ()


@dataclass(frozen=True, slots=True)
class Before:
    """The sizes before the operation: extents of the physical volume; UUID and bytes of the logical volume
    ("" and 0: none may grow).
    """

    extents: int
    volume: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """A logical volume, and its bytes on its physical volume; 0 and 0 if it is not linear and in one piece
    there.
    """

    group: str
    volume: str
    offset: int = 0
    size: int = 0


def isolated(node: str) -> tuple[str, ...]:
    """Return options with which LVM sees this device alone, and neither activates nor records anything on
    this machine: a volume group of the same name here is another one.
    """
    only = f'["a|^{node}$|","r|.*|"]'
    config = (
        f'devices{{use_devicesfile=0 hints="none" filter={only} global_filter={only}}}'
        " backup{backup=0 archive=0} global{use_lvmlockd=0 use_lvmpolld=0}"
    )
    return ("--driverloaded=n", f"--config={config}")


def pieces(host: Host, node: str, options: tuple[str, ...]) -> tuple[Piece, ...]:
    """Return each volume on the physical volume of a device. Raise HostError."""
    rows = _report(host, "pvs", "pvseg", _SEGMENT, node, ("--segments", *options))
    found = dict[str, Piece]()
    for row in rows:
        if row["lv_name"]:
            piece = _piece(row)
            is_whole = row["segtype"] == "linear" and piece.size == int(row["lv_size"])
            found[piece.volume] = piece if is_whole else Piece(piece.group, piece.volume)
    return tuple(found.values())


def read(host: Host, node: str, options: tuple[str, ...] = ()) -> Pv:
    """Read the physical volume on a device, with more ``options`` (see isolated). Raise HostError if LVM
    finds none there.
    """
    (found, *_) = _report(host, "pvs", "pv", _PV, node, options) or [{}]
    if not found:
        raise HostError(f"{node}: not a physical volume of LVM")
    extent = int(found["vg_extent_size"] or 0)
    extents, group = int(found["pv_pe_count"] or 0), found["vg_name"]
    room = int(found["dev_size"]) - int(found["pe_start"]) - extents * extent
    lines = _report(host, "lvs", "lv", _LV, group, options) if group else []
    volumes = tuple(_volume(line) for line in lines)
    return Pv(room, extents, extent, group, int(found["vg_free_count"] or 0), volumes)


def before(pv: Pv, known: Mapping[str, Any] | None) -> Before:
    """Return the sizes before the operation: the stored ones if it has begun, or the present ones."""
    if known:
        return Before(int(known["extents"]), str(known["volume"]), int(known["size"]))
    if len(pv.volumes) != 1 or pv.volumes[0].layout != "linear":
        return Before(pv.extents)
    return Before(pv.extents, pv.volumes[0].uuid, pv.volumes[0].size)


def resize(host: Host, write: Write, node: str, pv: Pv, options: tuple[str, ...] = ()) -> Pv:
    """Grow the physical volume to the size of its device. Raise HostError if it is still smaller."""
    if pv.room < pv.extent or not pv.group:
        return pv
    write(("pvresize", "--quiet", *options, node))
    now = read(host, node, options)
    if now.room >= now.extent:
        raise HostError(f"{node}: still {now.room} bytes unused after pvresize")
    return now


def due(pv: Pv, before: Before) -> Lv | str:
    """Return the logical volume with its new size, or why none grows."""
    if not before.volume or len(pv.volumes) != 1:
        count = len(pv.volumes)
        what = "its one volume is not linear" if count == 1 else f"it has {count or 'no'} volumes"
        return f"{what}: what is added is free space of the group"
    (volume,) = pv.volumes
    target = before.size + (pv.extents - before.extents) * pv.extent
    if volume.uuid != before.volume or not before.size <= volume.size <= target:
        return "its volume was changed by another program during the growth"
    if target - volume.size > pv.free * pv.extent:
        return "what was added is in use already"
    return Lv(volume.name, volume.uuid, target, volume.layout, volume.number)


def extend(host: Host, write: Write, node: str, pv: Pv, volume: Lv, options: tuple[str, ...] = ()) -> None:
    """Extend the logical volume to its new size, on this physical volume only. Raise HostError if it has
    another size afterwards.
    """
    if volume in pv.volumes:
        return
    name = f"{pv.group}/{volume.name}"
    write(("lvextend", "--quiet", *options, f"--extents={volume.size // pv.extent}", name, node))
    if volume not in read(host, node, options).volumes:
        raise HostError(f"{name}: not {volume.size} bytes after lvextend")


def _volume(line: Mapping[str, str]) -> Lv:
    number = f"{line['lv_kernel_major']}:{line['lv_kernel_minor']}"
    return Lv(line["lv_name"], line["lv_uuid"], int(line["lv_size"]), line["lv_layout"], number)


def _piece(row: Mapping[str, str]) -> Piece:
    extent = int(row["vg_extent_size"])
    offset = int(row["pe_start"]) + int(row["pvseg_start"]) * extent
    return Piece(row["vg_name"], row["lv_name"], offset, int(row["pvseg_size"]) * extent)


def _report(
    host: Host, program: str, kind: str, columns: tuple[str, ...], what: str, options: tuple[str, ...] = ()
) -> list[dict[str, str]]:
    form = ("--reportformat=json", "--units=b", "--nosuffix", f"--options={','.join(columns)}")
    output = host.run((program, *options, *form, what), changes=False, timeout=_TIMEOUT).stdout
    try:
        found: list[dict[str, str]] = json.loads(output)["report"][0][kind]
    except (ValueError, KeyError, IndexError) as error:
        raise HostError(f"{program} {what}: its report cannot be read") from error
    return found
