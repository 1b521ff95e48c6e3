"""Facts about this machine's NICs, from /sys/class/net; and what a renderer is asked to make of one.

Only physical NICs are looked for: those that have a device behind them. Bridges, VLANs, veth pairs and
tunnels have none.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
import time

from agent.config.model import Kind, Nic
from agent.host.sysfs import listed
from agent.lib.records import dataclass, replace
from agent.lib.text import WHITE, number
from agent.udev import database

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent.config.model import Route
    from agent.host.host import Host

_SYS = "/sys/class/net"
#: The group of link messages (rtnetlink(7)).
_RTMGRP_LINK = 1
#: Exists while udev has events to handle (udev_queue_get_queue_is_empty(3)).
_QUEUE = "/run/udev/queue"
_TICK = 0.2
#: Seconds of an empty queue that mean that udev is done: between a NIC and its new name it is empty too.
_CALM = 0.5
#: Begins the key of a NIC that is in no document.
FALLBACK = "dhcp-"
#: Behind every route with a metric that a manager itself chooses (networkd: 1024).
FALLBACK_METRIC = 2048
#: Milliseconds between looks at a port's carrier: a bond that never looks never moves to another port.
MIIMON = 100
#: ARPHRD_ETHER of linux/if_arp.h.
_ETHERNET = "1"
#: NET_ADDR_SET of linux/netdevice.h: the address is not the one that the NIC was made with.
_SET_BY_HAND = "3"
#: Domain, bus, slot and function: hexadecimal of a fixed width, which sorts as it stands.
_PCI = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")


@dataclass(frozen=True, slots=True)
class Interface:
    """A physical NIC. ``mac`` is lower case; ``place`` orders NICs by where they sit on their bus."""

    name: str
    mac: str
    index: int = 0
    place: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """What comes from ``source`` (an address), and goes to ``destination`` where one is given, looks for
    its way in the NIC's own table.
    """

    source: str
    destination: str | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A NIC's own routing table, of a machine with several ways out (ip-rule(8))."""

    number: int
    routes: tuple[Route, ...]
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Link:
    """A NIC and what it is to be. ``key`` names its files; ``required``: the boot waits until it is up.

    ``fallback`` is a NIC of no document: addresses come by DHCP and router advertisements, and its
    routes stand behind those of the others. ``routes`` are the document's with the metrics that order
    several ways out; ``metric4`` and ``metric6`` are for those that DHCP and routers bring.
    What a NIC is related to is there without its own relations.
    """

    interface: Interface
    nic: Nic
    key: str
    required: bool = True
    fallback: bool = False
    routes: tuple[Route, ...] = ()
    metric4: int | None = None
    metric6: int | None = None
    table: Table | None = None
    #: The bond or bridge that it is a port of: then it has no addresses of its own.
    master: Link | None = None
    #: What a VLAN is on.
    parent: Link | None = None
    #: What a bond or a bridge is made of.
    ports: tuple[Link, ...] = ()
    #: The names of the VLANs on it.
    vlans: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The interface's name."""
        return self.interface.name

    @property
    def virtual(self) -> bool:
        """Whether it is made by us and not plugged in."""
        return self.nic.kind is not Kind.PHYSICAL

    @property
    def hears_routers(self) -> bool:
        """Whether advertisements are heard by who takes all of one or none: an address or a way out is
        wanted of them.
        """
        return self.nic.accept_ra and (self.nic.ra_address or self.nic.ra_gateway)

    def way_out(self, family: int) -> bool:
        """Whether a default route of that family (4 or 6) may lead over it."""
        nic = self.nic
        asked = nic.dhcp4 if family == 4 else nic.dhcp6 or (nic.accept_ra and nic.ra_gateway)
        return asked or any(is_default(route, family) for route in nic.routes)


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A file of a network manager's configuration."""

    path: str
    text: str
    mode: int = 0o644


def family(address: str) -> int:
    """4 or 6, of an address or a network."""
    return 6 if ":" in address else 4


def is_default(route: Route, wanted: int) -> bool:
    """Whether it is a default route of that family over a gateway."""
    return route.gateway is not None and route.destination == {4: "0.0.0.0/0", 6: "::/0"}[wanted]


