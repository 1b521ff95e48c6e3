"""End the programs of an image when the process that has mounted it is killed.

bubblewrap ends its program with its parent, but not yet while it prepares it: then its child waits without
end, and keeps the image mounted. A second process, which only waits for the end of the first, ends whatever
still has the image's mount. Programs that write to the image without a mount (e2fsck, resize2fs) are left to
their end.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import time

from agent.block import storage
from agent.disks.offline.mounting import PLACE
from agent.host.host import Host
from agent.host.sysfs import attribute
from agent.lib.text import number

#: Seconds in which all of them must be gone, and between two looks.
_TIMEOUT, _POLL = 10.0, 0.05
_DETACH = 2  # MNT_DETACH of linux/fs.h: the mount ends for all, and its device with the last user
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

    def note(self, host: Host, node: str) -> None:
        """Name a loop device, or a partition of one, that is to be mounted."""
        disk = storage.whole_disk(host, node.removeprefix("/dev/"))
        number = attribute(host, f"{storage.BLOCK}/{disk}/diskseq")
        os.write(self._writing, f"{node} {disk} {number}\n".encode())

    def end(self) -> None:
        """Have it end what still has that device mounted, except this process."""
        if self._process:
            os.close(self._writing)
            os.waitpid(self._process, 0)
            self._process = 0


def _watch(reading: int, first: int) -> None:
    """Wait until the process ``first`` closes the pipe, or has ended; then kill what else has the device
    mounted that it has named, until nothing has.

    Processes are no proof that nothing has: one may be born while they are listed. The kernel is asked.
    """
    said = b""
    while chunk := os.read(reading, 4096):
        said += chunk
    host, end = Host(), time.monotonic() + _TIMEOUT
    for node, disk, sequence in (line.split(" ") for line in said.decode().split("\n")[:-1]):
        mounted = f" {node} ".encode()
        if mounted in _mountinfo(os.getpid()):
            # This process has the namespace of the other one, which was killed.
            ctypes.CDLL(None).umount2(os.fsencode(PLACE), _DETACH)
        # The loop device may be another program's by now: it has another number then.
        while (
            _is_mounted(node)
            and attribute(host, f"{storage.BLOCK}/{disk}/diskseq") == sequence
            and time.monotonic() < end
        ):
            _kill(mounted, first)
            time.sleep(_POLL)


def _is_mounted(node: str) -> bool:
    """Return whether a device is mounted, in whatever namespace."""
    try:
        os.close(os.open(node, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        return error.errno == errno.EBUSY
    return False


def _kill(mounted: bytes, first: int) -> None:
    """Kill the other processes that have the mount. Those are started by the first one: its namespace is
    private.
    """
    for process in {number(name) for name in os.listdir("/proc")} - {None, os.getpid(), first}:
        if process and mounted in _mountinfo(process):
            with contextlib.suppress(ProcessLookupError):  # it has ended
                os.kill(process, signal.SIGKILL)


def _mountinfo(process: int) -> bytes:
    try:
        with open(f"/proc/{process}/mountinfo", "rb") as file:
            return file.read(_LIMIT)
    except OSError:  # it has ended
        return b""
