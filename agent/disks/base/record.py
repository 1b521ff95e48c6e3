"""What the agent knows of data disks in this boot: one file for each device, ``/run/gandi/disks/NAME.json``.

A record belongs to one attachment of the device (diskseq) and is removed only when that has ended. It is
written whole, by the process that holds the disk (locks.py); in the state *mounting* by the process that it
names, while that lives. So it needs no lock of its own. ``NAME@DISKSEQ.json`` is a device that was taken
away while it was mounted.
"""

from __future__ import annotations

import contextlib
import json
import os
from enum import StrEnum

from agent.disks.base import diskseq
from agent.disks.base.facts import Filesystem
from agent.host import processes
from agent.lib import timed_wait
from agent.lib.errors import Busy
from agent.lib.records import asdict, dataclass, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from agent.block.storage import Device, Disk
    from agent.host.host import Host

FOLDER = "/run/gandi"
#: Seconds to wait for another process that takes over older records, which needs milliseconds.
_LOCK_TIMEOUT = 10.0
#: What version 0.1 wrote for as long as the machine ran (older_records.py).
_OLDER = ("once.json", "disks.json")


class DiskState(StrEnum):
    """What was done to a device."""

    #: Nothing but what the record says was tried.
    NEW = "new"
    #: About to be mounted by the process in the record. If that has died, there may be a folder and a mount.
    MOUNTING = "mounting"
    #: Mounted. If it is mounted nowhere now, an administrator has unmounted it.
    MOUNTED = "mounted"
    #: Given up: by ``gandi-agent detach``, or because its partition was removed by an administrator.
    RELEASED = "released"
    #: Offered to the automounter, which mounts it when its folder is accessed.
    OFFERED = "offered"
    #: Announced to the users, who mount it themselves.
    ANNOUNCED = "announced"
    #: Taken away while it was mounted; kept until no process uses it.
    REMOVED = "removed"


#: The states in which nothing was done to the device, as far as is certain.
_UNTOUCHED = (DiskState.NEW, DiskState.MOUNTING)


@dataclass(frozen=True, slots=True)
class Record:
    """One device. ``made``: the mountpoint's folder was made for it."""

    disk: str
    sequence: str
    uuid: str
    label: str
    number: str
    at: str = ""
    made: bool = False
    state: str = DiskState.MOUNTED
    #: The units that the disk itself names as its users (services_file.py).
    services: tuple[str, ...] = ()
    #: The number under which stat(2) knows its files where that is another one (btrfs), or "".
    alias: str = ""
    fstype: str = ""
    #: It was checked since it was attached: the check makes udev send an event, which must not repeat it.
    checked: bool = False
    #: The disk's size in bytes to which it could not be grown, which makes an event as well; 0 for none.
    not_grown: int = 0
    #: The process that mounts it (processes.py).
    pid: int = 0
    started: int = 0

    @property
    def numbers(self) -> frozenset[str]:
        """The device numbers by which its files are known."""
        return frozenset({self.number, self.alias} - {""})

    @property
    def process(self) -> dict[str, int]:
        """The process that mounts it."""
        return {"pid": self.pid, "started": self.started}

    @property
    def filesystem(self) -> Filesystem:
        """What takes the place at which it is, or is about to be, mounted."""
        return Filesystem(self.number, self.uuid, os.fsencode(self.label), self.at, ours=True)

    def cleared(self) -> Record:
        """The device after what was done to it is undone."""
        return replace(self, state=DiskState.NEW, at="", made=False, services=(), alias="", pid=0, started=0)


def fresh(disk: Disk, device: Device) -> Record:
    """The record of a device to which nothing was done."""
    label = os.fsdecode(device.label)
    return Record(
        disk.name,
        disk.sequence,
        device.uuid,
        label,
        device.number,
        state=DiskState.NEW,
        fstype=device.fstype,
    )


