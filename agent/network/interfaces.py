"""Facts about this machine's NICs, from /sys/class/net, and the links that a renderer writes files for.

Only physical NICs are listed: those with a device behind them. Bridges, VLANs, veth pairs and tunnels have
none.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
import time

from agent.config.nics import ANYWHERE, Kind, Nic
from agent.host.sysfs import listed
from agent.lib.records import dataclass, replace
from agent.lib.text import WHITE, number
from agent.udev import database

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent.config.nics import Bond, Route, Rule
    from agent.host.host import Host

_SYS = "/sys/class/net"
#: The multicast group of link messages (rtnetlink(7)).
_RTMGRP_LINK = 1
#: Exists while udev has events to handle (udev_queue_get_queue_is_empty(3)).
_QUEUE = "/run/udev/queue"
#: Seconds between checks of the queue.
_TICK = 0.2
#: Seconds that the queue must stay empty: it is empty too between a NIC's event and that of its new name.
_CALM = 0.5
#: Prefix of the key of a NIC outside the document.
FALLBACK = "dhcp-"
#: Route metric of such a NIC: larger than every default of a network manager (networkd: 1024).
FALLBACK_METRIC = 2048
#: Milliseconds between checks of a port's carrier: without checks a bond never fails over to another port.
MIIMON = 100
#: ARPHRD_ETHER of linux/if_arp.h.
_ETHERNET = "1"
#: NET_ADDR_SET of linux/netdevice.h: the address was changed, so it is not the permanent one.
_SET_BY_HAND = "3"


@dataclass(frozen=True, slots=True)
class Interface:
    """A physical NIC. ``mac`` is in lower case, ``index`` is the ifindex, ``bus_position`` sorts in bus
    order. ``driver`` is read only for documents that match by driver (``with_drivers``).
    """

    name: str
    mac: str
    index: int = 0
    bus_position: str = ""
    driver: str = ""


#: The loopback interface: it has this name and number in every network namespace.
LOOPBACK = Interface("lo", "", 1)


@dataclass(frozen=True, slots=True)
class Table:
    """A NIC's own routing table, on a machine with several default routes (ip-rule(8)). Its routes and rules
    carry its number.
    """

    number: int
    routes: tuple[Route, ...]
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Link:
    """A NIC and its wanted configuration. ``key`` names its files; ``required``: the boot waits until it is
    up.

    ``fallback``: the NIC is outside the document and gets its addresses by DHCP and router advertisements;
    its routes have a larger metric than all others, unless the boot waits for it. ``routes`` are the
    document's, with the metrics that order several default routes; ``metric4`` and ``metric6`` are those for
    routes from DHCP and router advertisements. ``table`` is the agent's addition. Related links (``master``
    to ``ports``) lack their own relations.
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
    #: The bond or bridge of which it is a port; a port has no addresses.
    master: Link | None = None
    #: The link that carries this VLAN.
    parent: Link | None = None
    #: The ports of a bond or bridge.
    ports: tuple[Link, ...] = ()
    #: The names of the VLANs on it.
    vlans: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return the interface's name."""
        return self.interface.name

    @property
    def is_virtual(self) -> bool:
        """Return whether the agent's files create the NIC (a bond, bridge or VLAN)."""
        return self.nic.kind is not Kind.PHYSICAL

    @property
    def activation_mode(self) -> str | None:
        """How the NIC is brought up if not by its manager: manual, or off (``NicOptions``)."""
        return self.nic.options.activation_mode if self.nic.options else None

    @property
    def all_routes(self) -> tuple[Route, ...]:
        """Return the document's routes and those of the NIC's own table."""
        return self.routes + (self.table.routes if self.table else ())

    @property
    def all_rules(self) -> tuple[Rule, ...]:
        """Return the document's rules and those for the NIC's own table."""
        return self.nic.rules + (self.table.rules if self.table else ())

    @property
    def accepts_router_advertisements(self) -> bool:
        """Return whether to accept router advertisements, for a manager that applies all of one or nothing:
        only if an address or a default route is wanted of them.
        """
        return self.nic.accept_ra and (self.nic.ra_address or self.nic.ra_gateway)

    def has_default_route(self, family: int) -> bool:
        """Return whether the NIC has, or may get, a default route of that family (4 or 6)."""
        nic = self.nic
        if family == 4:
            leased = nic.options.dhcp4 if nic.options else None
            dynamic = nic.dhcp4 and not (leased and leased.use_routes is False)
        else:
            dynamic = nic.dhcp6 or (nic.accept_ra and nic.ra_gateway)
        return dynamic or any(is_default(route, family) for route in nic.routes)


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A file of a network manager's configuration."""

    path: str
    text: str
    mode: int = 0o644


