"""network-config version 1: a list of devices with subnets, of resolvers, and of routes.

Format: cloud-init, network-config-format-v1. A key that the model has no place for is reported.
"""

from __future__ import annotations

import ipaddress

from agent.config.nics import Bond, Kind, Nic, Route
from agent.lib.records import dataclass, replace
from agent.reader.common import fields, network_fields, values
from agent.reader.common.lenient import part, parts, validate, value
from agent.reader.common.topology import Link, assemble
from agent.reader.common.values import Choice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agent.reader.common.merge import Draft

_KINDS = {"physical": Kind.PHYSICAL, "bond": Kind.BOND, "bridge": Kind.BRIDGE, "vlan": Kind.VLAN}
_DHCP4, _DHCP6 = ("dhcp", "dhcp4"), ("dhcp6", "ipv6_dhcpv6-stateful")
_STATIC = ("static", "static6")
_OTHERS = ("manual", "ipv6_slaac", "ipv6_dhcpv6-stateless")


def many(written: object) -> list[Any]:
    """Return a list; a single value becomes a list of one, null an empty one."""
    return written if isinstance(written, list) else [] if written is None else [written]


def servers(written: object) -> tuple[str, ...]:
    """Return addresses of resolvers."""
    return tuple(str(fields.address(one)) for one in many(written))


def domains(written: object) -> tuple[str, ...]:
    """Return search domains."""
    return tuple(network_fields.search_domain(one) for one in many(written))


@dataclass(frozen=True, slots=True)
class V1Route:
    """``routes[]`` of a subnet."""

    network: str = value(fields.text, "")
    destination: str = value(fields.text, "")
    netmask: str = value(values.word, "")
    prefix: str = value(values.word, "")
    gateway: fields.IP | None = value(fields.optional_address, None)
    metric: int | None = value(network_fields.METRIC, None)


@dataclass(frozen=True, slots=True)
class Subnet:
    """``subnets[]``."""

    type: str = value(Choice((*_DHCP4, *_DHCP6, *_STATIC, *_OTHERS)))
    address: str = value(fields.text, "")
    netmask: str = value(values.word, "")
    gateway: fields.IP | None = value(fields.optional_address, None)
    metric: int | None = value(network_fields.METRIC, None)
    dns_nameservers: tuple[str, ...] = value(servers, ())
    dns_search: tuple[str, ...] = value(domains, ())
    routes: list[V1Route | None] | None = parts(V1Route)
    control: str = value(Choice(("auto", "manual", "hotplug")), "auto")


@dataclass(frozen=True, slots=True)
class Params:
    """``params`` of a bond. Those of a bridge are not handled."""

    bond_mode: str = value(network_fields.bond_mode, "balance-rr")
    bond_miimon: int | None = value(network_fields.MILLISECONDS, None)
    bond_xmit_hash_policy: str | None = value(network_fields.xmit_hash_policy, None)
    bond_lacp_rate: str | None = value(network_fields.lacp_rate, None)
    bond_primary: str = value(values.line, "")


@dataclass(frozen=True, slots=True)
class Entry:
    """``config[]``: a device, resolvers, or a route."""

    type: str = value(Choice((*_KINDS, "nameserver", "route", "loopback")))
    name: str | None = value(network_fields.optional_name, None)
    mac_address: str | None = value(fields.mac, None)
    mtu: int | None = value(network_fields.MTU, None)
    subnets: list[Subnet | None] | None = parts(Subnet)
    bond_interfaces: list[str | None] | None = parts(values.line)
    bridge_interfaces: list[str | None] | None = parts(values.line)
    params: Params | None = part(Params)
    vlan_link: str = value(values.line, "")
    vlan_id: int | None = value(network_fields.VLAN, None)
    accept_ra: bool = value(values.boolean, default=True)
    interface: str = value(values.line, "")
    address: tuple[str, ...] = value(servers, ())
    search: tuple[str, ...] = value(domains, ())
    destination: str = value(fields.text, "")
    netmask: str = value(values.word, "")
    gateway: fields.IP | None = value(fields.optional_address, None)
    metric: int | None = value(network_fields.METRIC, None)


@dataclass(frozen=True, slots=True)
class V1:
    """The document."""

    version: str = value(values.word, "")
    config: list[Entry | None] | None = parts(Entry)


def read(document: dict[str, Any], name: str, draft: Draft) -> None:
    """Add the network to the draft."""
    found, problems = validate(V1, document)
    links: dict[str, Link] = {}
    unnamed: list[Link] = []
    for place, entry in enumerate(found.config or ()):
        if entry is not None and entry.type in _KINDS:
            link = _link(f"config[{place}]", entry, f"{name}: config[{place}]", draft)
            if entry.name is None or entry.name in links:
                unnamed.append(link)
            else:
                links[entry.name] = link
    for place, entry in enumerate(found.config or ()):
        if entry is not None and entry.type == "nameserver":
            _resolvers(entry, links.get(entry.interface), draft)
        elif entry is not None and entry.type == "route":
            _global_route(entry, f"{name}: config[{place}]", list(links.values()), draft)
    draft.nics = assemble([*links.values(), *unnamed], problems)
    draft.add_problems(name, problems)


