"""The host's end of the command channel; guest_channel.py is the guest's.

Requests have numbers, so several may be in progress. Every wait is bounded: for a guest that does not
answer, RigError is raised.
"""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .command import RigError
from .guest_channel import HEADER, MAGIC

PING_EVERY = 1.0
# Seconds for the channel itself, in addition to the command's timeout.
GRACE = 20.0
Argv = Sequence[str] | str


class GuestError(Exception):
    """A command in the guest failed, or a condition did not come true."""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a guest command. `rc` is None when it was killed at its timeout."""

    argv: tuple[str, ...]
    stdout: str
    stderr: str
    rc: int | None
    seconds: float
    raw: bytes

    def checked(self) -> Result:
        """Return this result. Raise GuestError with the output when the command failed."""
        if self.rc != 0:
            ended = "killed, out of time" if self.rc is None else f"exit {self.rc}"
            said = f"{self.stdout[-4000:]}\n{self.stderr[-4000:]}"
            raise GuestError(f"{' '.join(self.argv)}: {ended} after {self.seconds:.1f} s\n{said}")
        return self


@dataclass(frozen=True, slots=True)
class Boot:
    """The guest's boot that answers, and its uptime in seconds by the kernel's clock."""

    id: str
    uptime: float


class Pending:
    """A command that runs in the guest in the background."""

    def __init__(self, channel: Channel, number: int, argv: tuple[str, ...], timeout: float) -> None:
        self._channel, self._number, self._argv = channel, number, argv
        self._end = time.monotonic() + timeout + GRACE

    def done(self) -> bool:
        """Return whether the result has arrived."""
        return self._channel.arrived(self._number)

    def result(self) -> Result:
        """Wait for the end, bounded by the timeout that it was started with, and return the result."""
        reply = self._channel.reply(self._number, self._end, " ".join(self._argv))
        raw = base64.b64decode(reply["stdout"])
        error = base64.b64decode(reply["stderr"]).decode(errors="replace")
        return Result(self._argv, raw.decode(errors="replace"), error, reply["rc"], reply["seconds"], raw)


class Channel:
    """A connection to the guest's program, one per QEMU process; it survives reboots of the guest."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._buffer = b""
        self._next = 1
        self._replies: dict[int, dict[str, Any]] = {}

    def close(self) -> None:
        """Close the host's end."""
        self._socket.close()

    def start(
        self, argv: Argv, *, timeout: float, stdin: bytes = b"", op: str = "run", **more: object
    ) -> Pending:
        """Start a command, a string with /bin/sh, without waiting for it."""
        words = ("sh", "-c", argv) if isinstance(argv, str) else tuple(argv)
        request = {"op": op, "argv": words, "timeout": timeout, **more}
        if stdin:
            request["stdin"] = base64.b64encode(stdin).decode()
        return Pending(self, self._send(request), words, timeout)

    def ask(self, op: str, timeout: float = 30, **fields: object) -> dict[str, Any]:
        """Send a request and return the reply."""
        return self.reply(self._send({"op": op, **fields}), time.monotonic() + timeout, op)

    def ready(self, timeout: float, other_than: str = "") -> Boot:
        """Wait until the guest answers from another boot than `other_than`. Raise RigError after `timeout`
        seconds.
        """
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            number = self._send({"op": "ping"})
            pause = time.monotonic() + PING_EVERY
            while time.monotonic() < pause and number not in self._replies:
                self._receive(pause)
            reply = self._replies.pop(number, None)
            if reply is not None and reply["boot"] != other_than:
                self._replies.clear()
                return Boot(reply["boot"], reply["uptime"])
        raise RigError(f"the guest did not answer on the command channel in {timeout:.0f} s")

    def arrived(self, number: int) -> bool:
        """Return whether the reply to request `number` has arrived."""
        self._receive(time.monotonic())
        return number in self._replies

    def reply(self, number: int, end: float, what: str) -> dict[str, Any]:
        """Wait for the reply to request `number` until `end` (monotonic)."""
        while number not in self._replies:
            if time.monotonic() > end:
                raise RigError(f"the guest stopped answering during: {what}")
            self._receive(end)
        reply = self._replies.pop(number)
        if "error" in reply:
            raise GuestError(f"{what}: {reply['error']}")
        return reply

    def _send(self, request: dict[str, object]) -> int:
        number, self._next = self._next, self._next + 1
        body = json.dumps(request).encode()
        self._socket.settimeout(60)
        try:
            self._socket.sendall(HEADER.pack(MAGIC, number, len(body)) + body)
        except OSError as error:
            raise RigError(f"QEMU is gone, or the guest reads nothing: {error}") from error
        return number

    def _receive(self, end: float) -> None:
        """Receive until `end` (monotonic), at least once."""
        self._socket.settimeout(max(end - time.monotonic(), 0.001))
        try:
            chunk = self._socket.recv(262144)
        except TimeoutError:
            return
        except OSError as error:
            raise RigError(f"the command channel broke: {error}") from error
        if not chunk:
            raise RigError("QEMU closed the command channel: the machine has ended")
        self._buffer += chunk
        self._take_frames()

    def _take_frames(self) -> None:
        while (start := self._buffer.find(MAGIC)) >= 0 and len(self._buffer) >= start + HEADER.size:
            _, number, length = HEADER.unpack_from(self._buffer, start)
            end = start + HEADER.size + length
            if len(self._buffer) < end:
                return
            self._replies[number] = json.loads(self._buffer[start + HEADER.size : end])
            self._buffer = self._buffer[end:]
