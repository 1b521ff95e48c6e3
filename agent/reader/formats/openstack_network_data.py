"""OpenStack's ``network_data.json``, also on CloudStack's drives: links, networks, services.

Format: OpenStack Nova, doc/api_schemas/network_data.json. A guest has no use for the keys that are not
declared here; they are ignored.
"""

from __future__ import annotations

import ipaddress

from agent.config.nics import Bond, Kind, Nic, Route
from agent.lib.records import dataclass, replace
from agent.reader.common import fields, network_fields, values
from agent.reader.common.lenient import parts, validate, value
from agent.reader.common.topology import Link, assemble
from agent.reader.common.values import Choice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agent.reader.common.merge import Draft
    from agent.reader.common.network_fields import Interface

_KINDS = {"bond": Kind.BOND, "vlan": Kind.VLAN}
_DHCP4 = ("ipv4_dhcp", "dhcp", "dhcp4")
_DHCP6 = ("ipv6_dhcp", "ipv6_dhcpv6-stateful", "dhcp6")
#: Configured by router advertisements, which are accepted anyway.
_ADVERTISED = ("ipv6_slaac", "ipv6_dhcpv6-stateless")
_STATIC = ("ipv4", "ipv6")


@dataclass(frozen=True, slots=True)
class DataLink:
    """``links[]``; every type except bond and vlan is a physical NIC for the guest."""

    id: str = value(values.line)
    type: str = value(fields.text, "phy")
    ethernet_mac_address: str | None = value(fields.mac, None)
    mtu: int | None = value(network_fields.MTU, None)
    bond_mode: str = value(network_fields.bond_mode, "active-backup")
    bond_links: list[str | None] | None = parts(values.line)
    bond_miimon: int | None = value(network_fields.MILLISECONDS, None)
    bond_xmit_hash_policy: str | None = value(network_fields.xmit_hash_policy, None)
    vlan_id: int | None = value(network_fields.VLAN, None)
    vlan_link: str = value(values.line, "")
    vlan_mac_address: str | None = value(fields.mac, None)


@dataclass(frozen=True, slots=True)
class DataRoute:
    """``networks[].routes[]``."""

    network: str = value(fields.text)
    netmask: str = value(fields.text, "")
    gateway: fields.IP | None = value(fields.optional_address, None)


@dataclass(frozen=True, slots=True)
class DataService:
    """``services[]``, of which only resolvers (``dns``) are used."""

    type: str = value(fields.text)
    address: fields.IP = value(fields.address)


@dataclass(frozen=True, slots=True)
class DataNetwork:
    """``networks[]``."""

    link: str = value(values.line)
    type: str = value(Choice((*_STATIC, *_DHCP4, *_DHCP6, *_ADVERTISED)))
    ip_address: str = value(fields.text, "")
    netmask: str = value(fields.text, "")
    gateway: fields.IP | None = value(fields.optional_address, None)
    routes: list[DataRoute | None] | None = parts(DataRoute)
    services: list[DataService | None] | None = parts(DataService)
    dns_nameservers: list[fields.IP | None] | None = parts(fields.address)


@dataclass(frozen=True, slots=True)
class NetworkData:
    """The document."""

    links: list[DataLink | None] | None = parts(DataLink)
    networks: list[DataNetwork | None] | None = parts(DataNetwork)
    services: list[DataService | None] | None = parts(DataService)


def read(document: dict[str, Any], name: str, draft: Draft) -> None:
    """Add the network to the draft, unless it already has NICs."""
    found, problems = validate(NetworkData, document)
    problems = [problem for problem in problems if not problem.harmless]
    nics = {link.id: _nic(link) for link in found.links or () if link is not None}
    for place, network in enumerate(found.networks or ()):
        if network is None:
            continue
        path = f"{name}: networks[{place}]"
        if network.link not in nics:
            draft.add_problem(f"{path}.link", "no such link: left out", "name the id of one of the links")
        else:
            nics[network.link] = _with_network(nics[network.link], network, path, draft)
    names = _names(found)
    links = [
        _link(link, replace(nics[link.id], name=names.get(place)), place)
        for place, link in enumerate(found.links or ())
        if link is not None
    ]
    nics_made = assemble(links, problems)
    draft.add_problems(name, problems)
    draft.nics = draft.nics or nics_made
    draft.nameservers.extend(_resolvers(found.services))


