"""The first sign of a device event, before there is a reason to load the library that reads events.

Most boots bring none once the mount stage has begun, so most never pay for pyudev. What wakes is only a
reason to look at everything: who sent it, and what else it says, does not matter. Of what is heard late, the
coldplug that the mount stage waits for itself, the kernel's own count tells.
"""

from __future__ import annotations

import re
import socket

from agent.sysfs import attribute

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.host import Host

#: NETLINK_KOBJECT_UEVENT (linux/netlink.h), and the group to which udevd tells what it has finished with
#: (systemd's MONITOR_GROUP_UDEV).
_PROTOCOL, _UDEV = 15, 2
#: Our tag as an event carries it: TAGS and CURRENT_TAGS are lists between colons.
_TAGGED = b":gandi:"
_NUMBER = re.compile(rb"\0SEQNUM=([0-9]+)\0")
_LARGEST = 1 << 16


class Wakeup:
    """Listens from when it is made, to what the kernel tells udev from then on. For a selector."""

    def __init__(self, host: Host) -> None:
        self._before = int(attribute(host, "/sys/kernel/uevent_seqnum") or 0)
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_NETLINK, kind, _PROTOCOL)
        self._socket.bind((0, _UDEV))

    def fileno(self) -> int:
        """Readable when there is something to hear."""
        return self._socket.fileno()

    def heard(self) -> bool:
        """Whether a device of ours was among what has come since the last question, or may have been: when
        the kernel could not queue everything.
        """
        ours = False
        while True:
            try:
                ours = self._is_ours(self._socket.recv(_LARGEST)) or ours
            except BlockingIOError:
                return ours
            except OSError:  # ENOBUFS: reading it clears it
                ours = True

    def _is_ours(self, message: bytes) -> bool:
        number = _NUMBER.search(message)
        return _TAGGED in message and (number is None or int(number[1]) > self._before)

    def close(self) -> None:
        """Hear nothing any more."""
        self._socket.close()
