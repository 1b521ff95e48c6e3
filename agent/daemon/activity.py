"""What the daemon is at, device by device and stage by stage, shown once it has lasted a second, or when
somebody asks.

Most work has ended by then. To write that file takes as long as a look at a disk, which would wait for it.
"""

from __future__ import annotations

import threading
import time

from agent.context import record, working
from agent.lib.records import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.context import Context

#: Seconds after which work is shown.
WORTH_SHOWING = 1.0


@dataclass(slots=True)
class Begun:
    """Work that began at a time (monotonic seconds), and whether the status shows it."""

    action: str
    at: float
    shown: bool = False


@dataclass(slots=True)
class UnderWay:
    """The work on each device and in each stage, which have one at a time. For any thread."""

    ctx: Context
    #: Has the loop ask again what is due.
    wake: Callable[[], None] = lambda: None
    _begun: dict[str, Begun] = field(default_factory=dict)
    #: Held while the status is told of work, and of its end: the end comes last.
    _telling: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, device: str, action: str) -> None:
        """Work on the device begins."""
        self._begun[device] = Begun(action, time.monotonic())
        self.wake()

    def at(self, stage: str, step: str, why: str) -> None:
        """A stage is at a step now, which waits for something, or for nothing (""); at no step: it has
        ended.
        """
        if not step:
            self.end(stage)
            return
        with self._telling:
            before = self._begun.get(stage)
            is_shown = before is not None and before.shown
            self._begun[stage] = Begun(step, time.monotonic(), is_shown)
        if is_shown or why:
            self._show(stage, why)
        else:
            self.wake()

    def end(self, device: str) -> None:
        """It has ended; the status shows it no more."""
        with self._telling:
            if (work := self._begun.pop(device, None)) and work.shown:
                record(self.ctx, lambda: self.ctx.status.merge("work", device, None))

    def has(self, device: str) -> bool:
        """Whether the device is being worked on."""
        return device in self._begun

    def wait(self, device: str, why: str) -> None:
        """Show at once what the work waits for; the end of a wait only where it is shown."""
        work = self._begun.get(device)
        if why or (work and work.shown):
            self._show(device, why)

    def due(self) -> float | None:
        """When ``show`` has something to show (monotonic seconds), None for never as things are."""
        begun = list(self._begun.values())
        return min((work.at + WORTH_SHOWING for work in begun if not work.shown), default=None)

    def show(self, now: float) -> None:
        """Show what has lasted, and says by itself nothing of what it waits for."""
        for device, work in list(self._begun.items()):
            if not work.shown and now >= work.at + WORTH_SHOWING:
                self._show(device, "", first=True)

    def _show(self, device: str, why: str, *, first: bool = False) -> None:
        """``first``: only where nothing is shown yet."""
        with self._telling:
            work = self._begun.get(device)
            if work and not (first and work.shown):
                work.shown = True
                working(self.ctx, device, work.action, why)
