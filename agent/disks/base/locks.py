"""Who may look at a disk and who decides: among the threads of a process, and among the processes (the
daemon, a stage client that fell back, the verbs).
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time

from agent.disks.base import record
from agent.disks.base.facts import Filesystem
from agent.host import processes
from agent.lib.errors import Busy
from agent.lib.records import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from agent.host.host import Host

#: Seconds that one look at a disk waits for another one to end; growing a large filesystem takes minutes.
PATIENCE = 1800.0
#: Seconds that a decision waits for another process's, which takes a fraction of one.
_DECISION = 60.0


@dataclass(slots=True)
class Turns:
    """One look at a disk at a time, one decision at a time, and what is being mounted meanwhile.

    What this process mounts is in memory, and in a file for the others; what a process that has died was
    about to mount counts no more.
    """

    _deciding: threading.Lock = field(default_factory=threading.Lock)
    _making: threading.Lock = field(default_factory=threading.Lock)
    _disks: dict[str, threading.Lock] = field(default_factory=dict)
    _pending: dict[str, Filesystem] = field(default_factory=dict)

    @contextlib.contextmanager
    def of(self, host: Host, name: str, patience: float = PATIENCE) -> Iterator[None]:
        """Hold the disk. Raises Busy when another look at it does not end."""
        with self._making:
            lock = self._disks.setdefault(name, threading.Lock())
        deadline = time.monotonic() + patience
        if not lock.acquire(timeout=patience):
            raise Busy(f"{name}: still being worked on after {patience:g} s", hint="see: gandi-agent status")
        try:
            with record.exclusive(host, name, max(deadline - time.monotonic(), 0.0)):
                yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def deciding(self, host: Host) -> Iterator[None]:
        """Be the only one who decides."""
        with self._deciding, record.exclusive(host, "decisions", _DECISION):
            yield

    def pending(self, host: Host) -> dict[str, Filesystem]:
        """What is being mounted now, by device number, whoever does it."""
        others = {
            number: Filesystem(number, entry["uuid"], os.fsencode(entry["label"]), entry["at"], ours=True)
            for number, entry in self._others(host).items()
        }
        return others | self._pending

    def begin(self, host: Host, taken: Filesystem) -> None:
        """The device is about to be mounted. To be called while deciding."""
        self._pending[taken.number] = taken
        self._store(host)

    def end(self, host: Host, number: str) -> None:
        """It is mounted, or it could not be."""
        with self.deciding(host):
            self._pending.pop(number, None)
            self._store(host)

    def _stored(self, host: Host) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(host.read(_file()) or "{}")
        except ValueError:
            found = {}
        return found

    def _others(self, host: Host) -> dict[str, Any]:
        """The entries of other processes that still run."""
        me = processes.key(processes.me())
        return {
            number: entry
            for number, entry in self._stored(host).items()
            if processes.key(entry) != me and processes.lives(entry)
        }

    def _store(self, host: Host) -> None:
        if host.dry_run:
            return
        me = processes.me()
        found = self._others(host)
        for number, taken in self._pending.items():
            label = os.fsdecode(taken.label)
            found[number] = {"uuid": taken.uuid, "label": label, "at": taken.at} | me
        host.write(_file(), json.dumps(found) + "\n", mode=0o600)


def _file() -> str:
    return f"{record.FOLDER}/pending.json"


#: The disks of this machine, for everything in this process that acts on them.
TURNS = Turns()
