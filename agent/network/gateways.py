"""The default gateways of the running system, and whether they answer ARP or neighbour discovery.

The kernel asks them: the entry of the gateway is removed and looked up again, so an answer is a new one, and
no raw socket is needed.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import time

from agent.lib.errors import HostError
from agent.lib.records import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from agent.host.host import Host

#: Multicast groups of rtnetlink(7): links, neighbours, addresses and routes of both families.
_GROUPS = 0x1 | 0x4 | 0x10 | 0x40 | 0x100 | 0x400
#: RTM_NEWNEIGH to RTM_GETNEIGH: the messages that a question to a gateway itself causes.
_NEIGHBOUR = range(28, 31)
#: nlmsghdr: length, type, flags, sequence, port; each message begins at a multiple of 4 bytes.
_HEADER = struct.Struct("=IHHII")
#: Seconds that ip(8) may take.
_TIMEOUT = 10.0
#: Seconds in which the kernel has asked three times, at its defaults of one second, and given up.
_LOOKUP = 4.0
#: Seconds after which a gateway that gave no answer is asked again if nothing changes.
_AGAIN = 1.0
_ANSWERED, _FIXED = "REACHABLE", frozenset({"PERMANENT", "NOARP"})


@dataclass(frozen=True, slots=True)
class Gateway:
    """A default route's next hop. ``family`` (4 or 6) is the route's: an IPv4 route may lead over IPv6."""

    family: int
    address: str
    device: str


def defaults(host: Host) -> tuple[Gateway, ...]:
    """Return the gateways of the default routes in the main table; a route without one has none here."""
    found: dict[Gateway, None] = {}
    for family in (4, 6):
        argv = ("ip", f"-{family}", "-j", "route", "show", "default")
        for route in _objects(host.run(argv, timeout=_TIMEOUT, check=False, changes=False).stdout):
            for hop in (route, *(route.get("nexthops") or ())):
                address = hop.get("gateway") or (hop.get("via") or {}).get("host")
                if address and hop.get("dev"):
                    found[Gateway(family, str(address), str(hop["dev"]))] = None
    return tuple(found)


def answering(host: Host, gateways: Iterable[Gateway]) -> Iterator[Gateway]:
    """Yield the gateways that answer; one with an entry that was made by hand is never asked."""
    return (gateway for gateway in gateways if answers(host, gateway) is True)


def answers(host: Host, gateway: Gateway) -> bool | None:
    """Return whether the gateway answers within _LOOKUP seconds; None if its entry was made by hand, which
    says nothing.
    """
    if _state(host, gateway) & _FIXED:
        return None
    with _events() as events:
        where = (gateway.address, "dev", gateway.device)
        host.run(("ip", "neigh", "del", *where), timeout=_TIMEOUT, check=False)
        asked = host.run(
            ("ip", "neigh", "replace", *where, "nud", "none", "use"), timeout=_TIMEOUT, check=False
        )
        deadline = time.monotonic() + (_AGAIN if asked.returncode else _LOOKUP)
        while True:
            state = _state(host, gateway)
            left = deadline - time.monotonic()
            if _ANSWERED in state or "FAILED" in state or left <= 0:
                return _ANSWERED in state
            _has_changed(events, min(left, _AGAIN))


def wait(is_fine: Callable[[], bool], seconds: float, calm: float) -> bool:
    """Return whether ``is_fine()`` within ``seconds``. It is called when no link, address or route has
    changed for ``calm`` seconds, since a manager applies its files after its reload returned, and a last
    time so that a gateway can be looked up before the end.
    """
    changed = time.monotonic()
    deadline, asked = changed + max(0.0, seconds - _LOOKUP), changed - _AGAIN
    with _events() as events:
        while True:
            is_last = time.monotonic() >= deadline
            if is_last or time.monotonic() >= max(changed + calm, asked + _AGAIN):
                fine = is_fine()
                asked = time.monotonic()
                has_moved = _has_changed(events, 0.0)
                if is_last or (fine and not has_moved):
                    return fine
                changed = asked if has_moved else changed
            due = min(max(changed + calm, asked + _AGAIN), deadline)
            if _has_changed(events, max(0.0, due - time.monotonic())):
                changed = time.monotonic()


def _state(host: Host, gateway: Gateway) -> set[str]:
    argv = ("ip", "-j", "neigh", "show", "to", gateway.address, "dev", gateway.device)
    done = host.run(argv, timeout=_TIMEOUT, check=False, changes=False)
    return {str(state) for entry in _objects(done.stdout) for state in entry.get("state") or ()}


def _objects(text: str) -> list[dict[str, Any]]:
    """Return the objects that ``ip -j`` printed. Raise HostError if they are none."""
    try:
        found = json.loads(text or "[]")
    except ValueError as error:
        raise HostError(f"ip -j: not JSON: {error}", hint="install iproute2 of this system") from error
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _events() -> socket.socket:
    events = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    )
    events.bind((0, _GROUPS))
    return events


def _has_changed(events: socket.socket, seconds: float) -> bool:
    """Wait for messages; return whether one was of a link, an address or a route, or some were lost."""
    poll = select.poll()
    poll.register(events, select.POLLIN)
    found = False
    if poll.poll(seconds * 1000):
        try:
            while data := events.recv(1 << 16):
                found = found or any(kind not in _NEIGHBOUR for kind in _kinds(data))
        except BlockingIOError:
            return found
        except OSError:  # ENOBUFS: what was lost may be a change
            return True
    return found


def _kinds(data: bytes) -> Iterator[int]:
    """Yield the type of each message in a datagram of netlink(7)."""
    place = 0
    while place + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, place)
        yield kind
        place += max(_HEADER.size, (length + 3) & ~3)
