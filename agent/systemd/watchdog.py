"""Keep-alive messages for systemd's watchdog, which restarts a daemon without them (WatchdogSec=)."""

from __future__ import annotations

import os
import time

from agent.lib.records import dataclass
from agent.lib.text import number
from agent.systemd.journal import notify


@dataclass(slots=True)
class Watchdog:
    """Sends WATCHDOG=1 twice in each interval (sd_watchdog_enabled(3)), from the main loop only."""

    #: Seconds between two messages; None without a watchdog.
    interval: float | None
    next: float | None = None

    @classmethod
    def from_environment(cls) -> Watchdog:
        """Read the interval from WATCHDOG_USEC, if WATCHDOG_PID is this process."""
        watched = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = number(os.environ.get("WATCHDOG_USEC", ""))
        interval = microseconds / 2e6 if watched and microseconds is not None else None
        return cls(interval, time.monotonic() + interval if interval else None)

    def tick(self, now: float) -> None:
        """Send the message if it is due."""
        if self.interval and self.next is not None and now >= self.next:
            notify("WATCHDOG=1")
            self.next = now + self.interval
