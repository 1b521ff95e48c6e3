"""network-config version 1: a list of devices with subnets, of resolvers, and of routes.

Format: cloud-init, network-config-format-v1 and its schema. What is missing has cloud-init's default: the
prefix of an address is then /24 for IPv4 and /64 for IPv6.
"""

from __future__ import annotations

import ipaddress

from agent.config.nics import Kind, Nic, NicOptions
from agent.lib.records import dataclass, replace
from agent.lib.text import WHITE
from agent.reader.common import fields, network_fields, values
from agent.reader.common.lenient import ITSELF, UNUSED, parts, plain, unused, validate, value
from agent.reader.common.problem import UNSUPPORTED, Problem, shown
from agent.reader.common.problem import path as located
from agent.reader.common.topology import Link, assemble
from agent.reader.common.values import Choice
from agent.reader.formats import ifupdown_options, ip_subnets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agent.reader.common.merge import Draft

_KINDS = {
    "physical": Kind.PHYSICAL,
    "loopback": Kind.PHYSICAL,
    "bond": Kind.BOND,
    "bridge": Kind.BRIDGE,
    "vlan": Kind.VLAN,
}
_LINK = ("name", "mac_address", "mtu", "subnets", "accept_ra", "optional", "keep_configuration")
#: The keys that have a meaning in an entry of each type.
_KEYS = {
    "physical": (*_LINK, "wakeonlan"),
    "loopback": ("name", "subnets"),
    "bond": (*_LINK, "bond_interfaces", "params"),
    "bridge": (*_LINK, "bridge_interfaces", "params"),
    "vlan": (*_LINK, "vlan_link", "vlan_id"),
    "nameserver": ("interface", "address", "search"),
    "route": ("destination", "network", "netmask", "prefix", "gateway", "metric"),
}


def name(written: object) -> str | None:
    """Return an interface name, which may be lo; None for an empty string or null."""
    return "lo" if fields.stripped(written) == "lo" else network_fields.optional_name(written)


@dataclass(frozen=True, slots=True)
class Entry:
    """``config[]``: a device, resolvers, or a route."""

    type: str = value(Choice((*_KINDS, "nameserver", "route")))
    name: str | None = value(name, None)
    mac_address: str | None = value(fields.mac, None, exact=True)
    mtu: int | None = value(network_fields.MTU, None)
    subnets: list[ip_subnets.Subnet | None] | None = parts(ip_subnets.Subnet)
    accept_ra: bool = value(values.boolean, default=True)
    optional: bool = value(values.boolean, default=False)
    keep_configuration: bool = value(values.boolean, default=False)
    wakeonlan: bool | None = value(values.boolean, None)
    bond_interfaces: list[str | None] | None = parts(values.line, split=True)
    bridge_interfaces: list[str | None] | None = parts(values.line, split=True)
    params: Any = value(values.raw, None)
    vlan_link: str = value(values.line, "")
    vlan_id: int | None = value(network_fields.VLAN, None)
    interface: str | None = value(values.line, None, exact=True)
    address: list[fields.IP | None] | None = parts(fields.resolver, split=True)
    search: list[str | None] | None = parts(network_fields.search_domain, split=True)
    destination: str = value(values.word, "", exact=True)
    network: str = value(values.word, "", exact=True)
    netmask: str = value(values.word, "", exact=True)
    prefix: str = value(values.word, "", exact=True)
    gateway: fields.IP | None = value(ip_subnets.gateway, None, exact=True)
    metric: int | None = value(network_fields.METRIC, None, exact=True)


# An unknown key costs only itself: it must not cost a machine its only NIC.
unused(
    Entry,
    harmless={
        "config_id": "a name for the person who wrote it",
        "id": "a name for the person who wrote it",
    },
    unknown=ITSELF,
)


@dataclass(frozen=True, slots=True)
class V1:
    """The document."""

    version: str = value(values.word, "")
    config: list[Entry | None] | None = parts(Entry)


def read(document: dict[str, Any], document_name: str, draft: Draft) -> None:
    """Add the network to the draft."""
    others = _other_keys(document)
    found, problems = validate(V1, document)
    draft.add_problems(document_name, others + problems)
    entries = [
        (f"config[{place}]", entry) for place, entry in enumerate(found.config or ()) if entry is not None
    ]
    reading = _Reading(document_name, draft)
    for path, entry in entries:
        reading.check_keys(path, entry)
        if entry.type in _KINDS:
            reading.add_link(path, entry)
    reading.add_ports()
    for path, entry in entries:
        if entry.type == "nameserver":
            reading.add_resolvers(path, entry)
        elif entry.type == "route":
            reading.add_route(path, entry)
    more: list[Any] = []
    draft.nics = assemble(reading.links, more)
    draft.add_problems(document_name, more)


