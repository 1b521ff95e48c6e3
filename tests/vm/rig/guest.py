"""Commands, files, waiting and the journal in a guest, all over the command channel."""

from __future__ import annotations

import base64
import json
from typing import Any

from .channel import Argv, GuestError, Pending, Result
from .command import RigError
from .guest_restless import RESTING
from .process import Running

COMMAND_TIMEOUT = 60.0
LOG_TIMEOUT = 30.0


class Guest(Running):
    """The guest of a machine. A mix-in of Machine."""

    def run(
        self, argv: Argv, *, timeout: float = COMMAND_TIMEOUT, check: bool = True, stdin: bytes = b""
    ) -> Result:
        """Run a command as root, a string with /bin/sh.

        Raise GuestError when it fails or runs longer than `timeout` seconds, unless `check` is false.
        """
        result = self.spawn(argv, timeout=timeout, stdin=stdin).result()
        return result.checked() if check else result

    def spawn(self, argv: Argv, *, timeout: float = COMMAND_TIMEOUT, stdin: bytes = b"") -> Pending:
        """Start a command in the background; `.result()` waits for its end."""
        return self.channel.start(argv, timeout=timeout, stdin=stdin)

    def output(self, argv: Argv, *, timeout: float = COMMAND_TIMEOUT) -> str:
        """Return the standard output of a command, without white space around it."""
        return self.run(argv, timeout=timeout).stdout.strip()

    def json(self, argv: Argv, *, timeout: float = COMMAND_TIMEOUT) -> Any:
        """Return a command's output, decoded from JSON."""
        return json.loads(self.run(argv, timeout=timeout).stdout)

    def wait_until(self, condition: Argv, *, timeout: float = 60, interval: float = 0.5) -> Result:
        """Wait in the guest until a command succeeds; it is run every `interval` seconds, or less often when
        it takes long itself.

        Return the last result, with the time waited in `seconds`. Raise GuestError with its output after
        `timeout` seconds.
        """
        pending = self.channel.start(condition, timeout=timeout, op="wait", interval=interval)
        return pending.result().checked()

    def rest(self, seconds: float) -> None:
        """Let a guest rest for so many seconds of its clock, which skips them (MachineSpec.skips)."""
        self.run(f"touch {RESTING}; sleep {seconds}; rm {RESTING}", timeout=seconds + COMMAND_TIMEOUT)

    def read_file(self, path: str) -> bytes:
        """Return a file's content. Raise GuestError when it cannot be read."""
        return base64.b64decode(self.channel.ask("read", path=path)["data"])

    def write_file(self, path: str, content: bytes | str, *, mode: int = 0o644) -> None:
        """Write a file (in place), and make the folders above it."""
        data = base64.b64encode(content.encode() if isinstance(content, str) else content).decode()
        self.channel.ask("write", path=path, data=data, mode=mode)

    def journal(self, unit: str | None = None, *, lines: int = 20_000) -> str:
        """Return the last `lines` of this boot's journal with exact times, of one unit or all."""
        only = ["-u", unit] if unit else []
        argv = ["journalctl", "-b", "--no-pager", "-o", "short-monotonic", "-n", str(lines), *only]
        return self.run(argv).stdout

    def collect_logs(self) -> None:
        """Save the guest's journal beside the serial log, for a failed test; or a note that the guest is
        dead.
        """
        if not self.is_on:
            return
        argv = ["journalctl", "--no-pager", "-o", "short-monotonic", "-n", "50000"]
        try:
            text = self.process.channel.start(argv, timeout=LOG_TIMEOUT).result().stdout
        except (RigError, GuestError) as error:
            text = f"the journal could not be had: {error}\n"
        (self.logs / "journal.txt").write_text(text)
