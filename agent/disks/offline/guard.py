"""End the programs of an image when the process that has mounted it is killed.

bubblewrap ends its program with its parent, but not yet while it prepares it: then its child waits without
end, and keeps the image mounted. A second process, which only waits for the end of the first, ends whatever
still has the image's mount. Programs that write to the image without a mount (e2fsck, resize2fs) are left to
their end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from agent.lib.text import number

#: Seconds in which all of them must be gone, and between two looks.
_TIMEOUT, _POLL = 10.0, 0.05
#: Most bytes of a process's mountinfo that are read.
_LIMIT = 1 << 22


class Guard:
    """The second process. Made before the image is opened: it must not have its descriptors."""

    def __init__(self) -> None:
        reading, self._writing = os.pipe()
        first = os.getpid()
        self._process = os.fork()
        if not self._process:
            try:
                os.close(self._writing)
                # Away from the terminal, of which Ctrl-C would reach it too.
                os.setsid()
                _watch(reading, first)
            finally:
                os._exit(0)
        os.close(reading)

    def note(self, node: str) -> None:
        """Name a filesystem that is to be mounted."""
        os.write(self._writing, node.encode() + b"\n")

    def end(self) -> None:
        """Have it end what still has these filesystems mounted, except this process."""
        if self._process:
            os.close(self._writing)
            os.waitpid(self._process, 0)
            self._process = 0


def _watch(reading: int, first: int) -> None:
    """Wait until the process ``first`` closes the pipe, or has ended; then kill what else has a filesystem
    mounted that it has named.
    """
    said = b""
    while chunk := os.read(reading, 4096):
        said += chunk
    nodes = tuple(b" %s " % node for node in said.split(b"\n")[:-1])
    end = time.monotonic() + _TIMEOUT
    while nodes and (found := _having(nodes, first)) and time.monotonic() < end:
        for process in found:
            with contextlib.suppress(ProcessLookupError):  # it has ended
                os.kill(process, signal.SIGKILL)
        time.sleep(_POLL)


def _having(nodes: tuple[bytes, ...], first: int) -> list[int]:
    """Return the other processes with such a mount in their namespace. No process has it but those that the
    first one has started: its namespace is private.
    """
    others = {number(name) for name in os.listdir("/proc")} - {None, os.getpid(), first}
    return [process for process in others if process and any(n in _mountinfo(process) for n in nodes)]


def _mountinfo(process: int) -> bytes:
    try:
        with open(f"/proc/{process}/mountinfo", "rb") as file:
            return file.read(_LIMIT)
    except OSError:  # it has ended
        return b""
