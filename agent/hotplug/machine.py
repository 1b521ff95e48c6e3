"""Gathers what the decision on a disk needs to know of the rest of the machine. Facts only; read anew
for each look.
"""

from __future__ import annotations

import os
import stat

from agent import mounts, storage
from agent.hotplug.facts import Filesystem, Machine, Place
from agent.sysfs import listed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from agent.host import Host
    from agent.hotplug.record import Record
    from agent.hotplug.system import System
    from agent.settings import Settings

#: Mountpoints whose disk is the system's own.
SYSTEM_MOUNTS = frozenset({"/", "/usr", "/boot"})


def gather(
    host: Host,
    system: System,
    settings: Settings,
    records: Mapping[str, Record],
) -> Machine:
    """The machine as it is now."""
    found = mounts.mounts(host)
    root = canonical(host, settings.disk_root)
    machine = Machine(
        disk_root=root,
        mounts=found,
        swaps=mounts.swaps(host),
        claims=mounts.claims(host),
        root_disks=frozenset(_root_disks(host, found)),
        filesystems=tuple(_filesystems(host, system, found, records)),
        places=dict(_places(host, root, found)),
    )
    return machine


def released(machine: Machine, records: Mapping[str, Record]) -> frozenset[str]:
    """The devices that we mounted and that are mounted nowhere now. Records of former attachments must
    be gone.
    """
    numbers = {number for mount in machine.mounts for number in mount.numbers}
    return frozenset(name for name, record in records.items() if record.number not in numbers)


def canonical(host: Host, name: str) -> str:
    """The folder's path without links: systemd mounts on no other."""
    path = os.path.realpath(host.path(name))
    return path if host.live else "/" + os.path.relpath(path, os.path.realpath(host.root))


def _root_disks(host: Host, found: Iterable[mounts.Mount]) -> Iterator[str]:
    for mount in found:
        if mount.at in SYSTEM_MOUNTS:
            for number in mount.numbers:
                if name := storage.name_of(host, number):
                    yield from storage.beneath(host, name)


def _filesystems(
    host: Host, system: System, found: tuple[mounts.Mount, ...], records: Mapping[str, Record]
) -> Iterator[Filesystem]:
    """What is mounted: ours from the records, the rest from udev."""
    ours = {record.number: record for record in records.values()}
    for number in {number for mount in found for number in mount.numbers}:
        at = next(mount.at for mount in found if number in mount.numbers)
        if number in ours:
            record = ours[number]
            yield Filesystem(number, record.uuid, os.fsencode(record.label), at, ours=record.at == at)
        elif name := storage.name_of(host, number):
            disk = system.read(host, storage.whole(host, name))
            for device in disk.devices if disk else ():
                if device.number == number:
                    yield Filesystem(number, device.uuid, device.label, at)


def _places(host: Host, root: str, found: Iterable[mounts.Mount]) -> Iterator[tuple[str, Place]]:
    """What stands below the folder. Mountpoints are taken anyway and are not looked at: a server or a disk
    behind one that hangs would hang every decision.
    """
    mounted = {mount.at for mount in found}
    for name in listed(host, root):
        if f"{root}/{name}" in mounted:
            continue
        path = os.path.join(host.path(root), name)
        try:
            is_folder = stat.S_ISDIR(os.lstat(path).st_mode)
            kind = (Place.FULL if _has_any(path) else Place.EMPTY) if is_folder else Place.OTHER
        except OSError:
            # Gone meanwhile: nothing that we may use.
            kind = Place.OTHER
        yield f"{root}/{name}", kind


def _has_any(folder: str) -> bool:
    with os.scandir(folder) as entries:
        return any(True for _ in entries)