def _nic(link: DataLink) -> Nic:
    kind = _KINDS.get(link.type, Kind.PHYSICAL)
    bond = Bond(link.bond_mode, link.bond_miimon, link.bond_xmit_hash_policy)
    mac = link.vlan_mac_address if kind is Kind.VLAN else link.ethernet_mac_address
    return Nic(
        number=0,
        mac=mac,
        kind=kind,
        vlan=link.vlan_id if kind is Kind.VLAN else None,
        bond=bond if kind is Kind.BOND else None,
        mtu=link.mtu,
    )


def _names(found: NetworkData) -> dict[int, str]:
    """Return the interface name of each bond and VLAN, by place: its id if that is a valid name."""
    names: dict[int, str] = {}
    for place, link in enumerate(found.links or ()):
        if link is None or link.type not in _KINDS:
            continue
        try:
            name = network_fields.interface_name(link.id)
        except ValueError:
            name = f"{link.type}{place}" if link.vlan_id is None else f"vlan{link.vlan_id}"
        names[place] = name if name not in names.values() else f"{link.type}l{place}"
    return names


def _link(link: DataLink, nic: Nic, place: int) -> Link:
    bond, vlan = nic.kind is Kind.BOND, nic.kind is Kind.VLAN
    return Link(
        path=f"links[{place}]",
        nic=nic,
        refs=(link.id,),
        ports=tuple(port for port in link.bond_links or () if port is not None) if bond else (),
        parent=link.vlan_link if vlan else None,
        ports_key="bond_links",
        parent_key="vlan_link",
    )


def _with_network(nic: Nic, network: DataNetwork, path: str, draft: Draft) -> Nic:
    """Return the NIC with one more network."""
    servers = [str(address) for address in network.dns_nameservers or () if address]
    nameservers = dict.fromkeys((*nic.nameservers, *_resolvers(network.services), *servers))
    nic = replace(
        nic,
        nameservers=tuple(nameservers),
        dhcp4=nic.dhcp4 or network.type in _DHCP4,
        dhcp6=nic.dhcp6 or network.type in _DHCP6,
    )
    if network.type in _STATIC:
        address = _address(network, path, draft)
        if address is None:
            return nic
        nic = replace(nic, addresses=(*nic.addresses, str(address)))
    return replace(nic, routes=(*nic.routes, *_routes(network, path, draft)))


def _address(network: DataNetwork, path: str, draft: Draft) -> Interface | None:
    version, key = (4 if network.type == "ipv4" else 6), "ip_address"
    try:
        address = network_fields.interface(network.ip_address)
        if address.version != version:
            raise ValueError(f"not an IPv{version} address; write one, or correct the type of the network")
        if network.netmask and "/" not in network.ip_address:
            key = "netmask"
            length = network_fields.prefix(network.netmask, version)
            return ipaddress.ip_interface(f"{address.ip}/{length}")
    except ValueError as error:
        what, _, hint = str(error).partition("; ")
        draft.add_problem(f"{path}.{key}", f"{what}: left out", hint)
        return None
    return address


def _routes(network: DataNetwork, path: str, draft: Draft) -> list[Route]:
    version = 6 if "6" in network.type else 4
    routes = [Route(network_fields.anywhere(version), str(network.gateway))] if network.gateway else []
    for place, route in enumerate(network.routes or ()):
        if route is None:
            continue
        try:
            destination = _destination(route, version)
            if route.gateway is not None and route.gateway.version != version:
                raise ValueError(f"not an IPv{version} gateway; correct it")
        except ValueError as error:
            what, _, hint = str(error).partition("; ")
            draft.add_problem(f"{path}.routes[{place}]", f"{what}: left out", hint)
        else:
            routes.append(Route(destination, str(route.gateway) if route.gateway else None))
    return routes


def _destination(route: DataRoute, version: int) -> str:
    written = route.network
    if route.netmask and "/" not in written:
        written = f"{written}/{network_fields.prefix(route.netmask, version)}"
    destination = network_fields.destination(written)
    if (":" in destination) != (version == 6):
        raise ValueError(f"not an IPv{version} destination; correct it")
    return destination


def _resolvers(services: list[DataService | None] | None) -> list[str]:
    return [str(service.address) for service in services or () if service and service.type == "dns"]
