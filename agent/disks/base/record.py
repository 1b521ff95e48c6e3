"""The records of data disks in this boot: one file for each device, ``/run/gandi/disks/NAME.json``.

A record is for one attachment of the device (diskseq) and is removed only after that has ended. The process
that holds the disk (locks.py) writes it as a whole; in the state *mounting*, the process in the record does,
while it lives. So records need no lock. ``NAME@DISKSEQ.json`` is for a device that was removed from the
machine while it was mounted.
"""

from __future__ import annotations

import contextlib
import json
import os
from enum import StrEnum
from functools import lru_cache

from agent.disks.base.facts import Filesystem
from agent.host import processes
from agent.host.sysfs import listed
from agent.lib.canonical_json import parsed_object, record
from agent.lib.errors import Busy
from agent.lib.records import asdict, dataclass, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from agent.block.storage import Device, Disk
    from agent.host.host import Host

FOLDER = "/run/gandi"
#: Seconds to wait while another process converts older records, which takes milliseconds.
_LOCK_TIMEOUT = 10.0
#: Files that version 0.1 kept until shutdown (older_records.py).
_OLDER = ("once.json", "disks.json")


class DiskState(StrEnum):
    """What was done to a device."""

    #: Nothing, except for the attempts in the record.
    NEW = "new"
    #: About to be mounted by the process in the record. If that has died, there may be a folder and a mount.
    MOUNTING = "mounting"
    #: Mounted. If it is mounted nowhere now, an administrator has unmounted it.
    MOUNTED = "mounted"
    #: Released by ``gandi-agent detach``, or because an administrator has removed the partition.
    RELEASED = "released"
    #: Offered to the automounter, which mounts it when its folder is accessed.
    OFFERED = "offered"
    #: Announced to the users, who mount it themselves.
    ANNOUNCED = "announced"
    #: Removed from the machine while it was mounted; kept until no process uses it.
    REMOVED = "removed"


#: The states in which nothing is known to have been done to the device.
_UNTOUCHED = (DiskState.NEW, DiskState.MOUNTING)


@dataclass(frozen=True, slots=True)
class Record:
    """The record of one device. ``diskseq`` is the kernel's number of its disk's attachment, ``devno`` is
    major:minor; ``made``: the mountpoint's folder was made for it.
    """

    disk: str
    diskseq: str
    uuid: str
    label: str
    devno: str
    mountpoint: str = ""
    made: bool = False
    state: str = DiskState.MOUNTED
    #: The units that the disk's own file names as its users (services_file.py).
    services: tuple[str, ...] = ()
    #: The device number that stat(2) returns for its files, if it is another one (btrfs), or "".
    alias: str = ""
    fstype: str = ""
    #: It was checked in this attachment: the check causes an event, which must not repeat it.
    checked: bool = False
    #: The disk's size in bytes to which growing failed, which causes an event as well; 0 for none.
    not_grown: int = 0
    #: What udev was made to look for again (missed.py), which causes an event as well; "" for nothing.
    missed: str = ""
    #: The process that mounts it, and the start time of that process (processes.py).
    pid: int = 0
    started: int = 0

    @property
    def devnos(self) -> frozenset[str]:
        """The device numbers of its files."""
        return frozenset({self.devno, self.alias} - {""})

    @property
    def process(self) -> dict[str, int]:
        """The process that mounts it, as processes.py identifies it."""
        return {"pid": self.pid, "started": self.started}

    @property
    def is_done(self) -> bool:
        """Whether something was done to the device, as far as is certain."""
        return self.state not in _UNTOUCHED

    @property
    def was_tried(self) -> bool:
        """Whether something was tried that causes an event, which must not repeat it."""
        return bool(self.checked or self.not_grown or self.missed)

    @property
    def is_being_mounted(self) -> bool:
        """Whether a process that still runs is about to mount the device."""
        return self.state == DiskState.MOUNTING and processes.is_alive(self.process)

    @property
    def filesystem(self) -> Filesystem:
        """The filesystem that is, or is about to be, mounted at ``mountpoint``."""
        return Filesystem(self.devno, self.uuid, os.fsencode(self.label), self.mountpoint, ours=True)

    def cleared(self) -> Record:
        """Return the record of the device after what was done to it is undone."""
        return replace(
            self, state=DiskState.NEW, mountpoint="", made=False, services=(), alias="", pid=0, started=0
        )


def fresh(disk: Disk, device: Device) -> Record:
    """Return the record of a device to which nothing was done."""
    label = os.fsdecode(device.label)
    return Record(
        disk.name,
        disk.diskseq,
        device.uuid,
        label,
        device.devno,
        state=DiskState.NEW,
        fstype=device.fstype,
    )


def current(known: Record | None, disk: Disk, device: Device) -> Record:
    """Return the record if it is of the device's present attachment, or a fresh one."""
    return known if known and known.diskseq == disk.diskseq else fresh(disk, device)


def renewed(known: Record, disk: Disk, device: Device) -> Record:
    """Return a fresh record that keeps what was tried according to ``known``."""
    return replace(
        fresh(disk, device), checked=known.checked, not_grown=known.not_grown, missed=known.missed
    )


