"""Device events from udev, and what udev knows already.

An event says no more than "look at this device"; who acts on it computes from current facts. So it does not
matter who sent it, and one that cannot be read is only a reason to look at everything.

The socket is systemd's where gandi-agent-uevent.socket is active: it was there before the daemon, and what
comes while there is none waits in it. No library: libudev's binding costs more CPU than the rest of the
daemon's start, each time that an event brings the daemon back. What is read here are the messages that udevd
sends (systemd's device-monitor.c, the same since udev 162) and the files of ``database.py``; the filter,
which is libudev's affair, is libudev's (``tag_filter.py``).
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct

from agent.host.sysfs import attribute, listed
from agent.lib.records import dataclass, field
from agent.lib.text import lines, number
from agent.udev import database

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.host.host import Host

#: Set by 86-gandi-agent.rules, with the property GANDI_ROLE.
TAG = "gandi"
#: Bytes that the kernel may queue for us: some ten thousand events. 200 disks at once need about 1 MiB.
RECEIVE_BUFFER = 16 << 20
#: NETLINK_KOBJECT_UEVENT (linux/netlink.h), and the group to which udevd tells what it has finished with
#: (systemd's MONITOR_GROUP_UDEV).
PROTOCOL, GROUP = 15, 2
#: Our tag in TAGS and CURRENT_TAGS, which are lists between colons.
_TAGGED = f":{TAG}:".encode()
#: struct monitor_netlink_header: prefix, magic (in network order), own size, offset and length of the
#: properties.
_HEADER = struct.Struct("=8sIIII")
_PREFIX, _MAGIC = b"libudev\0", socket.htonl(0xFEEDCAFE)
_LARGEST = 1 << 16
#: asm-generic/socket.h; Python does not name it.
_SO_RCVBUFFORCE = 33
#: Messages that are read before the loop has its next turn.
_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class Uevent:
    """A device to look at. ``devpath`` is below /sys and of use after the device has gone; ``role`` is that
    of our rules; ``number`` is the kernel's (SEQNUM), 0 where there was no event; ``resized``: the kernel
    has seen another size.
    """

    action: str
    subsystem: str
    sysname: str
    devpath: str
    devtype: str = ""
    role: str = ""
    number: int = 0
    resized: bool = False


@dataclass(slots=True)
class Uevents:
    """The socket and the enumeration. Hears from when it is made, or was made by systemd (``given``)."""

    host: Host
    given: socket.socket | None = None
    receive_buffer: int = RECEIVE_BUFFER
    socket: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        self.socket = self.given or _listening(self.receive_buffer)
        self.socket.settimeout(0)

    def fileno(self) -> int:
        """For a selector: readable when there is something to drain."""
        return self.socket.fileno()

    def drain(self) -> tuple[list[Uevent], bool]:
        """What has come of ours since, and whether something may have been lost (then enumerate
        everything).
        """
        events, lost = list[Uevent](), False
        for _ in range(_AT_ONCE):
            try:
                message = self.socket.recv(_LARGEST)
            except BlockingIOError:
                break
            except OSError as error:  # the kernel could not queue everything; reading this clears it
                if error.errno != errno.ENOBUFS:
                    raise
                lost = True
                continue
            if _TAGGED in message:
                event = read(message)
                events += [event] if event else []
                lost = lost or event is None
        return events, lost

    def present(self) -> list[Uevent]:
        """Everything that is there now and ours, as if each had changed, in the order of the buses."""
        found = (self._device(key, known) for key, known in database.tagged(self.host, TAG))
        return sorted((event for event in found if event), key=lambda event: event.devpath)

    def told(self) -> int:
        """The number of the last event that the kernel has told of; what comes later has a larger one."""
        return number(attribute(self.host, "/sys/kernel/uevent_seqnum")) or 0

    def only_ours(self) -> None:
        """Have the kernel keep from us what does not carry our tag; with systemd's socket that lasts longer
        than this process. Raises HostError.
        """
        from agent.udev import tag_filter

        tag_filter.attach(self.socket, TAG)

    def _device(self, key: str, known: dict[str, str]) -> Uevent | None:
        """The device whose record has that name; None when it has gone meanwhile."""
        folder = self._folder(key)
        path = os.path.realpath(self.host.path(folder)) if folder else ""
        if not os.path.isdir(path):
            return None
        said = lines(attribute(self.host, f"{folder}/uevent"))
        devtype = next((line[8:] for line in said if line.startswith("DEVTYPE=")), "")
        subsystem = {"b": "block", "n": "net", "+": key[1:].partition(":")[0]}.get(key[0], "")
        devpath = "/" + path.partition("/sys/")[2]
        role = known.get("GANDI_ROLE", "")
        return Uevent("change", subsystem, os.path.basename(path), devpath, devtype, role)

    def _folder(self, key: str) -> str:
        """Where sysfs has the device of a record (systemd's sd_device_get_device_id), "" for none."""
        kind, rest = key[:1], key[1:]
        match kind:
            case "b" | "c":
                return f"/sys/dev/{'block' if kind == 'b' else 'char'}/{rest}"
            case "n":
                links = (f"/sys/class/net/{name}" for name in listed(self.host, "/sys/class/net"))
                return next((link for link in links if attribute(self.host, f"{link}/ifindex") == rest), "")
            case "+":
                subsystem, _, name = rest.partition(":")
                places = (f"/sys/bus/{subsystem}/devices/{name}", f"/sys/class/{subsystem}/{name}")
                return next((place for place in places if self.host.exists(place)), "")
            case _:
                return ""


def read(message: bytes) -> Uevent | None:
    """The event that a message of udevd's tells of; None for one of another make."""
    if len(message) < _HEADER.size:
        return None
    prefix, magic, _size, offset, length = _HEADER.unpack_from(message)
    if prefix != _PREFIX or magic != _MAGIC:
        return None
    text = message[offset : offset + length].decode("utf-8", "surrogateescape")
    properties = dict(line.split("=", 1) for line in text.split("\0") if "=" in line)
    devpath = properties.get("DEVPATH", "")
    if not devpath:
        return None
    return Uevent(
        action=properties.get("ACTION", "change"),
        subsystem=properties.get("SUBSYSTEM", ""),
        sysname=devpath.rpartition("/")[2],
        devpath=devpath,
        devtype=properties.get("DEVTYPE", ""),
        role=properties.get("GANDI_ROLE", ""),
        number=number(properties.get("SEQNUM", "")) or 0,
        resized=properties.get("RESIZE") == "1",
    )


def _listening(receive_buffer: int) -> socket.socket:
    """A socket of our own, where systemd has none for us."""
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, PROTOCOL)
    with contextlib.suppress(PermissionError):  # without CAP_NET_ADMIN the kernel's default must do
        made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, receive_buffer)
    made.bind((0, GROUP))
    return made