def family(address: str) -> int:
    """Return the family (4 or 6) of an address or a network."""
    return 6 if ":" in address else 4


def rule_family(rule: Rule) -> int:
    """Return the family (4 or 6) of a rule; without addresses it is for IPv4, as by ip-rule(8)."""
    return family(rule.source or rule.destination or "")


def bond_miimon(bond: Bond) -> int:
    """Return the milliseconds between checks of the ports' carriers, 0 for none. The kernel has either these
    or checks by ARP.
    """
    by_arp = bond.options and bond.options.arp_interval
    return bond.miimon if bond.miimon is not None else 0 if by_arp else MIIMON


def is_global_on_link(route: Route) -> bool:
    """Return whether the route has the scope global and no gateway, which netplan refuses."""
    is_global = route.options is not None and route.options.scope == "global"
    return is_global and route.type == "unicast" and not route.gateway


def is_default(route: Route, wanted: int) -> bool:
    """Return whether it is a default route of that family over a gateway, in the main table."""
    return route.gateway is not None and route.table is None and route.destination == ANYWHERE[wanted]


def physical(host: Host) -> list[Interface]:
    """Return this machine's physical NICs in bus order."""
    nics = [_interface(host, name) for name in listed(host, _SYS) if _is_physical(host, name)]
    return sorted(nics, key=lambda nic: (nic.bus_position, nic.index, nic.name))


def identified_by_document(nics: Iterable[Nic], *, by_name: bool) -> list[Interface]:
    """Return, for an image that does not run, the NICs that its document identifies by itself: by name or
    MAC; with ``by_name``, by the name that they have or get.
    """
    return [
        Interface(nic.name or "", nic.mac or "")
        for nic in nics
        if nic.name or (nic.mac and (not by_name or given_name(nic)))
    ]


def is_plain(nic: Nic) -> bool:
    """Return whether the NIC has ordinary values only, as most have: those that are not in ``limits``."""
    rare = nic.rules or nic.bridge or nic.options or (nic.bond and nic.bond.options)
    return not rare and all(
        (route.table, route.type, route.options) == (None, "unicast", None) for route in nic.routes
    )


def given_name(nic: Nic) -> str | None:
    """Return the name that the document gives to a physical NIC, None if it keeps its own."""
    return nic.options.set_name if nic.options else None


def with_drivers(host: Host, interfaces: Iterable[Interface]) -> list[Interface]:
    """Return the NICs with their drivers: the name by ethtool(8), as udev has recorded it, else sysfs's."""
    return [replace(one, driver=_driver(host, one)) for one in interfaces]


def _driver(host: Host, interface: Interface) -> str:
    recorded = database.interface(host, interface.index).get("ID_NET_DRIVER")
    found = os.path.basename(os.path.realpath(host.path(f"{_SYS}/{interface.name}/device/driver")))
    # A device without a driver lacks the link.
    return recorded or (found if found != "driver" else "")


def is_named_by_udev(host: Host, interface: Interface) -> bool:
    """Return whether udev has processed the NIC; before that its name may still change."""
    return database.is_initialized(host, interface.index)