@dataclass(slots=True)
class Records:
    """The records of this machine. A damaged record counts as missing; a dry run writes none."""

    host: Host

    def __post_init__(self) -> None:
        if not self.host.dry_run and any(self.host.exists(f"{FOLDER}/{name}") for name in _OLDER):
            self._take_over()

    def all(self, prefix: str = "") -> dict[str, Record]:
        """Return the records by kernel name, without those of removed devices. ``prefix`` is of the name."""
        return self._some(prefix, removed=False)

    def of(self, disk: str) -> dict[str, Record]:
        """Return the records of one disk and its partitions."""
        return {name: known for name, known in self.all(disk).items() if known.disk == disk}

    def done(self, prefix: str = "") -> dict[str, Record]:
        """Return the records of devices to which something was done."""
        return {name: known for name, known in self.all(prefix).items() if known.is_done}

    def has_done(self, disk: str) -> bool:
        """Return whether something was done to the disk or its partitions."""
        return any(known.disk == disk for known in self.done(disk).values())

    def removed(self) -> dict[str, Record]:
        """Return the records of devices that were removed while mounted, by key (``vdb1@7``)."""
        return self._some("", removed=True)

    def is_devno_reused(self, disk: Disk) -> bool:
        """Return whether a removed disk of the same name had a device number of this one: Xen's driver frees
        it although the filesystem is still in use.
        """
        now = {device.devno for device in disk.devices}
        return any(known.disk == disk.name and known.devnos & now for known in self.removed().values())

    def disks(self) -> set[str]:
        """Return the names of the disks that have a record."""
        return {known.disk for known in (self.all() | self.removed()).values()}

    def get(self, key: str) -> Record | None:
        """Return one record, or None if it is missing or damaged."""
        return _read(self.host.read(_file(key)) or "")

    def current(self, disk: Disk, device: Device) -> Record:
        """Return the record of the device's present attachment, or a fresh one."""
        return current(self.get(device.name), disk, device)

    def is_new(self, disk: Disk) -> bool:
        """Return whether the disk was attached while the machine runs, and has not been handled yet."""
        from agent.disks.base import diskseq

        known = (record.diskseq for record in self.of(disk.name).values())
        return diskseq.is_after_coldplug(self.host, disk.diskseq) and disk.diskseq not in known

    def put(self, key: str, record: Record | None) -> None:
        """Store the record, or remove it if None."""
        if self.host.dry_run:
            return
        name = _file(key)
        if record is None:
            self.host.remove(name)
        else:
            self.host.write(name, json.dumps(asdict(record), sort_keys=True) + "\n", mode=0o600)

    def try_again(self, every: dict[str, Record], devices: Iterable[str]) -> None:
        """Allow what was tried before on these devices (kernel names): checks, growths, and that udev looks
        again. Change their records in ``every`` too.
        """
        for name in devices:
            known = every.get(name)
            if known and known.was_tried:
                known = self.get(name)  # another thread may have changed it since
            if known and not known.is_being_mounted and known.was_tried:
                every[name] = replace(known, checked=False, not_grown=0, missed="")
                self.put(name, every[name])

    def _take_over(self) -> None:
        """Convert the records of an older version, and remove its files."""
        from agent.disks.base import diskseq, older_records

        with exclusive(self.host, "older records", _LOCK_TIMEOUT):
            for key, facts in older_records.records(self.host, FOLDER).items():
                if self.get(key) is None and (known := _parsed(facts)):
                    self.put(key, known)
            if count := older_records.coldplug(self.host, FOLDER):
                self.host.write(diskseq.FILE, f"{count}\n")
            for name in older_records.FILES:
                self.host.remove(f"{FOLDER}/{name}")

    def _some(self, prefix: str, *, removed: bool) -> dict[str, Record]:
        names = (name.removesuffix(".json") for name in listed(self.host, f"{FOLDER}/disks"))
        keys = (key for key in names if key.startswith(prefix) and ("@" in key) is removed)
        return {key: known for key in keys if (known := self.get(key))}


def key_removed(device: str, known: Record) -> str:
    """Return the key for the record of a device that was removed while it was mounted."""
    return f"{device}@{known.diskseq}"


@contextlib.contextmanager
def exclusive(host: Host, what: str, patience: float) -> Iterator[None]:
    """Hold the lock file ``what``, a name without "/"; the kernel frees it when the process dies.

    Raise Busy after ``patience`` seconds. A dry run takes no lock: it changes nothing.
    """
    if host.dry_run:
        yield
        return
    with host.opened(f"{FOLDER}/locks/{what}", os.O_RDWR | os.O_CREAT, make=True) as lock:
        if not processes.lock(lock, patience):
            raise Busy(
                f"{what}: another process still works on it after {patience:g} s",
                hint="see: gandi-agent status",
            )
        yield


@lru_cache(maxsize=512)
def _read(text: str) -> Record | None:
    """Return the record that a file has, or None if it is damaged. Cached: each decision reads the records
    of all disks, and few of hundreds have changed since the last one.
    """
    return _parsed(parsed_object(text))


def _parsed(facts: Any) -> Record | None:
    """Return the record with these fields, or None if they are damaged."""
    try:
        return record(Record, facts)
    except (TypeError, ValueError, KeyError, AttributeError):
        return None


def _file(key: str) -> str:
    return f"{FOLDER}/disks/{key}.json"
