"""The subnets of a NIC as network-config version 1 and interfaces(5) have them: an address or DHCP, with a
gateway, resolvers and routes.

Format: cloud-init, network-config-format-v1, "subnets".
"""

from __future__ import annotations

import ipaddress

from agent.config.nics import ANYWHERE, AddressOptions, Dhcp, Nic, NicOptions, Route
from agent.lib.records import dataclass, replace
from agent.lib.text import WHITE
from agent.reader.common import fields, network_fields, values
from agent.reader.common.lenient import ITSELF, parts, unused, value
from agent.reader.common.problem import HARMLESS, UNSUPPORTED
from agent.reader.common.values import Choice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from agent.reader.common.merge import Draft
    from agent.reader.common.network_fields import Interface

_DHCP4 = ("dhcp", "dhcp4", "ipv4_dhcp")
_DHCP6 = ("dhcp6", "ipv6_dhcp", "ipv6_dhcpv6-stateful")
_STATIC = ("static", "static4", "static6", "ipv4", "ipv6")
#: Configured by router advertisements, which are accepted anyway.
_ADVERTISED = ("ipv6_slaac", "ipv6_dhcpv6-stateless")
_OTHERS = ("manual", "loopback")
#: The types of routes of ip-route(8) that lead somewhere else than to a gateway.
_ROUTE_TYPES = ("local", "blackhole", "unreachable", "prohibit", "throw")
#: The prefix of an address or a network without one, by the IP version.
_PREFIXES = {4: 24, 6: 64}
#: The addresses that stand for all, which no route has as its only destination.
_ANY = tuple(ANYWHERE[version].partition("/")[0] for version in (4, 6))
#: The networks that lo always has.
_LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


def gateway(written: object) -> fields.IP | None:
    """Return the address of a gateway, also written with a prefix; None for an empty string or null."""
    return fields.optional_address(fields.stripped(written).partition("/")[0])


@dataclass(frozen=True, slots=True)
class SubnetRoute:
    """``routes[]`` of a subnet. ``type`` is ``route``, or one of ip-route(8)."""

    type: str = value(Choice(("route", "unicast", *_ROUTE_TYPES)), "route", exact=True)
    destination: str = value(values.word, "", exact=True)
    network: str = value(values.word, "", exact=True)
    netmask: str = value(values.word, "", exact=True)
    prefix: str = value(values.word, "", exact=True)
    gateway: fields.IP | None = value(gateway, None, exact=True)
    metric: int | None = value(network_fields.METRIC, None, exact=True)


unused(SubnetRoute, harmless={"id": "a name for the person who wrote it"})


@dataclass(frozen=True, slots=True)
class Subnet:
    """``subnets[]``."""

    type: str = value(Choice((*_DHCP4, *_DHCP6, *_STATIC, *_ADVERTISED, *_OTHERS)))
    address: str = value(fields.text, "", exact=True)
    ip_address: str = value(fields.text, "", exact=True)
    netmask: str = value(values.word, "", exact=True)
    prefix: str = value(values.word, "", exact=True)
    gateway: fields.IP | None = value(gateway, None)
    metric: int | None = value(network_fields.METRIC, None)
    mtu: int | None = value(network_fields.MTU, None)
    mac_address: str | None = value(fields.mac, None)
    dns_nameservers: list[fields.IP | None] | None = parts(fields.resolver, split=True)
    dns_search: list[str | None] | None = parts(network_fields.search_domain, split=True)
    routes: list[SubnetRoute | None] | None = parts(SubnetRoute)
    control: str = value(Choice(("auto", "manual", "hotplug")), "auto")
    scope: str = value(Choice(("global",)), "global", exact=True)


unused(
    Subnet,
    harmless={
        "broadcast": "it follows from the address and its prefix",
        "ipv4": "it follows from the address",
        "ipv6": "it follows from the address",
        "id": "a name for the person who wrote it",
    },
    refused={"pointopoint": "addresses with a peer are not set"},
    unknown=ITSELF,
)


