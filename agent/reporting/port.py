"""A virtio-serial port named net.gandi.agent.0: one line of JSON for each record.

The port is opened without blocking: otherwise the kernel waits, and spins, until the host has taken a record
(drivers/char/virtio_console.c). It stays open, since only one process may have it, and since the kernel
then reports when the host connects or reads on.
"""

from __future__ import annotations

import json
import os

from agent import report
from agent.lib.errors import HostError
from agent.lib.records import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.host.host import Host
    from agent.reporting.records import Record

_FLAGS = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY


@dataclass(slots=True)
class Port:
    """The port of the running system; ``watch`` is called with the descriptor, ``refused`` where the kernel
    lets this process not open the device.
    """

    host: Host
    watch: Callable[[int], None]
    refused: Callable[[], None]
    _descriptor: int = -1

    def exists(self) -> bool:
        """Return whether the machine has such a port."""
        return bool(report.port(self.host))

    def encode(self, record: Record) -> bytes:
        """Return the record as a line of ASCII."""
        return json.dumps(record, separators=(",", ":")).encode() + b"\n"

    def send(self, data: memoryview) -> int:
        """Write to the port. Raise BlockingIOError while the host is not connected or does not read,
        HostError if the port cannot be opened.
        """
        if self._descriptor >= 0:
            try:
                return os.write(self._descriptor, data)
            except BlockingIOError:
                raise
            except OSError:  # the port was removed, and may have come again
                self.close()
        self._open()
        return os.write(self._descriptor, data)

    def complete(self) -> None:
        """Keep the port open: the next record follows."""

    def close(self) -> None:
        """Close the port: it was removed, or the daemon ends."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> None:
        name = report.port(self.host)
        if not name:
            raise HostError(f"no port {report.PORT}")
        try:
            with self.host.opened(f"/dev/{name}", _FLAGS) as descriptor:
                self._descriptor = os.dup(descriptor)
        except HostError as error:
            if isinstance(error.__cause__, PermissionError):
                self.refused()
            raise
        self.watch(self._descriptor)