@dataclass(slots=True)
class Records:
    """The records of this machine. A damaged one counts as none; a dry run writes none."""

    host: Host

    def __post_init__(self) -> None:
        if not self.host.dry_run and any(self.host.exists(f"{FOLDER}/{name}") for name in _OLDER):
            self._take_over()

    def all(self, prefix: str = "") -> dict[str, Record]:
        """The records of devices that are there, as far as is known, by kernel name."""
        return self._some(prefix, removed=False)

    def of(self, disk: str) -> dict[str, Record]:
        """Those of one disk."""
        return {name: known for name, known in self.all(disk).items() if known.disk == disk}

    def done(self, prefix: str = "") -> dict[str, Record]:
        """Those of devices to which something was done."""
        return {name: known for name, known in self.all(prefix).items() if known.state not in _UNTOUCHED}

    def has_done(self, disk: str) -> bool:
        """Return whether something was done to the disk or its partitions."""
        return any(known.disk == disk for known in self.done(disk).values())

    def mounting(self) -> dict[str, Record]:
        """Those of devices that a process is about to mount which still runs."""
        found = self.all().items()
        return {n: k for n, k in found if k.state == DiskState.MOUNTING and processes.lives(k.process)}

    def removed(self) -> dict[str, Record]:
        """What was taken away while it was mounted, by device and attachment (``vdb1@7``)."""
        return self._some("", removed=True)

    def disks(self) -> set[str]:
        """The disks that have a record."""
        return {known.disk for known in (self.all() | self.removed()).values()}

    def get(self, key: str) -> Record | None:
        """One record; None where there is none, or it is damaged."""
        try:
            return _parsed(json.loads(self.host.read(_file(key)) or "null"))
        except ValueError:
            return None

    def current(self, disk: Disk, device: Device) -> Record:
        """The record of the device's present attachment, or a fresh one."""
        known = self.get(device.name)
        return known if known and known.sequence == disk.sequence else fresh(disk, device)

    def again(self, disk: Disk, device: Device) -> Record:
        """A fresh record that keeps what was tried in the present attachment."""
        known = self.current(disk, device)
        return replace(fresh(disk, device), checked=known.checked, not_grown=known.not_grown)

    def is_new(self, disk: Disk) -> bool:
        """Return whether the disk was attached while the machine runs, and was not looked at yet."""
        known = (record.sequence for record in self.of(disk.name).values())
        return diskseq.is_after_coldplug(self.host, disk.sequence) and disk.sequence not in known

    def put(self, key: str, record: Record | None) -> None:
        """Store the record, or with None remove it."""
        if self.host.dry_run:
            return
        name = _file(key)
        if record is None:
            self.host.remove(name)
        else:
            self.host.write(name, json.dumps(asdict(record), sort_keys=True) + "\n", mode=0o600)

    def try_again(self, devices: Iterable[str]) -> None:
        """Forget which checks and growths of these devices (kernel names) were tried."""
        for name in set(devices) - set(self.mounting()):
            known = self.get(name)
            if known and (known.checked or known.not_grown):
                self.put(name, replace(known, checked=False, not_grown=0))

    def _take_over(self) -> None:
        """Store the records of an older version as this one has them, and remove its files."""
        from agent.disks.base import older_records

        with exclusive(self.host, "older records", _LOCK_TIMEOUT):
            for key, facts in older_records.records(self.host, FOLDER).items():
                if self.get(key) is None and (known := _parsed(facts)):
                    self.put(key, known)
            if count := older_records.coldplug(self.host, FOLDER):
                self.host.write(diskseq.FILE, f"{count}\n")
            for name in older_records.FILES:
                self.host.remove(f"{FOLDER}/{name}")

    def _some(self, prefix: str, *, removed: bool) -> dict[str, Record]:
        names = (name.removesuffix(".json") for name in sorted(self.host.names(f"{FOLDER}/disks")))
        keys = (key for key in names if key.startswith(prefix) and ("@" in key) is removed)
        return {key: known for key in keys if (known := self.get(key))}


def key_removed(device: str, known: Record) -> str:
    """The key of a device that was taken away while it was mounted."""
    return f"{device}@{known.sequence}"


@contextlib.contextmanager
def exclusive(host: Host, what: str, patience: float) -> Iterator[None]:
    """Be the only process at ``what``, one word of ours; the kernel ends it when the process dies.

    Raises Busy after ``patience`` seconds. A dry run changes nothing and waits for nobody.
    """
    if host.dry_run:
        yield
        return
    host.mkdir(f"{FOLDER}/locks")
    with host.opened(f"{FOLDER}/locks/{what}", os.O_RDWR | os.O_CREAT) as lock:
        if not timed_wait.lock(lock, patience):
            raise Busy(
                f"{what}: another process still works on it after {patience:g} s",
                hint="see: gandi-agent status",
            )
        yield


def _parsed(facts: Any) -> Record | None:
    """The record of these facts; None for what is damaged."""
    try:
        return Record(**facts | {"services": tuple(facts["services"])})
    except (TypeError, KeyError):
        return None


def _file(key: str) -> str:
    return f"{FOLDER}/disks/{key}.json"
