"""A small pool of threads with one ordered queue for each key, so that a hung disk delays only itself.

Threads start when there is work and end when there is none: an idle daemon has one thread. They are daemon
threads, because one that hangs in the kernel must not keep the process from ending; what must not be
interrupted runs in a unit of its own.
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
    """Runs jobs of at most ``limit`` keys at a time; the jobs of one key run in order, one at a time."""

    limit: int
    #: Called with the key and the exception of a job that raised: a defect; later jobs still run.
    broken: Callable[[str, Exception], None]
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _queues: dict[str, deque[Callable[[], None]]] = field(default_factory=dict)
    _ready: deque[str] = field(default_factory=deque)
    _threads: int = 0
    _closed: bool = False

    def submit(self, key: str, job: Callable[[], None], *, once: bool = False) -> None:
        """Queue ``job`` behind the earlier jobs of its key; ignored once closed.

        ``once``: also ignored if a job of that key is waiting.
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
        """Return the keys that have jobs, waiting or running."""
        with self._changed:
            return tuple(self._queues)

    def close(self) -> None:
        """Drop the waiting jobs and accept no more; running jobs continue."""
        with self._changed:
            self._closed = True
            self._ready.clear()
            for queue in self._queues.values():
                queue.clear()

    def settle(self, seconds: float) -> bool:
        """Wait up to ``seconds`` for all jobs; return True if idle."""
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
