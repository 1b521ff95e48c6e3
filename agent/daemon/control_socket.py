"""The daemon's side of the control socket: a line of text each way, so that a stage's unit needs no parser.

Requests: ``stage NAME``, answered ``end STATUS`` (an exit status) when the stage has ended; ``ping``,
answered ``ok`` after work in progress was written to status.json; ``restored``, ``resumed`` and ``jumped``,
of the units with these names, answered ``end 0`` at once. A peer that stays silent or floods the socket
loses its connection; no other peer is affected.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import struct
import time

from agent.lib.errors import HostError
from agent.lib.records import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.host.host import Host

SOCKET = "/run/gandi/agent.sock"
#: Seconds that a peer may take to send its request.
PATIENCE = 10.0
CLIENTS = 16
REQUEST_LIMIT = 128


@dataclass(slots=True, eq=False)
class Connection:
    """One peer. Only the loop's thread uses it."""

    peer: socket.socket
    #: Until when the request must be complete (monotonic seconds); None once it is.
    deadline: float | None
    received: bytearray = field(default_factory=bytearray)


@dataclass(slots=True)
class Server:
    """Accepts peers and passes their requests to ``handle``; ``answer`` completes a request."""

    listener: socket.socket
    selector: selectors.BaseSelector
    #: Called with the connection and the request line.
    handle: Callable[[Connection, str], None]
    connections: list[Connection] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.listener.settimeout(0)
        self.selector.register(self.listener, selectors.EVENT_READ, lambda _mask: self._accept())

    def wake_at(self) -> float | None:
        """Return when to call ``tick`` next (monotonic seconds), or None if no request is incomplete."""
        return min((one.deadline for one in self.connections if one.deadline is not None), default=None)

    def tick(self, now: float) -> None:
        """Drop the peers with an incomplete request past its deadline."""
        for connection in [c for c in self.connections if c.deadline is not None and c.deadline <= now]:
            self._drop(connection)

    def answer(self, connection: Connection, line: str) -> None:
        """Send the one-line answer, which fits any socket's buffer, and close the connection."""
        with contextlib.suppress(OSError):  # the peer has closed it already
            connection.peer.send(f"{line}\n".encode())
        self._drop(connection)

    def close(self) -> None:
        """Close all connections; the listener stays open (systemd's outlives the daemon)."""
        for connection in list(self.connections):
            self._drop(connection)
        self.selector.unregister(self.listener)

    def _accept(self) -> None:
        try:
            peer, _ = self.listener.accept()
        except OSError:  # the peer has closed already, or no descriptor is free: retried at the next event
            return
        if len(self.connections) >= CLIENTS or not _is_ours(peer):
            peer.close()
            return
        peer.settimeout(0)
        connection = Connection(peer, time.monotonic() + PATIENCE)
        self.connections.append(connection)
        self.selector.register(peer, selectors.EVENT_READ, lambda _mask: self._ready(connection))

    def _ready(self, connection: Connection) -> None:
        if not self._receive(connection):
            self._drop(connection)

    def _receive(self, connection: Connection) -> bool:
        """Read from the peer; return False if its connection must be dropped."""
        try:
            data = connection.peer.recv(REQUEST_LIMIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        if connection.deadline is None:
            return False  # only one request is allowed
        connection.received += data
        line, newline, rest = bytes(connection.received).partition(b"\n")
        if not newline:
            return len(connection.received) < REQUEST_LIMIT
        connection.deadline = None
        if rest or _is_closed(connection.peer):
            return False  # gave up while the daemon was stopped, and ran the stage itself
        self.handle(connection, line.decode("ascii", "replace"))
        return True

    def _drop(self, connection: Connection) -> None:
        if connection in self.connections:
            self.connections.remove(connection)
            self.selector.unregister(connection.peer)
            connection.peer.close()


def _is_closed(peer: socket.socket) -> bool:
    try:
        return not peer.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _is_ours(peer: socket.socket) -> bool:
    """Return whether the peer is root or the daemon's own user (if started by hand).

    The mode of the socket already requires that.
    """
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _pid, uid, _gid = struct.unpack("3i", raw)
    return uid in (0, os.geteuid())


def ping(host: Host, seconds: float = 2.0) -> bool | None:
    """Return whether the daemon answers within ``seconds``; None if no process listens.

    Raise PermissionError for users other than root.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(seconds)
        try:
            client.connect(host.path(SOCKET))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except BlockingIOError:  # the queue of connections to accept is full (EAGAIN of unix(7))
            return False
        with contextlib.suppress(OSError):
            client.sendall(b"ping\n")
            return client.recv(3) == b"ok\n"
    return False


def sockets(host: Host) -> tuple[socket.socket, socket.socket | None]:
    """Return the sockets of requests and of device events that systemd passed.

    Without them (started by hand): a new socket for requests, and None. Raise HostError if another process
    listens for requests.
    """
    from systemd import daemon as systemd

    passed = {sock.family: sock for sock in (socket.socket(fileno=fd) for fd in systemd.listen_fds())}
    return passed.get(socket.AF_UNIX) or listener(host), passed.get(socket.AF_NETLINK)


def listener(host: Host) -> socket.socket:
    """Return a listening socket, for a daemon that systemd passed none.

    Raise HostError if another process listens there.
    """
    host.mkdir("/run/gandi")
    if ping(host) is not None:
        raise HostError(
            f"{SOCKET}: another process listens there already",
            hint="systemctl stop gandi-agent.socket gandi-agent",
        )
    host.remove(SOCKET)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if host.allows(f"listen on {SOCKET}"):
        umask = os.umask(0o177)
        try:
            with host.place(SOCKET, follow=False) as place:
                server.bind(f"/proc/self/fd/{place.folder}/{place.name}")  # bind(2) takes no descriptor
        finally:
            os.umask(umask)
        server.listen(CLIENTS)
    return server
