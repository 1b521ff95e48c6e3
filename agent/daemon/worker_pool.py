"""A small pool of threads with one ordered queue for each key, so that a disk that hangs holds up only
itself.

Threads are made when there is work and end when there is none: an idle daemon has one thread. They die with
the process, because a thread that hangs in the kernel must not keep the daemon from ending; whatever must
not be cut short runs in a unit of its own.
"""

from __future__ import annotations

import threading
import time
from collections import deque

from agent.lib.records import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(slots=True)
class Workers:
    """At most ``limit`` keys at work at a time; the jobs of one key one after the other, in their order."""

    limit: int
    #: Told the key and the exception of a job that raised: a defect, which costs that job alone.
    broken: Callable[[str, Exception], None]
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _queues: dict[str, deque[Callable[[], None]]] = field(default_factory=dict)
    _ready: deque[str] = field(default_factory=deque)
    _threads: int = 0
    _closed: bool = False

    def submit(self, key: str, job: Callable[[], None], *, once: bool = False) -> None:
        """Do ``job`` after the jobs of that key that came before; nothing once closed. ``once``: not if one
        waits already.
        """
        with self._changed:
            if self._closed:
                return
            if key in self._queues:  # it waits or is at work: its thread takes this job too
                if not (once and self._queues[key]):
                    self._queues[key].append(job)
                return
            self._queues[key] = deque([job])
            self._ready.append(key)
            if self._threads < self.limit:
                self._threads += 1
                threading.Thread(target=self._work, name=f"worker-{key}", daemon=True).start()

    def busy(self) -> tuple[str, ...]:
        """The keys that have work."""
        with self._changed:
            return tuple(self._queues)

    def close(self) -> None:
        """Start nothing any more; what runs goes on."""
        with self._changed:
            self._closed = True
            self._ready.clear()
            for queue in self._queues.values():
                queue.clear()

    def settle(self, seconds: float) -> bool:
        """Wait until nothing is at work, for so long; whether that came about."""
        deadline = time.monotonic() + seconds
        with self._changed:
            return self._changed.wait_for(lambda: not self._threads, max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        while (taken := self._next()) is not None:
            key, job = taken
            try:
                job()
            except Exception as error:
                self.broken(key, error)
            self._done(key)

    def _next(self) -> tuple[str, Callable[[], None]] | None:
        with self._changed:
            if not self._ready:
                self._threads -= 1
                self._changed.notify_all()
                return None
            key = self._ready.popleft()
            return key, self._queues[key].popleft()

    def _done(self, key: str) -> None:
        with self._changed:
            if self._queues[key]:
                self._ready.append(key)
            else:
                del self._queues[key]