def _other_keys(document: dict[str, Any]) -> list[Problem]:
    """Leave out each entry for resolvers or a route with a key that it has no use for, and report the key:
    without it the entry would say more, as a route in the main table for one in another.
    """
    problems = list[Problem]()
    config = document.get("config")
    config = config if isinstance(config, list) else []
    for place, entry in enumerate(config):
        keys = {plain(key): key for key in entry} if isinstance(entry, dict) else {}
        kind = entry[keys["type"]] if "type" in keys else None
        kind = kind.strip(WHITE).lower() if isinstance(kind, str) else ""
        if kind not in ("nameserver", "route"):
            continue
        for key in sorted(keys.keys() - {"type", *UNUSED[Entry].harmless, *_KEYS[kind]}):
            if entry[keys[key]] is not None:
                what = f"not a key of an entry of type {kind}: the item around it is left out"
                hint = "remove it, or deliver the item in another way"
                problems.append(Problem(located(("config", place, keys[key])), what, hint))
                config[place] = None
    return problems


class _Reading:
    """The links of one document, in order and by the names of their entries."""

    def __init__(self, document_name: str, draft: Draft) -> None:
        self.document_name = document_name
        self.draft = draft
        self.links: list[Link] = []
        self.named: dict[str, Link] = {}

    def report(self, path: str, what: str, hint: str, *, severity: str | None = None) -> None:
        more = {"severity": severity} if severity else {}
        self.draft.add_problem(f"{self.document_name}: {path}", what, hint, **more)

    def check_keys(self, path: str, entry: Entry) -> None:
        """Report each key that has no meaning in an entry of this type."""
        for field in _FIELDS:
            given, default = getattr(entry, field), getattr(_EMPTY, field)
            kind = "loopback" if entry.name == "lo" and entry.type == "physical" else entry.type
            if given != default and field not in _KEYS[kind]:
                what = f"no effect in an entry of type {kind}"
                self.report(f"{path}.{field}", what, "remove it, or correct the type", severity=UNSUPPORTED)

    def add_link(self, path: str, entry: Entry) -> None:
        """Add a device, unless it has nothing to be found by."""
        kind = _KINDS[entry.type]
        if entry.type == "loopback" or entry.name == "lo":
            self._add_loopback(path, entry)
            return
        if entry.name is None:
            without = "" if kind is Kind.PHYSICAL and entry.mac_address else ": left out"
            self.report(path, f"a device without a name{without}", "name it, with at most 15 characters")
            if without:
                return
        link = Link(
            path=path,
            nic=_nic(kind, entry),
            refs=(entry.name,) if entry.name else (),
            parent=entry.vlan_link if kind is Kind.VLAN else None,
            ports_key=f"{entry.type}_interfaces",
            parent_key="vlan_link",
        )
        if kind in (Kind.BOND, Kind.BRIDGE) and not self._set_params(path, entry, link):
            return
        link.nic = self._with_mtu(self._with_subnets(link.nic, path, entry), path, entry)
        self.links.append(link)
        if entry.name:
            self.named.setdefault(entry.name, link)

    def _with_subnets(self, nic: Nic, path: str, entry: Entry) -> Nic:
        for place, subnet in enumerate(entry.subnets or ()):
            if subnet is not None:
                place_of = f"{self.document_name}: {path}.subnets[{place}]"
                nic = ip_subnets.with_subnet(nic, subnet, place_of, self.draft)
        return ip_subnets.with_control(nic, [one.control for one in entry.subnets or () if one is not None])

    def _with_mtu(self, nic: Nic, path: str, entry: Entry) -> Nic:
        """Return the NIC with the MTU of the device; that of one of its subnets has precedence."""
        if nic.mtu is None:
            return replace(nic, mtu=entry.mtu)
        if entry.mtu not in (None, nic.mtu):
            what = "another MTU than that of its subnet, which is used: not applied"
            self.report(f"{path}.mtu", what, "write one of them")
        return nic

    def _add_loopback(self, path: str, entry: Entry) -> None:
        """Add lo if it has more than its own addresses; its resolvers are the machine's."""
        if entry.name != "lo" or _KINDS[entry.type] is not Kind.PHYSICAL:
            what = "lo, and no other, is the loopback device: left out"
            self.report(f"{path}.name", what, "correct the type or name")
            return
        nic = self._with_subnets(Nic(0, name="lo", loopback=True), path, entry)
        self.draft.nameservers.extend(nic.nameservers)
        self.draft.search.extend(nic.search)
        if nic.dhcp4 or nic.dhcp6:
            self.report(f"{path}.subnets", "lo gets no address by DHCP", "write them for another device")
        nic = ip_subnets.bare_loopback(nic)
        if nic.addresses or nic.routes:
            self.links.append(Link(path=path, nic=nic, refs=("lo",)))

    def _set_params(self, path: str, entry: Entry, link: Link) -> bool:
        """Set the ports and options of a bond or bridge; return False if it is left out."""
        problems = self.draft.problems
        place, said = f"{self.document_name}: {path}.params", entry.params or {}
        if not isinstance(said, dict):
            self.report(f"{path}.params", "not a dictionary: left out", "write it in braces: {...}")
            if entry.type == "bond":
                self.report(path, "a bond with an unknown mode: left out", "correct its params")
                return False
            said = {}
        if entry.type == "bond":
            bond = ifupdown_options.bond(said, place, problems, of=f"{self.document_name}: {path}")
            if bond is None:
                return False
            link.nic = replace(link.nic, bond=ifupdown_options.to_bond(bond))
            link.ports = tuple(port for port in entry.bond_interfaces or () if port)
            link.primary = bond.primary or None
            link.keys = {"primary": "params.bond-primary", "options": "params"}
            return True
        bridge = ifupdown_options.bridge(said, place, problems)
        mac = link.nic.mac or bridge.hw
        link.nic = replace(link.nic, bridge=ifupdown_options.to_bridge(bridge), mac=mac)
        ports = (*(entry.bridge_interfaces or ()), *(bridge.ports or ()))
        link.ports = tuple(dict.fromkeys(port for port in ports if port))
        ifupdown_options.set_by_port(link, bridge, "params.")
        return True

    def add_ports(self) -> None:
        """Add a NIC for each port without an entry, by its name: none is needed."""
        for link in list(self.links):
            for port in link.ports:
                if port in self.named:
                    self.named[port].nic = ip_subnets.as_port(self.named[port].nic)
                elif nic := ip_subnets.plain_nic(port):
                    self.named[port] = Link(path=f"{link.path}.{link.ports_key}", nic=nic, refs=(port,))
                    self.links.append(self.named[port])

    def add_resolvers(self, path: str, entry: Entry) -> None:
        """Add resolvers to the machine, or to the NIC that they are for."""
        servers = [str(one) for one in entry.address or () if one]
        search = [one for one in entry.search or () if one]
        if entry.interface is None or entry.interface == "lo":
            self.draft.nameservers.extend(servers)
            self.draft.search.extend(search)
        elif link := self.named.get(entry.interface):
            link.nic = ip_subnets.with_resolvers(link.nic, servers, search)
        else:
            what = f"no device {shown(entry.interface)}: left out"
            self.report(f"{path}.interface", what, "name a device that is described here")

    def add_route(self, path: str, entry: Entry) -> None:
        """Add a route without a device to the NIC that has the gateway in one of its networks, else to the
        only one that gets its network by DHCP, or that a link-local gateway may be at.
        """
        place = f"{self.document_name}: {path}"
        written = entry.destination or entry.network
        said = ip_subnets.SubnetRoute(
            destination=written,
            netmask=entry.netmask,
            prefix=entry.prefix,
            gateway=entry.gateway,
            metric=entry.metric,
        )
        route = ip_subnets.route(said, place, self.draft)
        if route is None:
            return
        if entry.gateway is None:
            self.report(path, "a route without a gateway: left out", "write its gateway")
            return
        link = self._towards(entry.gateway)
        if link is None:
            self.report(
                path, "its gateway is in no NIC's network: left out", "write the route into a subnet"
            )
        else:
            link.nic = replace(link.nic, routes=(*link.nic.routes, route))

    def _towards(self, gateway: fields.IP) -> Link | None:
        for link in self.links:
            if any(gateway in ipaddress.ip_interface(one).network for one in link.nic.addresses):
                return link
        if gateway.is_link_local:
            below = {port for link in self.links for port in link.ports}
            own = [one for one in self.links if not one.nic.loopback and below.isdisjoint(one.refs)]
            return own[0] if len(own) == 1 else None
        leased = [one for one in self.links if (one.nic.dhcp4 if gateway.version == 4 else one.nic.dhcp6)]
        return leased[0] if len(leased) == 1 else None


#: For comparisons with the defaults.
_EMPTY = Entry(type="physical")
_FIELDS = tuple(name for name in Entry.__slots__ if name != "type")


def _nic(kind: Kind, entry: Entry) -> Nic:
    is_renamed = kind is Kind.PHYSICAL and entry.mac_address is not None and entry.name is not None
    options = NicOptions(
        # A NIC that is matched by its MAC address gets the name.
        set_name=entry.name if is_renamed else None,
        wake_on_lan=entry.wakeonlan if kind is Kind.PHYSICAL else None,
        critical=entry.keep_configuration,
    )
    return Nic(
        number=0,
        mac=entry.mac_address,
        name=None if is_renamed else entry.name,
        kind=kind,
        vlan=entry.vlan_id if kind is Kind.VLAN else None,
        optional=entry.optional,
        accept_ra=entry.accept_ra,
        options=None if options == NicOptions() else options,
    )