def wait_for_change(host: Host, is_ready: Callable[[], bool], timeout: float) -> bool:
    """Wait until ``is_ready()``, which is called again at each change of a NIC; return whether it was.

    The wait ends when udev's queue has been empty and no NIC has changed for _CALM seconds, or after
    ``timeout`` seconds; ``is_ready`` is then called a last time.
    """
    deadline = time.monotonic() + timeout
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
    ) as events:
        events.bind((0, _RTMGRP_LINK))
        poll = select.poll()
        poll.register(events, select.POLLIN)
        calm = time.monotonic()
        while not is_ready():
            now = time.monotonic()
            if host.exists(_QUEUE):
                calm = now
            if now >= deadline or now - calm >= _CALM:
                return is_ready()
            # No event is sent when the queue becomes empty: hence the tick.
            if poll.poll(_TICK * 1000):
                _drain(events)
                calm = time.monotonic()
    return True


def _drain(events: socket.socket) -> None:
    """Discard the queued messages. ENOBUFS (messages were lost) is ignored: ``is_ready`` examines all
    NICs.
    """
    with contextlib.suppress(OSError):
        while events.recv(1 << 16):
            pass


def names(host: Host, interface: Interface) -> frozenset[str]:
    """Return all names by which the NIC may be configured: its own, and udev's alternatives."""
    properties = database.interface(host, interface.index)
    alternatives = (name for key, name in properties.items() if key.startswith("ID_NET_NAME"))
    return frozenset({interface.name, *alternatives} - {""})


def fallback_link(interface: Interface, *, required: bool) -> Link:
    """Return the link of a NIC outside the document, which gets its addresses by DHCP."""
    nic = Nic(number=-1, mac=interface.mac, dhcp4=True)
    metric = None if required else FALLBACK_METRIC
    key = f"{FALLBACK}{interface.mac.replace(':', '')}"
    return Link(interface, nic, key, required=required, fallback=True, metric4=metric, metric6=metric)


def with_router_advertisements(nic: Nic) -> Nic:
    """Return the NIC with everything accepted that router advertisements offer (CONFIG_IPV6_SLAAC)."""
    return replace(nic, accept_ra=True, ra_address=True, ra_dns=True, ra_gateway=True)


def _is_physical(host: Host, name: str) -> bool:
    folder = f"{_SYS}/{name}"
    return host.exists(f"{folder}/device") and _text(host, f"{folder}/type") == _ETHERNET


def _interface(host: Host, name: str) -> Interface:
    folder = f"{_SYS}/{name}"
    # The address of a bond's port is the bond's; its own is here.
    mac = _text(host, f"{folder}/bonding_slave/perm_hwaddr")
    index = number(_text(host, f"{folder}/ifindex")) or 0
    if not mac and _text(host, f"{folder}/addr_assign_type") == _SET_BY_HAND:
        # The permanent address identifies the NIC whatever was set.
        from agent.network import ethtool_netlink

        mac = ethtool_netlink.permanent_address(index)
    place = os.path.realpath(host.path(f"{folder}/device"))
    return Interface(name, (mac or _text(host, f"{folder}/address")).lower(), index, _sortable(place))


def _sortable(path: str) -> str:
    """Return the device's path with numbers padded, so that text order is bus order."""
    parts = path.split("/")
    return "/".join(p if _is_pci(p) else re.sub("[0-9]+", lambda n: n[0].zfill(8), p) for p in parts)


def _is_pci(name: str) -> bool:
    """Return whether this is a PCI address, ``0000:00:1f.2`` (domain, bus, slot, function): hexadecimal of a
    fixed width, so that text order is bus order.
    """
    return len(name) == 12 and (name[4], name[7], name[10]) == (":", ":", ".")


def _text(host: Host, name: str) -> str:
    return (host.read(name) or "").strip(WHITE)
