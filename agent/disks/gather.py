"""Gather the facts about the rest of the machine for the decision on a disk. They are read again for each
decision.
"""

from __future__ import annotations

import os
import stat

from agent.block import mounts, storage
from agent.disks.base.facts import Filesystem, Machine, Place
from agent.disks.base.record import DiskState
from agent.host.sysfs import listed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping

    from agent.block.storage import Disk
    from agent.config.settings import Settings
    from agent.disks.base.record import Record
    from agent.disks.base.system import System
    from agent.host.host import Host

#: The major number of mounts without a block device (Documentation/admin-guide/devices.txt).
_NO_DEVICE = "0:"


def gather(host: Host, system: System, settings: Settings, records: Mapping[str, Record]) -> Machine:
    """Return the present facts about the machine, except for ``released``."""
    found = mounts.mounts(host)
    root = canonical(host, settings.disk_root)
    machine = Machine(
        disk_root=root,
        mounts=found,
        swaps=mounts.swaps(host),
        claims=mounts.claims(host),
        root_disks=mounts.root_disks(host, found),
        filesystems=tuple(_filesystems(host, system, found, records)),
        places=dict(_places(host, root, found)),
    )
    return machine


def released(machine: Machine, records: Mapping[str, Record], disks: Iterable[Disk]) -> frozenset[str]:
    """Return the devices that belong to the administrator: those that were detached, those that the agent
    mounted and that are mounted nowhere now, and new devices of such disks (partitions that they make).
    ``records`` must have none of former attachments.
    """
    numbers = {number for mount in machine.mounts for number in mount.devnos}
    names = {name for name, record in records.items() if _is_released(record, numbers)}
    released_disks = {records[name].disk for name in names}
    present = {device.name for disk in disks if disk.name in released_disks for device in disk.devices}
    return frozenset(names | (present - set(records)))


def _is_released(record: Record, mounted: Container[str]) -> bool:
    if record.state == DiskState.MOUNTED:
        return record.devno not in mounted
    return record.state == DiskState.RELEASED


def canonical(host: Host, name: str) -> str:
    """Return the folder's path with links resolved: systemd mounts at no other path."""
    path = os.path.realpath(host.path(name))
    return path if host.live else "/" + os.path.relpath(path, os.path.realpath(host.root))


def _filesystems(
    host: Host, system: System, found: tuple[mounts.Mount, ...], records: Mapping[str, Record]
) -> Iterator[Filesystem]:
    """Yield what is mounted, or is offered to autofs: data disks from the records, others from udev."""
    ours = {record.devno: record for record in records.values()}
    mounted: dict[str, str] = {}
    for mount in found:
        for devno in mount.devnos:
            mounted.setdefault(devno, mount.mountpoint)
    for record in ours.values():
        if record.state == DiskState.OFFERED and record.devno not in mounted:
            yield record.filesystem
    for devno, mountpoint in mounted.items():
        if devno in ours:
            record = ours[devno]
            yield Filesystem(
                devno,
                record.uuid,
                os.fsencode(record.label),
                mountpoint,
                ours=record.mountpoint == mountpoint,
            )
        elif not devno.startswith(_NO_DEVICE) and (name := storage.name_of(host, devno)):
            disk = system.read(host, storage.whole_disk(host, name))
            for device in disk.devices if disk else ():
                if device.devno == devno:
                    yield Filesystem(devno, device.uuid, device.label, mountpoint)


def _places(host: Host, root: str, found: Iterable[mounts.Mount]) -> Iterator[tuple[str, Place]]:
    """Yield the entries of the folder. Mountpoints are left out: they are taken anyway, and a server or a
    disk that hangs there would block every decision. In an automounter's folder nothing is read: that would
    make it mount.
    """
    mounted = {mount.mountpoint: mount.fstype for mount in found}
    if mounted.get(root) == "autofs":
        return
    for name in listed(host, root):
        if f"{root}/{name}" in mounted:
            continue
        path = os.path.join(host.path(root), name)
        try:
            is_folder = stat.S_ISDIR(os.lstat(path).st_mode)
            kind = (Place.FULL if _has_any(path) else Place.EMPTY) if is_folder else Place.OTHER
        except OSError:
            # It has gone since: the agent must not use it.
            kind = Place.OTHER
        yield f"{root}/{name}", kind


def _has_any(folder: str) -> bool:
    with os.scandir(folder) as entries:
        return any(True for _ in entries)
