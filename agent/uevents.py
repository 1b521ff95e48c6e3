"""Device events from udev: the only user of pyudev.

An event says no more than "look at this device"; who acts on it computes from current facts. Listening
starts before everything present is enumerated, so nothing falls between. udev's rules tag what is ours and
the kernel filters by that tag, so the rest of the machine's devices never wakes us.
"""

from __future__ import annotations

import contextlib
import socket

import pyudev

from agent.plain import dataclass, field

#: Set by 86-gandi-agent.rules, with the property GANDI_ROLE.
TAG = "gandi"
#: Bytes that the kernel may queue for us: some ten thousand events. 200 disks at once need about 1 MiB.
RECEIVE_BUFFER = 16 << 20


@dataclass(frozen=True, slots=True)
class Uevent:
    """A device to look at. ``devpath`` is below /sys and of use after the device has gone; ``role`` is that
    of our rules.
    """

    action: str
    subsystem: str
    sysname: str
    devpath: str
    devtype: str = ""
    role: str = ""


@dataclass(slots=True)
class Uevents:
    """The monitor and the enumeration: for the event loop's thread alone (libudev is not thread-safe)."""

    receive_buffer: int = RECEIVE_BUFFER
    _context: pyudev.Context = field(default_factory=pyudev.Context)
    _monitor: pyudev.Monitor = field(init=False)

    def __post_init__(self) -> None:
        self._monitor = pyudev.Monitor.from_netlink(self._context)
        with contextlib.suppress(OSError):  # without CAP_NET_ADMIN the kernel's default must do
            self._monitor.set_receive_buffer_size(self.receive_buffer)
        self._monitor.filter_by_tag(TAG)
        self._monitor.start()

    def fileno(self) -> int:
        """For a selector: readable when there is something to drain."""
        return self._monitor.fileno()

    def drain(self) -> tuple[list[Uevent], bool]:
        """All events that have come since, and whether some were lost (then enumerate everything)."""
        events, lost = list[Uevent](), False
        while True:
            try:
                device = self._monitor.poll(timeout=0)
            except OSError:
                if not self._overflowed():
                    raise
                lost = True
                continue
            if device is None:
                return events, lost
            events.append(_uevent(device, device.action or "change"))

    def enumerate(self) -> list[Uevent]:
        """Everything that is there now and ours, as if each had changed, in the order of the buses."""
        present = self._context.list_devices(tag=TAG)
        return [_uevent(device, "change") for device in present.match_is_initialized()]

    def _overflowed(self) -> bool:
        """Whether the monitor's socket has an error pending (ENOBUFS). Reading it clears it: until then,
        each receive fails."""
        with socket.fromfd(self.fileno(), socket.AF_NETLINK, socket.SOCK_RAW) as copy:
            return copy.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0


def _uevent(device: pyudev.Device, action: str) -> Uevent:
    properties = device.properties
    return Uevent(
        action=action,
        subsystem=device.subsystem or "",
        sysname=device.sys_name,
        devpath=device.device_path,
        devtype=device.device_type or "",
        role=properties.get("GANDI_ROLE", ""),
    )
