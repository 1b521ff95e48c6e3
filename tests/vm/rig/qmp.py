"""Synchronous QMP: plain calls, each with a timeout, around QEMU's own client library.

One connection lasts as long as its QEMU process. The event loop runs only inside calls; events that arrive
in between stay in the socket until they are read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from qemu.qmp import EventListener, QMPClient, QMPError

from .command import RigError

T = TypeVar("T")
Event = dict[str, Any]

COMMAND_TIMEOUT = 60.0


class Qmp:
    """The monitor of one QEMU process."""

    def __init__(self, path: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = QMPClient("rig")
        self._listener = EventListener()
        self._client.register_listener(self._listener)
        self._events: list[Event] = []
        self._sync(self._client.connect(str(path)), 15)

    def _sync(self, work: Coroutine[Any, Any, T], timeout: float) -> T:
        return self._loop.run_until_complete(asyncio.wait_for(work, timeout))

    def call(self, command: str, /, **arguments: object) -> Any:
        """Run a QMP command; `_` in names of arguments stands for `-`. Raise RigError with QEMU's message
        when it is refused.
        """
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        try:
            return self._sync(self._client.execute(command, named), COMMAND_TIMEOUT)
        except (QMPError, TimeoutError) as error:
            raise RigError(f"QMP {command} {named}: {type(error).__name__} {error}") from error

    def human(self, line: str) -> str:
        """Run a command of QEMU's human monitor and return its output."""
        return str(self.call("human-monitor-command", command_line=line))

    def wait_event(
        self, name: str, timeout: float = 60, match: Callable[[dict[str, Any]], bool] = lambda _: True
    ) -> Event:
        """Return the first event `name`, from now or not yet read, with data that `match` accepts. Raise
        RigError after `timeout` seconds.
        """
        end = time.monotonic() + timeout
        while True:
            for event in self._events:
                if event["event"] == name and match(event.get("data", {})):
                    self._events.remove(event)
                    return event
            left = end - time.monotonic()
            if left <= 0:
                seen = [event["event"] for event in self._events[-20:]]
                raise RigError(f"QMP event {name} did not come in {timeout} s; others: {seen}")
            self._pull(left)

    def _pull(self, timeout: float) -> None:
        try:
            message = self._sync(self._listener.get(), timeout)
        except TimeoutError:
            return
        self._events.append(dict(message))

    def forget_events(self) -> None:
        """Drop the events so far, so that `wait_event` returns only later ones."""
        self.call("query-status")  # a round trip: all events sent before have been read
        self._listener.clear()
        self._events.clear()

    def close(self) -> None:
        """Close the connection; the QEMU process may be gone already."""
        try:
            self._sync(self._client.disconnect(), 5)
        except (QMPError, OSError, EOFError, TimeoutError):
            return
        finally:
            self._loop.close()
