"""Signs of life for systemd, which ends and restarts a daemon that gives none (WatchdogSec= of its unit)."""

from __future__ import annotations

import os
import time

from agent.lib.records import dataclass
from agent.lib.text import number
from agent.systemd.journal import notify


@dataclass(slots=True)
class Watchdog:
    """sd_watchdog_enabled(3): a sign of life twice in each interval, from the loop and from nowhere else."""

    #: Seconds between two signs; None when nobody watches.
    interval: float | None
    next: float | None = None

    @classmethod
    def from_environment(cls) -> Watchdog:
        """As systemd asks for it."""
        watched = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = number(os.environ.get("WATCHDOG_USEC", ""))
        interval = microseconds / 2e6 if watched and microseconds is not None else None
        return cls(interval, time.monotonic() + interval if interval else None)

    def tick(self, now: float) -> None:
        """Give the sign when it is due."""
        if self.interval and self.next is not None and now >= self.next:
            notify("WATCHDOG=1")
            self.next = now + self.interval
