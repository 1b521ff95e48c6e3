"""What is done once for an attachment of a disk: /run/gandi/once.json, gone with the power.

What we do to a disk makes udev send another event, and the daemon that gets it may be another one: a check
or a growth that failed must not be tried again for ever (but when the disk is added once more, as a boot and
the administrator do it), and only a disk that has just come is new.
"""

from __future__ import annotations

import json
import threading

from agent.block import storage
from agent.host.sysfs import attribute
from agent.lib.records import dataclass
from agent.lib.text import number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.block.storage import Disk
    from agent.host.host import Host

FILE = "/run/gandi/once.json"
_COLDPLUG = "coldplug"
#: What is done to a device once; its name follows.
CHECK, GROWTH = "fsck", "grow"
_lock = threading.Lock()


@dataclass(slots=True)
class Once:
    """The file, shared by the threads of one process; one process at a time acts on disks."""

    host: Host

    def noted(self, what: str) -> str:
        """What was noted last under that name, "" for nothing."""
        return self._read().get(what, "")

    def note(self, what: str, value: str) -> None:
        """Note ``value`` in place of what was noted under that name."""
        if self.host.dry_run:
            return
        with _lock:
            self.host.mkdir("/run/gandi")
            self._write(self._read() | {what: value})

    def try_again(self, devices: Iterable[str]) -> None:
        """Forget which checks and growths of these devices (kernel names) were tried."""
        tried = {f"{what} {device}" for device in devices for what in (CHECK, GROWTH)}
        if self.host.dry_run:
            return
        with _lock:
            known = self._read()
            left = {what: value for what, value in known.items() if what not in tried}
            if left != known:
                self._write(left)

    def coldplugged(self) -> None:
        """Every disk that is there now was there before anybody attached one to the running machine."""
        self.note(_COLDPLUG, str(self._latest()))

    def is_new(self, disk: Disk) -> bool:
        """Whether the disk was attached while the machine runs and is looked at for the first time.

        The kernel counts attachments (diskseq, since Linux 5.15), so events that are lost, doubled or made
        by ``udevadm trigger`` make no difference. Without a count, and before the mount stage, none is.
        """
        first = self.noted(_COLDPLUG)
        if not first:
            self.coldplugged()
        sequence = number(disk.sequence)
        if not first or sequence is None:
            return False
        return sequence > (number(first) or 0) and self.noted(f"look {disk.name}") != disk.sequence

    def looked(self, disk: Disk) -> None:
        """The disk has been looked at: it is new no longer."""
        self.note(f"look {disk.name}", disk.sequence)

    def _latest(self) -> int:
        numbers = (attribute(self.host, f"{storage.BLOCK}/{n}/diskseq") for n in storage.names(self.host))
        return max((number(text) or 0 for text in numbers), default=0)

    def _write(self, known: dict[str, str]) -> None:
        self.host.write(FILE, json.dumps(known, sort_keys=True) + "\n", mode=0o600)

    def _read(self) -> dict[str, str]:
        try:
            found = json.loads(self.host.read(FILE) or "{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}
