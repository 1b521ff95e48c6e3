"""OpenStack's ``network_data.json``, also on CloudStack's drives: links, networks, services.

Format: OpenStack Nova, doc/api_schemas/network_data.json; cloud-init also accepts the keys of its version 1.
"""

from __future__ import annotations

from agent.config.nics import ANYWHERE, Kind, Nic, NicOptions, Route
from agent.lib.records import dataclass, replace
from agent.lib.text import WHITE
from agent.reader.common import fields, network_fields, values
from agent.reader.common.lenient import ITSELF, parts, plain, unused, validate, value
from agent.reader.common.problem import HARMLESS, UNSUPPORTED, shown
from agent.reader.common.topology import Link, assemble
from agent.reader.common.values import Choice
from agent.reader.formats import ifupdown_options, ip_subnets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from agent.reader.common.merge import Draft
    from agent.reader.common.network_fields import Interface
    from agent.reader.common.problem import Problem

_KINDS = {"bond": Kind.BOND, "vlan": Kind.VLAN}
_DHCP4 = ("ipv4_dhcp", "dhcp", "dhcp4")
_DHCP6 = ("ipv6_dhcp", "ipv6_dhcpv6-stateful", "dhcp6")
#: Configured by router advertisements, which are accepted anyway.
_ADVERTISED = ("ipv6_slaac", "ipv6_dhcpv6-stateless")
_STATIC = ("ipv4", "ipv6", "static", "static6")
_LABEL = "a name for the platform"
#: The keys that have a meaning in links of one type only.
_OF_TYPES = {
    "bond": ("bond_mode", "bond_links", "bond_miimon", "bond_xmit_hash_policy"),
    "vlan": ("vlan_id", "vlan_link", "vlan_mac_address"),
}


def kind(written: object) -> str:
    """Return a type in lower case."""
    return fields.stripped(written).lower()


def label(written: object) -> str:
    """Return a name of a link, also given as a number."""
    return values.line(values.word(written))


@dataclass(frozen=True, slots=True)
class DataLink:
    """``links[]``; every type except bond and vlan is a physical NIC for the guest. More options of a bond
    have the names of ``ifupdown_options.BondParams``, after ``bond_``.
    """

    id: str = value(label)
    type: str = value(kind, "phy")
    name: str | None = value(network_fields.optional_name, None)
    ethernet_mac_address: str | None = value(fields.mac, None, exact=True)
    mtu: int | None = value(network_fields.MTU, None)
    bond_mode: Any = value(values.raw, None)
    bond_links: list[str | None] | None = parts(label)
    bond_miimon: Any = value(values.raw, None)
    bond_xmit_hash_policy: Any = value(values.raw, None)
    vlan_id: int | None = value(network_fields.VLAN, None)
    vlan_link: str = value(label, "")
    vlan_mac_address: str | None = value(fields.mac, None)


unused(DataLink, harmless={"vif_id": _LABEL}, unknown=ITSELF, is_quiet=True)


@dataclass(frozen=True, slots=True)
class DataService:
    """``services[]``, of which only resolvers (``dns``) are used."""

    type: str = value(kind)
    address: fields.IP | None = value(fields.optional_resolver, None)
    search: list[str | None] | None = parts(network_fields.search_domain, split=True)


@dataclass(frozen=True, slots=True)
class DataRoute:
    """``networks[].routes[]``."""

    network: str = value(fields.text)
    netmask: str = value(values.word, "", exact=True)
    gateway: fields.IP | None = value(fields.optional_address, None, exact=True)
    metric: int | None = value(network_fields.METRIC, None, exact=True)
    services: list[DataService | None] | None = parts(DataService)


unused(DataRoute)


@dataclass(frozen=True, slots=True)
class DataNetwork:
    """``networks[]``."""

    link: str = value(label)
    type: str = value(Choice((*_STATIC, *_DHCP4, *_DHCP6, *_ADVERTISED)))
    ip_address: str = value(fields.text, "")
    netmask: str = value(values.word, "")
    gateway: fields.IP | None = value(fields.optional_address, None)
    metric: int | None = value(network_fields.METRIC, None)
    routes: list[DataRoute | None] | None = parts(DataRoute)
    services: list[DataService | None] | None = parts(DataService)
    dns_nameservers: list[fields.IP | None] | None = parts(fields.resolver, split=True)
    dns_search: list[str | None] | None = parts(network_fields.search_domain, split=True)