def _link(path: str, entry: Entry, full_path: str, draft: Draft) -> Link:
    kind, params = _KINDS[entry.type], entry.params or Params()
    bond = Bond(params.bond_mode, params.bond_miimon, params.bond_xmit_hash_policy, params.bond_lacp_rate)
    nic = Nic(
        number=0,
        mac=entry.mac_address,
        # A NIC that is matched by its MAC address keeps the name that the system gave it.
        name=None if kind is Kind.PHYSICAL and entry.mac_address else entry.name,
        kind=kind,
        vlan=entry.vlan_id if kind is Kind.VLAN else None,
        bond=bond if kind is Kind.BOND else None,
        mtu=entry.mtu,
        accept_ra=entry.accept_ra,
    )
    for place, subnet in enumerate(entry.subnets or ()):
        if subnet is not None:
            nic = _with_subnet(nic, subnet, f"{full_path}.subnets[{place}]", draft)
    ports = {Kind.BOND: entry.bond_interfaces, Kind.BRIDGE: entry.bridge_interfaces}.get(kind)
    return Link(
        path=path,
        nic=nic,
        refs=(entry.name,) if entry.name else (),
        ports=tuple(port for port in ports or () if port),
        parent=entry.vlan_link if kind is Kind.VLAN else None,
        primary=params.bond_primary or None if kind is Kind.BOND else None,
        ports_key=f"{entry.type}_interfaces",
        parent_key="vlan_link",
    )


def _with_subnet(nic: Nic, subnet: Subnet, path: str, draft: Draft) -> Nic:
    """Return the NIC with one more subnet."""
    nic = replace(
        nic,
        dhcp4=nic.dhcp4 or subnet.type in _DHCP4,
        dhcp6=nic.dhcp6 or subnet.type in _DHCP6,
        optional=nic.optional or subnet.control != "auto",
        nameservers=tuple(dict.fromkeys((*nic.nameservers, *subnet.dns_nameservers))),
        search=tuple(dict.fromkeys((*nic.search, *subnet.dns_search))),
    )
    routes = []
    if subnet.gateway is not None:
        gateway = subnet.gateway
        routes.append(Route(network_fields.anywhere(gateway.version), str(gateway), metric=subnet.metric))
    for place, route in enumerate(subnet.routes or ()):
        if route is not None:
            made = _route(
                route.network or route.destination,
                route.netmask or route.prefix,
                route,
                f"{path}.routes[{place}]",
                draft,
            )
            routes.extend([made] if made else [])
    if subnet.type in _STATIC:
        try:
            address = network_fields.interface(subnet.address)
            if subnet.netmask and "/" not in subnet.address:
                length = network_fields.prefix(subnet.netmask, address.version)
                address = ipaddress.ip_interface(f"{address.ip}/{length}")
        except ValueError as error:
            what, _, hint = str(error).partition("; ")
            draft.add_problem(f"{path}.address", f"{what}: left out", hint)
            return nic
        nic = replace(nic, addresses=(*nic.addresses, str(address)))
    return replace(nic, routes=(*nic.routes, *routes))


def _route(written: str, mask: str, said: V1Route | Entry, path: str, draft: Draft) -> Route | None:
    """Return a route to a destination with an optional netmask; None and a problem if it is invalid."""
    try:
        if mask and "/" not in written:
            written = f"{written}/{network_fields.prefix(mask, 6 if ':' in written else 4)}"
        destination = network_fields.toward(network_fields.destination(written), said.gateway)
    except ValueError as error:
        what, _, hint = str(error).partition("; ")
        draft.add_problem(path, f"{what}: left out", hint)
        return None
    return Route(destination, str(said.gateway) if said.gateway else None, metric=said.metric)


def _resolvers(entry: Entry, link: Link | None, draft: Draft) -> None:
    if link is None:
        draft.nameservers.extend(entry.address)
        draft.search.extend(entry.search)
        return
    nic = link.nic
    link.nic = replace(
        nic,
        nameservers=tuple(dict.fromkeys((*nic.nameservers, *entry.address))),
        search=tuple(dict.fromkeys((*nic.search, *entry.search))),
    )


def _global_route(entry: Entry, path: str, links: list[Link], draft: Draft) -> None:
    """Add a route without a device to the NIC that has the gateway in one of its networks."""
    route = _route(entry.destination, entry.netmask, entry, path, draft)
    if route is None:
        return
    for link in links:
        for address in link.nic.addresses:
            if entry.gateway is not None and entry.gateway in ipaddress.ip_interface(address).network:
                link.nic = replace(link.nic, routes=(*link.nic.routes, route))
                return
    draft.add_problem(path, "its gateway is in no NIC's network: left out", "write the route into a subnet")
