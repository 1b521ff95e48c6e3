"""The socket in systemd's credential ``vmm.notify_socket``: a message of sd_notify(3) for each record.

As systemd does it (systemd(1), "vmm.notify_socket"; pid_notify_with_fds_internal in sd-daemon.c): ``vsock:``
is tried as datagram, SEQPACKET and stream in this order, a prefix with a type is that type alone; the
sender's port is below 1024 where that is permitted, so that the host can tell root from other users; each
connection has one message and ends with it. Unlike there, nothing waits.
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress

from agent import report
from agent.lib.errors import HostError
from agent.lib.records import dataclass
from agent.lib.text import WHITE, number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.host.host import Host
    from agent.reporting.records import Record

_TYPES = {
    "vsock": (socket.SOCK_DGRAM, socket.SOCK_SEQPACKET, socket.SOCK_STREAM),
    "vsock-dgram": (socket.SOCK_DGRAM,),
    "vsock-seqpacket": (socket.SOCK_SEQPACKET,),
    "vsock-stream": (socket.SOCK_STREAM,),
}
#: What socket(2) says of a type that the transport does not have.
_LACKS = (errno.ENODEV, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT, errno.EAFNOSUPPORT)
#: The highest port of root, and VMADDR_CID_ANY, which is no address to send to.
_RESERVED, _ANY = 1023, 0xFFFFFFFF
#: Most bytes of the credential.
_LIMIT = 256
#: Field of a record -> field of the message; each is prefixed.
_PREFIX = "X_GANDI_"
_FIELDS = ("stage", "device", "action", "result", "step", "item", "detail", "hint", "seconds", "lost")


@dataclass(frozen=True, slots=True)
class Address:
    """Where messages go: a family and its address, and the types of sockets to try."""

    family: int
    address: tuple[int, int] | str
    types: tuple[int, ...]


def parse(text: str) -> Address | None:
    """Return the address in a credential: ``vsock:CID:PORT``, or the path of a UNIX socket; None for another
    text. A path that begins with ``@`` is an abstract name.
    """
    kind, _, rest = text.strip(WHITE).partition(":")
    if kind in _TYPES:
        cid, port = (number(part) for part in rest.partition(":")[::2])
        if cid is None or port is None or cid >= _ANY or port >= _ANY:
            return None
        return Address(socket.AF_VSOCK, (cid, port), _TYPES[kind])
    path = text.strip(WHITE)
    if path.startswith(("/", "@")) and len(path) > 1:
        return Address(socket.AF_UNIX, path.replace("@", "\0", 1), (socket.SOCK_DGRAM,))
    return None


@dataclass(slots=True)
class NotifySocket:
    """The socket of the running system; ``watch`` is called with the descriptor of each connection."""

    host: Host
    watch: Callable[[int], None]
    #: Found in the credential where it is needed first.
    address: Address | None = None
    _socket: socket.socket | None = None

    def exists(self) -> bool:
        """Return whether the credential names a socket."""
        if self.address is None and self.host.exists(report.NOTIFY_SOCKET):
            self.address = parse(self.host.read(report.NOTIFY_SOCKET, limit=_LIMIT) or "")
        return self.address is not None

    def encode(self, record: Record) -> bytes:
        """Return the message: a line for each field; the last record of a boot also has systemd's own."""
        lines = ["READY=1"] if record.get("ready") else []
        values = {"stage": record["type"]} | record if "verdict" in record else record
        lines += [
            f"{_PREFIX}{name.upper()}={values[name]}" for name in _FIELDS if values.get(name, "") != ""
        ]
        if "verdict" in record:
            lines.append(f"STATUS={record['verdict']}")
        return "\n".join(lines).encode("utf-8", "replace")

    def send(self, data: memoryview) -> int:
        """Send a message. Raise BlockingIOError while it connects or the receiver takes nothing, another
        OSError without a receiver.
        """
        if self._socket is None:
            self._socket = self._connect()
        self._check_connected(self._socket)
        return self._socket.send(data)

    def complete(self) -> None:
        """End the connection, which ends the message."""
        if self._socket:
            with suppress(OSError):  # a datagram has no connection; the receiver may have ended it
                self._socket.shutdown(socket.SHUT_WR)
        self.close()

    def close(self) -> None:
        """Give up the connection."""
        if self._socket:
            self._socket.close()
            self._socket = None

    def _connect(self) -> socket.socket:
        if self.address is None:
            raise HostError(f"{report.NOTIFY_SOCKET}: names no socket")
        made = _socket(self.address)
        try:
            made.settimeout(0)
            if made.family == socket.AF_VSOCK:
                _bind_reserved(made)
            failure = made.connect_ex(self.address.address)
            if failure not in (0, errno.EINPROGRESS):
                # Also EAGAIN of a UNIX socket with a full queue: nothing was begun.
                raise HostError(f"{report.NOTIFY_SOCKET}: {os.strerror(failure)}")
            self.watch(made.fileno())
        except BaseException:
            made.close()
            raise
        return made

    def _check_connected(self, made: socket.socket) -> None:
        if failure := made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(failure, os.strerror(failure))
        try:
            made.getpeername()
        except OSError as error:
            if error.errno == errno.ENOTCONN:
                raise BlockingIOError(errno.EINPROGRESS, os.strerror(errno.EINPROGRESS)) from error
            raise


def _socket(address: Address) -> socket.socket:
    """Return a socket of the first type that the transport has. Raise OSError."""
    for kind in address.types:
        try:
            if address.family == socket.AF_UNIX:
                return socket.socket(socket.AF_UNIX, kind)
            return socket.socket(socket.AF_VSOCK, kind)
        except OSError as error:
            if error.errno not in _LACKS or kind == address.types[-1]:
                raise
    raise OSError(errno.ESOCKTNOSUPPORT, os.strerror(errno.ESOCKTNOSUPPORT))


def _bind_reserved(made: socket.socket) -> None:
    """Bind to a port that only root may use, the highest free one; leave it where that is not permitted."""
    for port in range(_RESERVED, 0, -1):
        try:
            made.bind((_ANY, port))
        except PermissionError:
            return
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return