unused(
    DataNetwork,
    harmless={
        "broadcast": "it follows from the address and its netmask",
        "id": _LABEL,
        "network_id": _LABEL,
    },
    refused={
        "pointopoint": "addresses with a peer are not set",
        "scope": "addresses are set with the scope that follows from them",
    },
    unknown=ITSELF,
    is_quiet=True,
)


@dataclass(frozen=True, slots=True)
class NetworkData:
    """The document."""

    links: list[DataLink | None] | None = parts(DataLink)
    networks: list[DataNetwork | None] | None = parts(DataNetwork)
    services: list[DataService | None] | None = parts(DataService)


def read(document: dict[str, Any], name: str, draft: Draft) -> None:
    """Add the network to the draft, unless it already has NICs."""
    options = _bond_options(document)
    found, problems = validate(NetworkData, document)
    draft.add_problems(name, problems)
    names = _names(found)
    links: list[Link] = []
    for place, link in enumerate(found.links or ()):
        if link is not None:
            one = _link(link, names.get(place), place, options.get(place, {}), name, draft)
            links += [one] if one is not None else []
    named = {link.refs[0]: link for link in reversed(links)}
    for place, network in enumerate(found.networks or ()):
        if network is None:
            continue
        path = f"{name}: networks[{place}]"
        if network.link not in named:
            draft.add_problem(f"{path}.link", "no such link: left out", "name the id of one of the links")
        else:
            above = named[network.link]
            above.nic = _with_network(above.nic, network, path, draft)
    for made in links:
        made.nic = replace(made.nic, accept_ra=_accepts_ra(made, found.networks or ()))
    more: list[Problem] = []
    nics = assemble(links, more)
    draft.add_problems(name, more)
    draft.nics = draft.nics or nics
    servers, search = _services(found.services, f"{name}: services", draft)
    draft.nameservers.extend(servers)
    draft.search.extend(search)


