"""Check NICs, bonds, VLANs and bridges against each other, for all dialects, and number them.

An impossible one is left out and reported by its path, and so is each that depends on it.
"""

from __future__ import annotations

import ipaddress

from agent.config.nics import Bridge, Kind, NicOptions
from agent.lib.records import dataclass, field, fields, replace
from agent.reader.common import bond_modes
from agent.reader.common.problem import UNSUPPORTED, Problem, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agent.config.nics import Bond, Nic

#: Maximum resolvers and maximum search domains of a NIC: more than any network manager uses.
NAMES = 256
#: Maximum NICs of a machine: more are an attack on the renderers.
MOST = 256
#: The options that a port of a bond or bridge has.
_OF_PORTS = ("set_name", "set_mac", "wake_on_lan", "ignore_carrier", "activation_mode")
#: Those that are reported with what they are about.
_OF_ADDRESSES = ("addresses", "dhcp4", "dhcp6")
#: The minimum MTU for IPv6 in bytes (RFC 8200, section 5).
_IPV6_MTU = 1280


@dataclass(slots=True)
class Link:
    """A NIC of a document; ``nic`` still lacks its number and its references to other NICs.

    ``refs`` are the names by which other links of the document refer to it. ``ports``, ``parent`` and
    ``primary`` are such names; ``ports_key`` and ``parent_key`` are the dialect's keys for them in a path.
    ``by_port`` has the values of a bridge's options that are by port, by these names. ``keys`` are the
    dialect's for ``primary``, for ``set_name``, for these options and for all ``options``, where they are
    others.
    """

    path: str
    nic: Nic
    refs: tuple[str, ...]
    ports: tuple[str, ...] = ()
    parent: str | None = None
    primary: str | None = None
    number: int | None = None
    by_port: dict[str, dict[str, int]] = field(default_factory=dict)
    ports_key: str = "ports"
    parent_key: str = "parent"
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def virtual(self) -> bool:
        return self.nic.kind is not Kind.PHYSICAL


def assemble(links: list[Link], problems: list[Problem]) -> tuple[Nic, ...]:
    """Return the NICs in the order of their numbers; each impossible one is left out and reported."""
    if len(links) > MOST:
        problems.append(Problem("the network", f"more than {MOST} NICs", f"the first {MOST} are used"))
    return _Assembly(links[:MOST], problems).nics()


class _Networks:
    """The networks of a NIC's addresses as a set, since a document may have thousands of addresses."""

    def __init__(self, addresses: tuple[str, ...]) -> None:
        networks = [ipaddress.ip_interface(address).network for address in addresses]
        self._known = {(n.version, n.prefixlen, _head(n.network_address, n.prefixlen)) for n in networks}
        self._lengths = {(version, length) for version, length, _ in self._known}

    def outside(self, gateway: str, leased: dict[int, bool]) -> bool:
        """Return whether a route needs ``on_link``: its gateway is link-local, or in none of the networks.

        A NIC without an address of that IP version, or with a ``leased`` one, has unknown networks: False.
        """
        found = ipaddress.ip_address(gateway)
        lengths = [length for version, length in self._lengths if version == found.version]
        inside = any((found.version, n, _head(found, n)) in self._known for n in lengths)
        return found.is_link_local or (bool(lengths) and not inside and not leased[found.version])


def _head(found: ipaddress.IPv4Address | ipaddress.IPv6Address, length: int) -> int:
    return int(found) >> (found.max_prefixlen - length)


def _final_name(nic: Nic) -> str | None:
    """Return the name that the interface will have, as far as the document says."""
    return (nic.options.set_name if nic.options else None) or nic.name


def _same_name(nic: Nic, other: Nic) -> bool:
    """Return whether both are the same interface, or will have the same name."""
    if nic.name and nic.kind is other.kind and nic.name == other.name:
        return True
    return _final_name(nic) is not None and _final_name(nic) == _final_name(other)


