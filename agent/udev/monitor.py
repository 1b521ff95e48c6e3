"""Device events from udev, and the devices in udev's database.

An event only means "examine this device"; its handler uses current facts. So the sender of an event does not
matter, and one that cannot be parsed is only a reason to examine all devices.

If gandi-agent-uevent.socket is active, systemd made the socket before the daemon started, and events queue
in it while no daemon runs. No library is used: libudev's binding costs more CPU than the rest of the
daemon's start, each time that an event starts the daemon. This module parses the messages of udevd
(systemd's device-monitor.c, unchanged since udev 162) and reads the files of ``database.py``; only the
filter, with a format that is private to libudev, comes from libudev (``tag_filter.py``).
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
#: Bytes that the kernel may queue on the socket: some ten thousand events. 200 disks at once need about
#: 1 MiB.
RECEIVE_BUFFER = 16 << 20
#: NETLINK_KOBJECT_UEVENT (linux/netlink.h), and the multicast group of the events that udevd has processed
#: (systemd's MONITOR_GROUP_UDEV).
PROTOCOL, GROUP = 15, 2
#: The tag in TAGS and CURRENT_TAGS, which are lists between colons.
_TAGGED = f":{TAG}:".encode()
#: struct monitor_netlink_header: prefix, magic (in network order), own size, offset and length of the
#: properties.
_HEADER = struct.Struct("=8sIIII")
_PREFIX, _MAGIC = b"libudev\0", socket.htonl(0xFEEDCAFE)
_LARGEST = 1 << 16
#: asm-generic/socket.h; Python does not name it.
_SO_RCVBUFFORCE = 33
#: Most messages that one call of ``drain`` reads.
_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class Uevent:
    """A device to examine. ``devpath`` is its path below /sys, also after it has gone; ``role`` is
    GANDI_ROLE of 86-gandi-agent.rules; ``seqnum`` is the kernel's SEQNUM, 0 without an event; ``is_resized``
    means that the kernel has reported another size.
    """

    action: str
    subsystem: str
    sysname: str
    devpath: str
    devtype: str = ""
    role: str = ""
    seqnum: int = 0
    is_resized: bool = False


@dataclass(slots=True)
class Uevents:
    """The socket of events, and the enumeration of devices. It receives events from when it is made, here or
    by systemd (``inherited``). Raise OSError if it cannot be made.
    """

    host: Host
    inherited: socket.socket | None = None
    receive_buffer: int = RECEIVE_BUFFER
    socket: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        self.socket = self.inherited or _open_socket(self.receive_buffer)
        self.socket.settimeout(0)

    def fileno(self) -> int:
        """Return the socket's descriptor, for a selector: it is readable when there are events."""
        return self.socket.fileno()

    def drain(self) -> tuple[list[Uevent], bool]:
        """Read the queued events without waiting. Return those of tagged devices, and whether some may have
        been lost: then all devices must be enumerated.
        """
        events, lost = list[Uevent](), False
        for _ in range(_AT_ONCE):
            try:
                message = self.socket.recv(_LARGEST)
            except BlockingIOError:
                break
            except OSError as error:  # the kernel could not queue all; reading the error clears it
                if error.errno != errno.ENOBUFS:
                    raise
                lost = True
                continue
            if _TAGGED in message:
                event = parse(message)
                events += [event] if event else []
                lost = lost or event is None
        return events, lost

    def enumerate(self) -> list[Uevent]:
        """Return a "change" event for each tagged device that is present, in bus order."""
        events = (self._device(key, properties) for key, properties in database.tagged(self.host, TAG))
        return sorted((event for event in events if event), key=lambda event: event.devpath)

    def last_seqnum(self) -> int:
        """Return the SEQNUM of the kernel's last event; later events have larger ones."""
        return number(attribute(self.host, "/sys/kernel/uevent_seqnum")) or 0

    def attach_tag_filter(self) -> None:
        """Make the kernel drop events of devices without the tag. On systemd's socket, the filter outlives
        this process. Raise HostError.
        """
        from agent.udev import tag_filter

        tag_filter.attach(self.socket, TAG)

    def _device(self, key: str, properties: dict[str, str]) -> Uevent | None:
        """Return an event for the device with that key in the database; None if the device has gone."""
        folder = self._folder(key)
        path = os.path.realpath(self.host.path(folder)) if folder else ""
        if not os.path.isdir(path):
            return None
        attributes = lines(attribute(self.host, f"{folder}/uevent"))
        devtype = next((line[8:] for line in attributes if line.startswith("DEVTYPE=")), "")
        subsystem = {"b": "block", "n": "net", "+": key[1:].partition(":")[0]}.get(key[0], "")
        devpath = "/" + path.partition("/sys/")[2]
        role = properties.get("GANDI_ROLE", "")
        return Uevent("change", subsystem, os.path.basename(path), devpath, devtype, role)

    def _folder(self, key: str) -> str:
        """Return the folder in sysfs of a key (systemd's sd_device_get_device_id), "" for none."""
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


def parse(message: bytes) -> Uevent | None:
    """Parse a message of udevd (struct monitor_netlink_header); return None for any other message."""
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
        seqnum=number(properties.get("SEQNUM", "")) or 0,
        is_resized=properties.get("RESIZE") == "1",
    )


def _open_socket(receive_buffer: int) -> socket.socket:
    """Make the socket of a daemon that systemd passes none."""
    monitor = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, PROTOCOL)
    with contextlib.suppress(PermissionError):  # without CAP_NET_ADMIN, the default size is kept
        monitor.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, receive_buffer)
    monitor.bind((0, GROUP))
    return monitor