def _bond_options(document: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """Remove from each bond of the document its options that ``DataLink`` does not declare; return them by
    the bond's place.
    """
    links = document.get("links")
    taken: dict[int, dict[str, Any]] = {}
    for place, link in enumerate(links if isinstance(links, list) else ()):
        if isinstance(link, dict) and _type(link) == "bond":
            names = {key: plain(key) for key in link}
            keys = [key for key, of in names.items() if of[:5] == "bond_" and of not in DataLink.__slots__]
            taken[place] = {key: link.pop(key) for key in keys}
    return taken


def _type(link: dict[str, Any]) -> str:
    found = next((of for key, of in link.items() if plain(key) == "type"), None)
    return found.strip(WHITE).lower() if isinstance(found, str) else ""


def _accepts_ra(link: Link, networks: Iterable[DataNetwork | None]) -> bool:
    """Return whether router advertisements count: not for a NIC with a static IPv6 address, unless one of
    its networks is of a type that needs them.

    Nova delivers the address and the routes of such a network, so its router adds nothing but addresses that
    the platform's filters drop; cloud-init refuses advertisements there too.
    """
    types = {one.type for one in networks if one is not None and one.link in link.refs}
    return bool(types & {*_DHCP6, *_ADVERTISED}) or not any(":" in one for one in link.nic.addresses)


def _names(found: NetworkData) -> dict[int, str]:
    """Return the interface name of each bond and VLAN, by place: its name, or its id if that is a valid
    one.
    """
    names: dict[int, str] = {}
    for place, link in enumerate(found.links or ()):
        if link is None or link.type not in _KINDS:
            continue
        try:
            name = link.name or network_fields.interface_name(link.id)
        except ValueError:
            name = f"{link.type}{place}" if link.vlan_id is None else f"vlan{link.vlan_id}"
        names[place] = name if name not in names.values() else f"{link.type}l{place}"
    return names


def _link(
    link: DataLink,
    name: str | None,
    place: int,
    options: dict[str, Any],
    document: str,
    draft: Draft,
) -> Link | None:
    """Return the link; None and a problem if it has nothing to be found by, or an unknown mode."""
    path, kind = f"links[{place}]", _KINDS.get(link.type, Kind.PHYSICAL)
    for key in (key for of, keys in _OF_TYPES.items() if of != link.type for key in keys):
        if getattr(link, key) not in (None, ""):
            what, hint = f"no effect in a link of type {shown(link.type)}", "correct the type of the link"
            draft.add_problem(f"{document}: {path}.{key}", what, hint, severity=UNSUPPORTED)
    made = Link(
        path=path,
        nic=Nic(0, mac=link.ethernet_mac_address, name=name, kind=kind, mtu=link.mtu),
        refs=(link.id,),
        ports_key="bond_links",
        parent_key="vlan_link",
        keys={"set_name": "name"},
    )
    if kind is Kind.VLAN:
        mac = link.vlan_mac_address or link.ethernet_mac_address
        if link.ethernet_mac_address not in (None, mac):
            what, hint = "another MAC address than vlan_mac_address: not applied", "deliver one of them"
            draft.add_problem(f"{document}: {path}.ethernet_mac_address", what, hint)
        made.nic = replace(made.nic, mac=mac, vlan=link.vlan_id)
        made.parent = link.vlan_link
    elif kind is Kind.BOND:
        keys = ("bond_mode", "bond_miimon", "bond_xmit_hash_policy")
        said = {key: of for key in keys if (of := getattr(link, key)) is not None}
        bond = ifupdown_options.bond(
            {"bond_mode": "active-backup"} | said | options, f"{document}: {path}", draft.problems
        )
        if bond is None:
            return None
        made.nic = replace(made.nic, bond=ifupdown_options.to_bond(bond))
        made.ports = tuple(port for port in link.bond_links or () if port is not None)
        made.primary, made.keys = bond.primary or None, {"primary": "bond_primary"}
    elif link.ethernet_mac_address is None and link.name is None:
        what = "a link without a MAC address: left out"
        draft.add_problem(f"{document}: {path}", what, "the platform must deliver it")
        return None
    elif link.name is not None:
        # A NIC that is matched by its MAC address gets the name.
        is_renamed = link.ethernet_mac_address is not None
        made.nic = replace(
            made.nic,
            name=None if is_renamed else link.name,
            options=NicOptions(set_name=link.name) if is_renamed else None,
        )
    return made


def _with_network(nic: Nic, network: DataNetwork, path: str, draft: Draft) -> Nic:
    """Return the NIC with one more network."""
    servers, search = _services(network.services, f"{path}.services", draft)
    servers += [str(address) for address in network.dns_nameservers or () if address]
    search += [domain for domain in network.dns_search or () if domain]
    for place, route in enumerate(network.routes or ()):
        if route is not None:
            more = _services(route.services, f"{path}.routes[{place}].services", draft)
            servers, search = servers + more[0], search + more[1]
    nic = ip_subnets.with_resolvers(nic, servers, search)
    if network.type in (*_DHCP4, *_DHCP6):
        kind = "dhcp4" if network.type in _DHCP4 else "dhcp6"
        metric = None if network.gateway else network.metric
        nic = ip_subnets.with_subnet(nic, ip_subnets.Subnet(kind, metric=metric), path, draft)
    if network.type in _STATIC:
        address = _address(network, path, draft)
        if address is None:
            return nic
        nic = replace(nic, addresses=(*nic.addresses, str(address)))
    elif network.ip_address or network.netmask:
        what = "no effect: the NIC gets its address from the network"
        draft.add_problem(f"{path}.ip_address", what, severity=HARMLESS)
    return replace(nic, routes=(*nic.routes, *_routes(network, path, draft)))


def _address(network: DataNetwork, path: str, draft: Draft) -> Interface | None:
    version = int(network.type[-1]) if network.type in ("ipv4", "ipv6") else 0
    # One that is written with its prefix has that one, as in cloud-init.
    masks = {} if "/" in network.ip_address else {"netmask": network.netmask}
    return ip_subnets.interface(network.ip_address, masks, path, draft, key="ip_address", version=version)


def _routes(network: DataNetwork, path: str, draft: Draft) -> list[Route]:
    routes: list[Route | None] = []
    if network.gateway is not None:
        to = ANYWHERE[network.gateway.version]
        routes.append(Route(to, str(network.gateway), metric=network.metric))
    for place, route in enumerate(network.routes or ()):
        if route is None:
            continue
        said = ip_subnets.SubnetRoute(
            network=route.network,
            netmask=route.netmask,
            gateway=route.gateway,
            metric=network.metric if route.metric is None else route.metric,
        )
        routes.append(ip_subnets.route(said, f"{path}.routes[{place}]", draft))
    return [one for one in routes if one is not None]


def _services(
    services: list[DataService | None] | None, path: str, draft: Draft
) -> tuple[list[str], list[str]]:
    """Return the resolvers and the search domains."""
    servers: list[str] = []
    search: list[str] = []
    for place, service in enumerate(services or ()):
        if service is None:
            continue
        if service.type != "dns":
            what, hint = "only resolvers (dns) are used", "deliver it in user data"
            draft.add_problem(f"{path}[{place}].type", what, hint, severity=UNSUPPORTED)
            continue
        servers += [str(service.address)] if service.address else []
        search += [domain for domain in service.search or () if domain]
    return servers, search
