"""Find the root filesystem on an image's disk: the one with a system on it.

A logical volume is reached by its place on the disk, and not by way of the device mapper: that would outlive
a kill, and a volume group of this machine may have the same name.
"""

from __future__ import annotations

import contextlib
import os

from agent.block import storage
from agent.disks.base import filesystem
from agent.disks.growth import lvm
from agent.disks.growth.stacked import LUKS, PV
from agent.disks.offline import loop
from agent.disks.offline.mounting import PLACE, mounted
from agent.host.host import Host
from agent.host.sysfs import devnode
from agent.lib.errors import ConfigError, HostError
from agent.lib.records import dataclass, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.block.storage import Device, Disk
    from agent.disks.growth.lvm import Piece

#: Files that show a system.
_SYSTEM = ("/etc/os-release", "/usr/lib/os-release", "/etc/passwd")


@dataclass(frozen=True, slots=True)
class Root:
    """A filesystem that may be the root: on ``device`` of the image's disk, or in a logical volume there."""

    device: Device
    fstype: str
    piece: Piece | None = None

    @property
    def name(self) -> str:
        """Its name for --partition: the partition's number (0: the whole disk), or GROUP/VOLUME."""
        if self.piece:
            return f"{self.piece.group}/{self.piece.volume}"
        return str(self.device.partition)

    def __str__(self) -> str:
        if self.piece:
            return f"volume {self.name}"
        return f"partition {self.name}" if self.device.partition else "disk without a table"


def read(host: Host, name: str) -> Disk:
    """Return the image's disk, attached as the loop device ``name``, with libblkid's facts."""
    found = storage.read(host, name, lambda _name: {}, opened=False)
    if found is None:
        raise HostError(f"/dev/{name}: has gone")
    device, *parts = (replace(one, udev=storage.probe(host, one.node)) for one in found.devices)
    return replace(found, device=device, partitions=tuple(parts))


@contextlib.contextmanager
def node(host: Host, root: Root) -> Iterator[str]:
    """Yield the path of the device with this filesystem, while it lasts."""
    if root.piece is None:
        yield root.device.node
        return
    read_only = host.read(f"/sys/class/block/{root.device.name}/ro") == "1\n"
    offset, size = root.piece.offset, root.piece.size
    with (
        host.opened(root.device.node, os.O_RDONLY if read_only else os.O_RDWR) as below,
        loop.attached(host, below, offset=offset, size=size, read_only=read_only) as name,
    ):
        yield devnode(name)


def choose(host: Host, disk: Disk, image: str, wanted: str) -> Root:
    """Return the filesystem ``wanted`` (see Root.name), or with "" the one with a system on it. Raise
    ConfigError if there is none, or more than one.
    """
    found, others = _candidates(host, disk)
    names = ", ".join(f"{one} ({one.fstype})" for one in found) or "none"
    if wanted:
        named = [one for one in found if one.name == wanted]
        if not named:
            what = f"{image}: partition {wanted}: no filesystem of Linux there (found: {names})"
            raise ConfigError(what, hint="name one of them with --partition, by its number or GROUP/VOLUME")
        found, names = named, f"{named[0]} ({named[0].fstype})"
    systems = [one for one in found if _has_system(host, one)]
    if len(systems) == 1:
        return systems[0]
    if systems:
        choice = ", ".join(one.name for one in systems)
        raise ConfigError(
            f"{image}: {len(systems)} filesystems have a system: {choice}",
            hint=f"name one: --partition={systems[0].name}",
        )
    also = f"; not looked at: {', '.join(others)}" if others else ""
    raise ConfigError(
        f"{image}: no system on its filesystems: {names}{also}",
        hint="make it an image of a disk with ext2-4, XFS or btrfs; or mount the root, and use --root",
    )


def _candidates(host: Host, disk: Disk) -> tuple[list[Root], list[str]]:
    """Return the filesystems that may be the root, and what on the disk cannot be looked at."""
    found, others = list[Root](), list[str]()
    for device in disk.partitions or (disk.device,):
        if device.fstype in filesystem.GROWERS:
            found.append(Root(device, device.fstype))
        elif device.fstype == PV:
            volumes = lvm.pieces(host, device.node, lvm.isolated(device.node))
            others.extend(f"volume {v.group}/{v.volume} (in several pieces)" for v in volumes if not v.size)
            found.extend(_filesystems(host, device, volumes))
        elif device.fstype == LUKS:
            others.append(f"partition {device.partition} (encrypted)")
    return found, others


def _filesystems(host: Host, device: Device, volumes: tuple[Piece, ...]) -> Iterator[Root]:
    for piece in filter(lambda volume: volume.size, volumes):
        root = Root(device, "", piece)
        with node(host, root) as at:
            fstype = storage.probe(host, at).get("ID_FS_TYPE", "")
        if fstype in filesystem.GROWERS:
            yield replace(root, fstype=fstype)


def _has_system(host: Host, root: Root) -> bool:
    with node(host, root) as at, mounted(host, at, root.fstype, read_only=True):
        inside = Host(PLACE, offline=True)
        return any(inside.exists(name) for name in _SYSTEM)
