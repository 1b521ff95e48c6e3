"""The records that wait for one receiver: a bounded queue, of which the oldest are dropped and counted."""

from __future__ import annotations

from collections import deque
from contextlib import suppress

from agent.lib.errors import HostError
from agent.lib.records import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from agent.reporting.records import Record

    class Channel(Protocol):
        """A way to a receiver. No method waits."""

        def exists(self) -> bool:
            """Return whether the machine has it."""

        def encode(self, record: Record) -> bytes:
            """Return a record as it is sent."""

        def send(self, data: memoryview) -> int:
            """Send the start of ``data`` and return its length. Raise BlockingIOError if the receiver takes
            nothing now, another OSError or a HostError if it cannot be reached.
            """

        def complete(self) -> None:
            """Note that a record was sent to its end."""

        def close(self) -> None:
            """Give up what was begun; the next ``send`` begins again."""


#: Most records that wait: a boot has four stages, and a burst of disks is shown by its last ones.
LIMIT = 256


@dataclass(slots=True)
class Outbox:
    """The queue of one channel. It is never waited for."""

    channel: Channel
    waiting: deque[Record] = field(default_factory=deque)
    #: Records that were dropped since the last one that was sent.
    lost: int = 0
    #: The run of each stage that was reported: when it ended and how long it took, by status.json.
    stages: dict[str, object] = field(default_factory=dict)
    #: The reported end of the boot, as result and verdict; empty before.
    boot: list[str] = field(default_factory=list)
    #: Whether that the machine is ready was reported, or is not going to be.
    is_ready_sent: bool = False
    #: The record that is being sent, how much of it was, and the losses that it names.
    _data: bytes = b""
    _sent: int = 0
    _named: int = 0

    def put(self, record: Record) -> None:
        """Queue a record; drop the oldest one that was not begun if there are too many."""
        self.waiting.append(record)
        if len(self.waiting) > LIMIT:
            del self.waiting[1 if self._sent else 0]
            self.lost += 1

    def flush(self) -> None:
        """Send what the receiver takes now; the rest is tried again by the next call."""
        while self.waiting:
            if not self._sent:  # not begun: it names the losses until now
                self._named = self.lost
                named = {"lost": self.lost} if self.lost else {}
                self._data = self.channel.encode(self.waiting[0] | named)
            try:
                self._sent += self.channel.send(memoryview(self._data)[self._sent :])
            except BlockingIOError:
                return
            except (OSError, HostError):
                # No receiver, or it has gone: the record is sent again from its start.
                self.channel.close()
                self._sent = 0
                return
            if self._sent == len(self._data):
                self.waiting.popleft()
                self.lost -= self._named
                self._sent = 0
                self.channel.complete()

    def saved(self) -> dict[str, Any]:
        """Return what the next daemon goes on from, as JSON's types."""
        return {
            "waiting": list(self.waiting),
            "lost": self.lost,
            "stages": self.stages,
            "boot": self.boot,
            "ready": self.is_ready_sent,
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from what an earlier daemon saved; ignore what is damaged."""
        with suppress(KeyError, TypeError, ValueError, OverflowError):
            self.waiting.extend(dict(record) for record in saved["waiting"])
            self.lost, self.is_ready_sent = int(saved["lost"]), bool(saved["ready"])
            self.stages, self.boot = dict(saved["stages"]), [str(text) for text in saved["boot"]]