def with_subnet(nic: Nic, subnet: Subnet, path: str, draft: Draft, *, label: str | None = None) -> Nic:
    """Return the NIC with one more subnet; ``label`` is that of its address. Without a valid address it
    has no routes either.
    """
    nic = with_resolvers(
        nic,
        [str(one) for one in subnet.dns_nameservers or () if one],
        [one for one in subnet.dns_search or () if one],
    )
    routes: list[Route] = []
    if subnet.gateway is not None:
        to = ANYWHERE[subnet.gateway.version]
        routes.append(Route(to, str(subnet.gateway), metric=subnet.metric))
    for place, said in enumerate(subnet.routes or ()):
        if said is not None and (made := route(said, f"{path}.routes[{place}]", draft)):
            routes.append(made)
    if subnet.type in _STATIC:
        found = _address(subnet, path, draft, is_loopback=nic.loopback)
        if found is None:
            return nic
        address = str(found)
        nic = replace(nic, addresses=(*nic.addresses, address))
        if label:
            nic = _with_options(nic, addresses=(*_options(nic).addresses, AddressOptions(address, label)))
    nic = replace(
        nic,
        dhcp4=nic.dhcp4 or subnet.type in _DHCP4,
        dhcp6=nic.dhcp6 or subnet.type in _DHCP6,
        routes=(*nic.routes, *routes),
    )
    if subnet.type not in _STATIC and (
        subnet.address or subnet.ip_address or subnet.netmask or subnet.prefix
    ):
        if nic.loopback and _is_los_own(subnet.address or subnet.ip_address):
            draft.add_problem(f"{path}.address", "no effect: lo has it already", severity=HARMLESS)
        else:
            what = f"no effect in a subnet of type {subnet.type}"
            draft.add_problem(f"{path}.address", what, "write the type static", severity=UNSUPPORTED)
    nic = _with_metric(nic, subnet, path, draft)
    return _with_mac(_with_mtu(nic, subnet, path, draft), subnet, path, draft)


def _address(subnet: Subnet, path: str, draft: Draft, *, is_loopback: bool) -> Interface | None:
    written = subnet.address or subnet.ip_address
    if is_loopback and _is_los_own(written):
        return ipaddress.ip_interface(written.partition("/")[0].strip(WHITE))
    masks = {"prefix": subnet.prefix, "netmask": subnet.netmask}
    return interface(written, masks, path, draft)


def interface(
    written: str,
    masks: Mapping[str, str],
    path: str,
    draft: Draft,
    *,
    key: str = "address",
    version: int = 0,
) -> Interface | None:
    """Return an address with the prefix that it is written with, or that ``masks`` (by their keys) have, or
    else cloud-init's default: /24 for IPv4, /64 for IPv6. None and a problem if they do not fit, or if it is
    not of the version, if that is not 0.
    """
    host, slash, length = (one.strip(WHITE) for one in written.partition("/"))
    at = key
    try:
        if not host:
            raise ValueError("missing; write it, or another type")
        of = network_fields.interface(host).version
        if version not in (0, of):
            raise ValueError(f"not an IPv{version} address; write one, or correct the type of the network")
        lengths = [network_fields.prefix(length, of)] if slash else []
        for name, mask in masks.items():
            at = key if slash else name
            lengths += [network_fields.prefix(mask, of)] if mask else []
        at = key
        if len(set(lengths)) > 1:
            raise ValueError("a netmask that contradicts the address's prefix; write one of them")
        return ipaddress.ip_interface(f"{host}/{lengths[0] if lengths else _PREFIXES[of]}")
    except ValueError as error:
        draft.add_refused(f"{path}.{at}", error)
        return None


def _is_los_own(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address.partition("/")[0].strip(WHITE))
    except ValueError:
        return False
    return any(found in one for one in _LOOPBACK if one.version == found.version)


def bare_loopback(nic: Nic) -> Nic:
    """Return lo without what the kernel gives it anyway, and without resolvers."""
    kept = tuple(one for one in nic.addresses if not _is_los_own(one))
    return replace(nic, addresses=kept, nameservers=(), search=(), dhcp4=False, dhcp6=False)


def _with_metric(nic: Nic, subnet: Subnet, path: str, draft: Draft) -> Nic:
    """Set the metric of the default route that comes by DHCP; that of a gateway is set already."""
    if subnet.metric is None or subnet.gateway is not None:
        return nic
    if subnet.type in _DHCP4:
        return _with_options(nic, dhcp4=Dhcp(route_metric=subnet.metric))
    if subnet.type in _DHCP6:
        return _with_options(nic, dhcp6=Dhcp(route_metric=subnet.metric))
    hint = "write it beside a gateway"
    draft.add_problem(f"{path}.metric", "no effect without a gateway", hint, severity=UNSUPPORTED)
    return nic


