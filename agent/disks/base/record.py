"""What the agent did to data disks in this boot: below /run/gandi, gone with the power.

``disks.json``, by kernel name: which attachment (diskseq), what we did to it, where it was mounted, whether
the folder is ours. A device that has a record of its present attachment and is not mounted was unmounted by
somebody, and stays so. ``begun.json``: what is about to be mounted, until that is on record: a daemon that
dies meanwhile leaves a folder, and maybe a mount. ``gone.json``: what was taken away while it was mounted,
until nobody holds it.
Written by the daemon and by the verbs, one at a time.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from enum import StrEnum

from agent.lib import timed_wait
from agent.lib.errors import Busy
from agent.lib.records import asdict, dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.host.host import Host

FOLDER = "/run/gandi"
#: Seconds to wait for another writer, who needs milliseconds.
_LOCK_TIMEOUT = 10.0
_lock = threading.Lock()


class Kind(StrEnum):
    """What we did to a device."""

    #: Mounted. If it is mounted nowhere now, somebody has unmounted it.
    MOUNTED = "mounted"
    #: Given up: by ``gandi-agent detach``, or by who changed the partition table under a disk of his own.
    RELEASED = "released"
    #: Offered to the automounter, which mounts it when somebody looks.
    OFFERED = "offered"
    #: Told to the users, who mount it themselves.
    TOLD = "told"


@dataclass(frozen=True, slots=True)
class Record:
    """One device that we did something to. ``made``: the mountpoint's folder was made for it."""

    disk: str
    sequence: str
    uuid: str
    label: str
    number: str
    at: str
    made: bool = False
    kind: str = Kind.MOUNTED
    #: The units that the disk itself names as its users (services_file.py).
    services: tuple[str, ...] = ()
    #: The number under which stat(2) knows its files where that is another one (btrfs), or "".
    alias: str = ""
    fstype: str = ""

    @property
    def numbers(self) -> frozenset[str]:
        """The device numbers by which its files are known."""
        return frozenset({self.number, self.alias} - {""})


@dataclass(slots=True)
class Records:
    """One of the files, shared by the threads and processes that act on disks."""

    host: Host
    name: str = "disks.json"

    def all(self) -> dict[str, Record]:
        """Every record, by the device's kernel name; a damaged file is an empty one."""
        try:
            stored = json.loads(self.host.read(f"{FOLDER}/{self.name}") or "{}")
            return {
                name: Record(**entry | {"services": tuple(entry.get("services", ()))})
                for name, entry in stored.items()
            }
        except (ValueError, TypeError, AttributeError):
            return {}

    def of(self, disk: str) -> dict[str, Record]:
        """Those of one disk."""
        return {name: record for name, record in self.all().items() if record.disk == disk}

    def put(self, name: str, record: Record | None) -> None:
        """Remember ``record`` for the device, or with None forget the device."""
        with _lock, exclusive(self.host, "records", _LOCK_TIMEOUT):
            before = self.all()
            found = {key: value for key, value in before.items() if key != name}
            if record is not None:
                found[name] = record
            if found != before:
                document = {key: asdict(value) for key, value in found.items()}
                text = json.dumps(document, sort_keys=True) + "\n"
                self.host.write(f"{FOLDER}/{self.name}", text, mode=0o600)


def begun(host: Host) -> Records:
    """What is being mounted, or was when its daemon died, by device."""
    return Records(host, "begun.json")


def left_behind(host: Host) -> Records:
    """What was taken away while it was in use, by device and attachment."""
    return Records(host, "gone.json")


def dealt_with(host: Host) -> set[str]:
    """The disks to which we did something, or did before they went away unseen."""
    records = (Records(host), begun(host), left_behind(host))
    return {known.disk for held in records for known in held.all().values()}


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
