"""Wait, by kernel uevents and up to a deadline, for a medium that has not been enumerated yet.

A late medium looks like one that never comes. So the wait also ends when no more can appear: udev's
queue is empty and every device on a storage bus has a driver.
"""

from __future__ import annotations

import errno
import select
import socket
import time

from agent.block import storage, unresponsive
from agent.host.sysfs import attribute, listed
from agent.lib.errors import HostError
from agent.lib.records import dataclass, field
from agent.udev import database

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from agent.host.host import Host

#: NETLINK_KOBJECT_UEVENT of linux/netlink.h; group 1 is the kernel, 2 is udev.
_PROTOCOL, _KERNEL = 15, 1
#: Seconds between two looks without a uevent: there is none for a disk that becomes ready after its driver
#: was bound.
_LOOK_AGAIN = 0.5
#: PCI's base class of mass storage (PCI Code and ID Assignment, 1.2); virtio's block device and SCSI host
#: (virtio specification, 5.2 and 5.6).
_PCI_STORAGE = "0x01"
_VIRTIO_STORAGE = ("0x0002", "0x0008")
#: SCSI peripheral device types of disks and optical drives, ATA ones too (include/scsi/scsi_proto.h). Their
#: drivers load after that of the host adapter.
_SCSI_STORAGE = ("0", "5")


@dataclass(slots=True)
class Arrivals:
    """A subscription to kernel uevents, opened before a look so that no device after it is missed."""

    host: Host
    _socket: socket.socket | None = field(default=None, init=False)

    def __enter__(self) -> Arrivals:
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _PROTOCOL)
            self._socket.bind((0, _KERNEL))
        except OSError as error:
            self._close()
            raise HostError(f"kernel uevents cannot be received: {error.strerror}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def wait(self, deadline: float, *, drivers_only: bool = False) -> bool:
        """Wait for a uevent, or _LOOK_AGAIN seconds; return False if there is nothing more to wait for.

        That is so when ``deadline`` (monotonic seconds) has passed or ``is_pending`` is false, with
        ``drivers_only`` when ``is_probing`` is false. Raise HostError if the socket fails.
        """
        left = deadline - time.monotonic()
        pending = self.is_probing() if drivers_only else self.is_pending()
        if left <= 0 or self._socket is None or not pending:
            return False
        ready, _, _ = select.select([self._socket], [], [], min(left, _LOOK_AGAIN))
        while ready:
            self._receive(self._socket)
            ready, _, _ = select.select([self._socket], [], [], 0)
        return True

    @staticmethod
    def _receive(events: socket.socket) -> None:
        try:
            events.recv(1 << 16, socket.MSG_DONTWAIT)
        except OSError as error:
            # A coldplug can overflow the socket's buffer; a lost uevent is a reason to look as well.
            if error.errno != errno.ENOBUFS:
                raise HostError(f"kernel uevents cannot be received: {error.strerror}") from error

    def is_pending(self) -> bool:
        """Return whether udev is busy or a storage device has no driver yet."""
        return (
            self._udev_is_busy()
            or self._is_controller_unbound()
            or self._is_unbound("scsi", "type", *_SCSI_STORAGE)
        )

    def is_probing(self) -> bool:
        """Return whether a disk or drive that the kernel has found is still being set up: a driver is bound
        but there is no block device yet, or udev may still load the driver. Once udev is idle, a device
        without a driver does not count.
        """
        busy = self._udev_is_busy()
        if busy and self._is_controller_unbound():
            return True
        folder = "/sys/bus/scsi/devices"
        return any(
            (busy or self.host.exists(f"{folder}/{name}/driver"))
            and not self.host.exists(f"{folder}/{name}/block")
            for name in listed(self.host, folder)
            if attribute(self.host, f"{folder}/{name}/type") in _SCSI_STORAGE
        )

    def _udev_is_busy(self) -> bool:
        """Return whether udev's queue is not empty; disks that do not answer, which may block it for ever,
        do not count.
        """
        if not self.host.exists("/run/udev/queue"):
            return False
        hung = [name for name in storage.names(self.host) if unresponsive.is_unresponsive(self.host, name)]
        return not hung or any(
            name not in hung and "USEC_INITIALIZED" not in database.block(self.host, name)
            for name in storage.names(self.host)
        )

    def _is_controller_unbound(self) -> bool:
        pci = self._is_unbound("pci", "class", _PCI_STORAGE)
        return pci or self._is_unbound("virtio", "device", *_VIRTIO_STORAGE)

    def _is_unbound(self, bus: str, attribute: str, *kinds: str) -> bool:
        """Return whether a device with an attribute that begins as one of the kinds has no driver."""
        folder = f"/sys/bus/{bus}/devices"
        return any(
            (self.host.read(f"{folder}/{name}/{attribute}") or "").startswith(kinds)
            and not self.host.exists(f"{folder}/{name}/driver")
            for name in listed(self.host, folder)
        )

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
