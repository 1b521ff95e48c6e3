"""Work in progress, for each device and stage: written to the status after a second, or on request.

Most work ends sooner. Writing the status takes as long as examining a disk, which it would delay.
"""

from __future__ import annotations

import threading
import time

from agent.context import record, report_progress
from agent.lib.records import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.context import Context

#: Seconds after which work is written to the status.
WORTH_SHOWING = 1.0


@dataclass(slots=True)
class Work:
    """Work in progress: its start (monotonic seconds), and whether the status shows it."""

    action: str
    started_at: float
    shown: bool = False


@dataclass(slots=True)
class Activity:
    """The work in progress, at most one for each device and stage. Thread-safe."""

    ctx: Context
    #: Makes the loop call ``next_show`` again.
    wake: Callable[[], None] = lambda: None
    _work: dict[str, Work] = field(default_factory=dict)
    #: Held while the status is written, so that the end of work is written last.
    _status_lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, device: str, action: str) -> None:
        """Note that work on the device begins."""
        self._work[device] = Work(action, time.monotonic())
        self.wake()

    def set_step(self, stage: str, step: str, why: str) -> None:
        """Note the current step of a stage and what it waits for ("" for nothing); no step: it has ended."""
        if not step:
            self.end(stage)
            return
        with self._status_lock:
            before = self._work.get(stage)
            is_shown = before is not None and before.shown
            self._work[stage] = Work(step, time.monotonic(), is_shown)
        if is_shown or why:
            self._show(stage, why)
        else:
            self.wake()

    def end(self, device: str) -> None:
        """Note that the work has ended, and remove it from the status."""
        with self._status_lock:
            if (work := self._work.pop(device, None)) and work.shown:
                record(self.ctx, lambda: self.ctx.status.merge("work", device, None))

    def has(self, device: str) -> bool:
        """Return whether work on the device is in progress."""
        return device in self._work

    def set_waiting(self, device: str, why: str) -> None:
        """Show at once what the work waits for; the end of a wait only if the work is shown already."""
        work = self._work.get(device)
        if why or (work and work.shown):
            self._show(device, why)

    def next_show(self) -> float | None:
        """Return when to call ``show_due`` next (monotonic seconds), or None if all work is shown."""
        begun = list(self._work.values())
        return min((work.started_at + WORTH_SHOWING for work in begun if not work.shown), default=None)

    def show_due(self, now: float) -> None:
        """Show the work that has lasted ``WORTH_SHOWING`` seconds and is not shown yet."""
        for device, work in list(self._work.items()):
            if not work.shown and now >= work.started_at + WORTH_SHOWING:
                self._show(device, "", first=True)

    def _show(self, device: str, why: str, *, first: bool = False) -> None:
        """Write the work to the status; with ``first`` only if it is not shown yet."""
        with self._status_lock:
            work = self._work.get(device)
            if work and not (first and work.shown):
                work.shown = True
                report_progress(self.ctx, device, work.action, why)