def physical(host: Host) -> list[Interface]:
    """This machine's physical NICs in bus order."""
    found = [_interface(host, name) for name in listed(host, _SYS) if _is_physical(host, name)]
    return sorted(found, key=lambda one: (one.place, one.index, one.name))


def foretold(nics: Iterable[Nic], *, by_name: bool) -> list[Interface]:
    """Of an image that does not run: the NICs that its document itself tells apart, by their MAC or, where
    names count, by name alone.
    """
    return [
        Interface(nic.name or "", nic.mac or "") for nic in nics if nic.name or (nic.mac and not by_name)
    ]


def named_by_udev(host: Host, interface: Interface) -> bool:
    """Whether udev has finished with the NIC; before that its name may still change."""
    return database.finished(host, interface.index)


def wait(host: Host, ready: Callable[[], bool], patience: float) -> bool:
    """Wait until ``ready``, looking again at each change of a NIC; False when udev had nothing to do for a
    moment, or ``patience`` seconds had passed, before. ``ready`` is asked last.
    """
    deadline = time.monotonic() + patience
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
    ) as events:
        events.bind((0, _RTMGRP_LINK))
        poll = select.poll()
        poll.register(events, select.POLLIN)
        calm = time.monotonic()
        while not ready():
            now = time.monotonic()
            if host.exists(_QUEUE):
                calm = now
            if now >= deadline or now - calm >= _CALM:
                return ready()
            # Nothing tells that the queue has become empty: hence the tick.
            if poll.poll(_TICK * 1000):
                _drain(events)
                calm = time.monotonic()
    return True


def _drain(events: socket.socket) -> None:
    """Forget what is queued: each look is at everything. ENOBUFS, that more was lost, is as good."""
    with contextlib.suppress(OSError):
        while events.recv(1 << 16):
            pass


def names(host: Host, interface: Interface) -> frozenset[str]:
    """All names by which the NIC may be configured: its own, and udev's alternatives."""
    found = database.interface(host, interface.index)
    given = (name for key, name in found.items() if key.startswith("ID_NET_NAME"))
    return frozenset({interface.name, *given} - {""})


def by_dhcp(interface: Interface, *, required: bool) -> Link:
    """A NIC that is in no document."""
    nic = Nic(number=-1, mac=interface.mac, dhcp4=True)
    metric = None if required else FALLBACK_METRIC
    key = f"{FALLBACK}{interface.mac.replace(':', '')}"
    return Link(interface, nic, key, required=required, fallback=True, metric4=metric, metric6=metric)


def with_router_advertisements(nic: Nic) -> Nic:
    """The NIC with all that router advertisements can bring (CONFIG_IPV6_SLAAC)."""
    return replace(nic, accept_ra=True, ra_address=True, ra_dns=True, ra_gateway=True)


def _is_physical(host: Host, name: str) -> bool:
    folder = f"{_SYS}/{name}"
    return host.exists(f"{folder}/device") and _text(host, f"{folder}/type") == _ETHERNET


def _interface(host: Host, name: str) -> Interface:
    folder = f"{_SYS}/{name}"
    # A member of a bond shows the bond's address; its own is here.
    mac = _text(host, f"{folder}/bonding_slave/perm_hwaddr")
    index = number(_text(host, f"{folder}/ifindex")) or 0
    if not mac and _text(host, f"{folder}/addr_assign_type") == _SET_BY_HAND:
        # By the one that it was made with it is known again.
        from agent.network import ethtool_netlink

        mac = ethtool_netlink.permanent_address(index)
    place = os.path.realpath(host.path(f"{folder}/device"))
    return Interface(name, (mac or _text(host, f"{folder}/address")).lower(), index, _sortable(place))


def _sortable(path: str) -> str:
    """The device's path so that text order is bus order: numbers that grow a digit are padded."""
    parts = path.split("/")
    return "/".join(p if _PCI.fullmatch(p) else re.sub("[0-9]+", lambda n: n[0].zfill(8), p) for p in parts)


def _text(host: Host, name: str) -> str:
    return (host.read(name) or "").strip(WHITE)