def _with_mtu(nic: Nic, subnet: Subnet, path: str, draft: Draft) -> Nic:
    """Set the MTU of the device, or that of IPv6 for an IPv6 subnet."""
    if subnet.mtu is None:
        return nic
    if is_ipv6(subnet):
        return _with_options(nic, ipv6_mtu=subnet.mtu)
    if nic.mtu not in (None, subnet.mtu):
        draft.add_problem(f"{path}.mtu", "another MTU than the device's: not applied", "write one of them")
        return nic
    return replace(nic, mtu=subnet.mtu)


def _with_mac(nic: Nic, subnet: Subnet, path: str, draft: Draft) -> Nic:
    if subnet.mac_address in (None, nic.mac):
        return nic
    if nic.mac is not None:
        draft.add_problem(f"{path}.mac_address", "another MAC address than the device's: not applied")
        return nic
    return replace(nic, mac=subnet.mac_address)


def is_ipv6(subnet: Subnet) -> bool:
    """Return whether the subnet is one of IPv6, by its type or address."""
    written = subnet.address or subnet.ip_address
    return subnet.type in (*_DHCP6, *_ADVERTISED, "static6", "ipv6") or ":" in written


def with_control(nic: Nic, controls: Iterable[str]) -> Nic:
    """Return the NIC as its subnets say that it is brought up: ``auto``, ``hotplug`` (the boot does not wait
    for it), or ``manual``, which only counts if all say so.
    """
    said = set(controls) - {"auto"}
    if not said:
        return nic
    nic = replace(nic, optional=True)
    is_manual = set(controls) == {"manual"} and not nic.loopback
    return _with_options(nic, activation_mode="manual") if is_manual else nic


def with_resolvers(nic: Nic, servers: Iterable[str], search: Iterable[str]) -> Nic:
    """Return the NIC with more resolvers and search domains."""
    return replace(
        nic,
        nameservers=tuple(dict.fromkeys((*nic.nameservers, *servers))),
        search=tuple(dict.fromkeys((*nic.search, *search))),
    )


def plain_nic(name: str) -> Nic | None:
    """Return a NIC of which only the name is known; None if it is no valid one."""
    try:
        return Nic(0, name=network_fields.interface_name(name))
    except ValueError:
        return None


def route(said: SubnetRoute, path: str, draft: Draft) -> Route | None:
    """Return a route to a destination with an optional netmask; None and a problem if it is invalid."""
    try:
        written = (said.destination or said.network).strip(WHITE).lower()
        if not written:
            raise ValueError("a route without a destination; write one")
        destination = _destination(written, [one for one in (said.prefix, said.netmask) if one])
        version = 6 if ":" in destination else 4
        is_default = destination == network_fields.DEFAULT
        if said.gateway is not None and not is_default and said.gateway.version != version:
            raise ValueError(f"not an IPv{version} gateway; correct it")
        destination = network_fields.toward(destination, said.gateway)
        if said.destination and said.network not in ("", said.destination):
            raise ValueError("a destination and another network; write one of them")
        if said.type in _ROUTE_TYPES and said.gateway is not None:
            raise ValueError(f"a route of type {said.type} with a gateway; remove one of them")
    except ValueError as error:
        draft.add_refused(path, error)
        return None
    kind = said.type if said.type in _ROUTE_TYPES else "unicast"
    return Route(destination, str(said.gateway) if said.gateway else None, metric=said.metric, type=kind)


def _destination(written: str, masks: Sequence[str]) -> str:
    host, slash, length = written.partition("/")
    version = 6 if ":" in host else 4
    if host == network_fields.DEFAULT:
        return host
    if host in _ANY and not slash and not masks:
        return ANYWHERE[version]
    lengths = {network_fields.prefix(one, version) for one in (*masks, *([length] if slash else ()))}
    if len(lengths) > 1:
        raise ValueError("a netmask that contradicts the destination's prefix; write one of them")
    return network_fields.destination(f"{host}/{lengths.pop() if lengths else _PREFIXES[version]}")


def as_port(nic: Nic) -> Nic:
    """Return the NIC as a port, or as one below a VLAN: the other NIC brings it up."""
    if nic.options is None or nic.options.activation_mode is None:
        return nic
    options = replace(nic.options, activation_mode=None)
    return replace(nic, options=None if options == NicOptions() else options)


def _options(nic: Nic) -> NicOptions:
    return nic.options or NicOptions()


def _with_options(nic: Nic, **changes: Any) -> Nic:
    return replace(nic, options=replace(_options(nic), **changes))
