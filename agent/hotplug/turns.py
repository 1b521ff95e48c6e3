"""Who may look at a disk and who decides, among the threads of one process. Lives as long as that."""

from __future__ import annotations

import contextlib
import threading

from agent.errors import Busy
from agent.plain import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.hotplug.facts import Filesystem

#: Seconds that one look at a disk waits for another one to end; growing a large filesystem takes minutes.
PATIENCE = 1800.0


@dataclass(slots=True)
class Turns:
    """One look at a disk at a time, one decision at a time, and what is being mounted meanwhile."""

    deciding: threading.Lock = field(default_factory=threading.Lock)
    disks: dict[str, threading.Lock] = field(default_factory=dict)
    pending: dict[str, Filesystem] = field(default_factory=dict)

    @contextlib.contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Hold the disk. Raises Busy when another look at it does not end."""
        with self.deciding:
            lock = self.disks.setdefault(name, threading.Lock())
        if not lock.acquire(timeout=PATIENCE):
            raise Busy(f"{name}: still being worked on after {PATIENCE:g} s", hint="see: gandi-agent status")
        try:
            yield
        finally:
            lock.release()