class _Assembly:
    """The links of one document while they are checked; ``named`` finds each by its references."""

    def __init__(self, links: list[Link], problems: list[Problem]) -> None:
        self.problems = problems
        self.links: list[Link] = []
        self.named: dict[str, Link] = {}
        for link in links:
            self._admit(link)

    def nics(self) -> tuple[Nic, ...]:
        self._break_cycles()
        while any([self._check_references(link) for link in list(self.links)]):
            pass  # Another link may depend on the one that was left out.
        self._ports_once()
        self._vlans_once()
        ports = {id(self.named[port]): link for link in self.links for port in link.ports}
        for link in self.links:
            self._addresses(link, ports.get(id(link)))
            self._mtu(link)
            self._ipv6_mtu(link)
        self._addresses_once()
        return self._numbered()

    def _report(self, link: Link, key: str, what: str, hint: str) -> None:
        self.problems.append(Problem(f"{link.path}.{key}" if key else link.path, what, hint))

    def _leave_out(self, link: Link, key: str, what: str, hint: str) -> None:
        self._report(link, key, f"{what}: left out", hint)
        self.links.remove(link)
        for ref in link.refs:
            self.named.pop(ref, None)

    def _admit(self, link: Link) -> None:
        """Add a link, unless its names or MAC address are taken or it has no valid name."""
        self._name_once(link)
        nic = link.nic
        twice = next((ref for ref in link.refs if ref in self.named), None)
        same_name = any(_same_name(nic, other.nic) for other in self.links)
        physical = [other.nic for other in self.links if not other.virtual]
        if twice is not None or same_name:
            name = shown(twice or nic.name or "")
            self._report(link, "", f"{name} appears twice; the first is used", "name each NIC once")
        elif not link.virtual and nic.mac and any(other.mac == nic.mac for other in physical):
            self._report(link, "", "its MAC address appears twice; the first is used", "describe a NIC once")
        elif link.virtual and not nic.name:
            what = f"a {nic.kind} without a name that the kernel accepts: left out"
            self._report(link, "", what, "name it, with at most 15 characters")
        else:
            link.ports = tuple(dict.fromkeys(link.ports))
            self.links.append(link)
            self.named.update(dict.fromkeys(link.refs, link))

    def _name_once(self, link: Link) -> None:
        """Remove the name to give to a NIC if another one has it."""
        options = link.nic.options
        if (
            options
            and options.set_name
            and any(_final_name(other.nic) == options.set_name for other in self.links)
        ):
            key = link.keys.get("set_name", "set-name")
            self._report(link, key, "another NIC has the name: not renamed", "name each NIC once")
            options = replace(options, set_name=None)
            link.nic = replace(link.nic, options=None if options == NicOptions() else options)

    def _break_cycles(self) -> None:
        """Leave out each link that depends on itself."""
        looped = [link for link in self.links if self._depends_on_itself(link)]
        for link in looped:
            self._leave_out(link, "", "depends on itself", "a chain of ports and parents must end at a NIC")

    def _depends_on_itself(self, start: Link) -> bool:
        seen: set[int] = set()
        todo = [start]
        while todo:
            for below in self._lower_links(todo.pop()):
                if below is start:
                    return True
                if id(below) not in seen:
                    seen.add(id(below))
                    todo.append(below)
        return False

    def _lower_links(self, link: Link) -> list[Link]:
        names = [*link.ports, *([link.parent] if link.parent is not None else [])]
        return [self.named[name] for name in names if name in self.named]

    def _check_references(self, link: Link) -> bool:
        """Check the link's ports or parent; return whether the link was changed or left out."""
        nic, changed = link.nic, False
        if nic.kind is Kind.VLAN:
            if link.parent is None or link.parent not in self.named:
                what = f"no NIC {shown(link.parent)}" if link.parent else "a VLAN without a parent"
                self._leave_out(link, link.parent_key, what, "name a NIC that is described here")
                return True
            if self.named[link.parent].nic.loopback:
                self._leave_out(link, link.parent_key, "lo has no VLANs", "name another NIC")
                return True
            if nic.vlan is None:
                self._leave_out(link, "", "a VLAN without an id", "write one from 1 to 4094")
                return True
        wrong = {port: why for port in link.ports if (why := self._why_no_port(link, port))}
        for why in wrong.values():
            self._report(link, link.ports_key, why, "name NICs that are described here")
            changed = True
        link.ports = tuple(port for port in link.ports if port not in wrong)
        if nic.kind is Kind.BOND and not link.ports:
            self._leave_out(link, link.ports_key, "a bond without NICs", "name the NICs that it is made of")
            return True
        return changed

    def _why_no_port(self, link: Link, port: str) -> str:
        """Return why the named link cannot be a port of this one, or ""."""
        below = self.named.get(port)
        if below is None:
            return f"no NIC {shown(port)}"
        if below.nic.loopback:
            return f"lo cannot be a port of a {link.nic.kind}"
        # The kernel refuses both (bond_enslave, br_add_if).
        if below.nic.kind is Kind.BRIDGE or (below.nic.kind is link.nic.kind is Kind.BOND):
            return f"{shown(port)} is a {below.nic.kind}, which cannot be a port of a {link.nic.kind}"
        return ""

    def _ports_once(self) -> None:
        """Allow each NIC to be a port of one bond or bridge only, and no VLAN on a port of a bond."""
        taken: dict[int, Link] = {}
        for link in self.links:
            mine: list[str] = []
            for port in link.ports:
                below = self.named[port]
                if id(below) in taken:
                    what = f"{shown(port)} is a port of {shown(taken[id(below)].nic.name or '')} already"
                    self._report(link, link.ports_key, what, "name each NIC in one place")
                else:
                    taken[id(below)] = link
                    mine.append(port)
            link.ports = tuple(mine)
        for link in [one for one in self.links if one.nic.kind is Kind.BOND and not one.ports]:
            self._leave_out(link, link.ports_key, "a bond without NICs", "name the NICs that it is made of")
        for link in [one for one in self.links if one.parent is not None]:
            above = taken.get(id(self.named.get(link.parent or "")))
            if above is not None and above in self.links and above.nic.kind is Kind.BOND:
                what, bond = f"{shown(link.parent or '')} is a port of a bond", shown(above.nic.name or "")
                self._leave_out(link, link.parent_key, what, f"put the VLAN on {bond}")
        while any([self._check_references(link) for link in list(self.links)]):
            pass  # For a VLAN on a VLAN that was left out.

    def _vlans_once(self) -> None:
        seen: set[tuple[int, int | None]] = set()
        for link in [one for one in self.links if one.nic.kind is Kind.VLAN]:
            tag = (id(self.named[link.parent or ""]), link.nic.vlan)
            if tag in seen:
                self._leave_out(link, "", "the same VLAN of the same NIC appears twice", "describe it once")
            seen.add(tag)
        while any([self._check_references(link) for link in list(self.links)]):
            pass  # For links that depend on one of them.

    def _addresses(self, link: Link, above: Link | None) -> None:
        """Remove the addresses of a port; set ``on_link`` for gateways outside the addresses' networks."""
        nic = link.nic
        if above is not None:
            used = (nic.addresses, nic.routes, nic.rules, nic.nameservers, nic.search, nic.dhcp4, nic.dhcp6)
            if any(used):
                what = f"has addresses, routes or resolvers, but is a port of {shown(above.nic.name or '')}"
                self._report(link, "", f"{what}: not applied", "give them to the bond or bridge")
            nic = replace(nic, addresses=(), routes=(), rules=(), nameservers=(), search=())
            link.nic = replace(nic, dhcp4=False, dhcp6=False, accept_ra=False)
            if nic.options is not None:
                self._options_of_port(link, nic.options, above)
            return
        networks = _Networks(nic.addresses)
        leased = {4: nic.dhcp4, 6: nic.dhcp6}
        routes = []
        for route in nic.routes:
            if route.gateway and route.type != "unicast":
                what = f"a route of type {route.type} has no gateway: it is set without one"
                self._report(link, "routes", what, "remove the gateway")
                route = replace(route, gateway=None, on_link=False)
            source = route.options.source if route.options else None
            wrong = [
                one for one in (route.gateway, source) if one and (":" in one) != (":" in route.destination)
            ]
            if wrong:
                which = "gateway" if wrong[0] == route.gateway else "source address"
                what = f"a route with a {which} of another IP version than its destination: left out"
                self._report(link, "routes", what, "correct one of them")
                continue
            outside = bool(route.gateway) and networks.outside(route.gateway or "", leased)
            routes.append(replace(route, on_link=route.on_link or outside))
        link.nic = replace(nic, routes=tuple(dict.fromkeys(routes)))

    def _options_of_port(self, link: Link, options: NicOptions, above: Link) -> None:
        """Remove the options that are about addresses."""
        kept = NicOptions(**{key: getattr(options, key) for key in _OF_PORTS})
        lost = [one.name for one in fields(NicOptions) if one.name not in (*_OF_PORTS, *_OF_ADDRESSES)]
        if any(getattr(options, name) for name in lost):
            what = f"has options for addresses, but is a port of {shown(above.nic.name or '')}: not applied"
            hint = "give them to the bond or bridge"
            self.problems.append(Problem(link.path, what, hint, UNSUPPORTED))
        link.nic = replace(link.nic, options=None if kept == NicOptions() else kept)

    def _mtu(self, link: Link) -> None:
        nic, parent = link.nic, self.named.get(link.parent or "")
        if nic.mtu is None:
            return
        if nic.mtu < _IPV6_MTU and any(":" in address for address in nic.addresses):
            self._report(link, "mtu", "too small for an IPv6 address: not applied", "write at least 1280")
        elif parent is not None and parent.nic.mtu is not None and nic.mtu > parent.nic.mtu:
            what = f"larger than that of {shown(link.parent or '')}: not applied"
            self._report(link, "mtu", what, "write at most the MTU of the NIC below")
        else:
            return
        link.nic = replace(nic, mtu=None)

    def _ipv6_mtu(self, link: Link) -> None:
        """Remove an MTU of IPv6 above that of the NIC, which the kernel refuses."""
        mtu, options = link.nic.mtu, link.nic.options
        if mtu and options and options.ipv6_mtu and options.ipv6_mtu > mtu:
            what = "larger than the MTU of the NIC: not applied"
            self._report(link, "ipv6-mtu", what, "write at most the MTU")
            options = replace(options, ipv6_mtu=None)
            link.nic = replace(link.nic, options=None if options == NicOptions() else options)

    def _addresses_once(self) -> None:
        taken: set[str] = set()
        for link in self.links:
            mine = []
            for address in dict.fromkeys(link.nic.addresses):
                host = address.partition("/")[0]
                if host in taken:
                    self._report(link, "", "an address that another NIC has too: left out", "keep it on one")
                else:
                    taken.add(host)
                    mine.append(address)
            link.nic = replace(link.nic, addresses=tuple(mine))

    def _numbered(self) -> tuple[Nic, ...]:
        """Return the NICs by number. Those without one take free numbers in order, physical NICs first, and
        lo, which is not paired by its number, last.
        """
        numbers: dict[int, int] = {}
        for link in [one for one in self.links if one.number is not None]:
            if link.number in numbers.values():
                self._report(link, "number", "another NIC has it too", "number each NIC once")
            else:
                numbers[id(link)] = link.number or 0
        free = (number for number in range(10_000 + MOST) if number not in set(numbers.values()))
        for link in sorted(self.links, key=lambda one: (one.nic.loopback, one.virtual)):
            if id(link) not in numbers:
                numbers[id(link)] = next(free)
        return tuple(sorted((self._finished(link, numbers) for link in self.links), key=lambda n: n.number))

    def _finished(self, link: Link, numbers: dict[int, int]) -> Nic:
        def number(ref: str | None) -> int | None:
            return numbers[id(self.named[ref])] if ref is not None and ref in self.named else None

        ports = tuple(found for port in link.ports if (found := number(port)) is not None)
        bond = link.nic.bond
        if bond is not None and link.primary is not None:
            primary = number(link.primary)
            if primary not in ports:
                key = link.keys.get("primary", "primary")
                self._report(link, key, "not one of its ports: not applied", "name one of its ports")
            else:
                bond = replace(bond, primary=primary)
        if bond is not None:
            bond = self._allowed(link, bond)
        for key in ("nameservers", "search"):
            if len(getattr(link.nic, key)) > NAMES:
                self._report(link, key, f"more than {NAMES}: the first are used", "write fewer")
                link.nic = replace(link.nic, **{key: getattr(link.nic, key)[:NAMES]})
        parent = number(link.parent)
        bridge = self._bridge(link, numbers)
        return replace(
            link.nic, number=numbers[id(link)], ports=ports, parent=parent, bond=bond, bridge=bridge
        )

    def _allowed(self, link: Link, bond: Bond) -> Bond:
        """Return the bond without options that exclude each other."""
        made, refused = bond_modes.allowed(bond)
        place = f"{link.path}.{link.keys['options']}" if "options" in link.keys else link.path
        for key, why in refused.items():
            hint = "remove it, or correct the options that exclude it"
            self.problems.append(Problem(place, f"{key}: {why}: not applied", hint, UNSUPPORTED))
        return made

    def _bridge(self, link: Link, numbers: dict[int, int]) -> Bridge | None:
        """Return the options of a bridge, with those by port by the ports' numbers."""
        bridge = link.nic.bridge
        for key, by_name in link.by_port.items():
            mine = [(port, of) for port, of in by_name.items() if port in link.ports]
            if len(mine) < len(by_name):
                what = "names a NIC that is not one of its ports: not applied to it"
                self._report(link, link.keys.get(key, key), what, "name its ports")
            by_number: Any = {key: tuple((numbers[id(self.named[port])], of) for port, of in mine)}
            bridge = replace(bridge or Bridge(), **by_number)
        return bridge
