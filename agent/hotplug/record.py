"""What the agent did to data disks in this boot: /run/gandi/disks.json, gone with the power.

By kernel name: which attachment (diskseq), where it was mounted, whether the folder is ours. A device
that has a record of its present attachment and is not mounted was unmounted by somebody, and stays so.
"""

from __future__ import annotations

import json
import threading

from agent.plain import asdict, dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from agent.host import Host

FILE = "/run/gandi/disks.json"
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Record:
    """One device that we mounted. ``made``: the mountpoint's folder was made for it; ``services``: the units
    that the disk itself names as its users.
    """

    disk: str
    sequence: str
    uuid: str
    label: str
    number: str
    at: str
    made: bool = False
    services: tuple[str, ...] = ()


@dataclass(slots=True)
class Records:
    """The file, shared by the threads of one process; one process at a time acts on disks."""

    host: Host

    def all(self) -> dict[str, Record]:
        """Every record, by the device's kernel name; a damaged file is an empty one."""
        try:
            stored = json.loads(self.host.read(FILE) or "{}")
            return {name: _record(**entry) for name, entry in stored.items()}
        except (ValueError, TypeError, AttributeError):
            return {}

    def put(self, name: str, record: Record | None) -> None:
        """Remember ``record`` for the device, or with None forget the device."""
        with _lock:
            found = {key: asdict(value) for key, value in self.all().items() if key != name}
            if record is not None:
                found[name] = asdict(record)
            self.host.mkdir("/run/gandi")
            self.host.write(FILE, json.dumps(found, sort_keys=True) + "\n", mode=0o600)


def _record(services: Sequence[str] = (), **entry: Any) -> Record:
    return Record(**entry, services=tuple(services))
