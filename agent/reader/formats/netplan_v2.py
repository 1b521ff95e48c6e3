"""network-config version 2: netplan's keys for ethernets, bonds, bridges and VLANs.

Format: netplan-yaml(5). A key that the model has no place for is reported and has no effect.
"""

from __future__ import annotations

import re

from agent.config.nics import Bond, Kind, Nic, Route
from agent.lib.records import dataclass
from agent.reader.common import fields, network_fields, values
from agent.reader.common.lenient import named, part, parts, validate, value
from agent.reader.common.problem import shown
from agent.reader.common.topology import Link, assemble

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agent.reader.common.merge import Draft
    from agent.reader.common.network_fields import Interface

_SECTIONS = {
    "ethernets": Kind.PHYSICAL,
    "bonds": Kind.BOND,
    "bridges": Kind.BRIDGE,
    "vlans": Kind.VLAN,
}


def address(written: object) -> Interface:
    """Return an address; in a dictionary of an address and its options, the options are ignored."""
    if isinstance(written, dict) and len(written) == 1:
        written = next(iter(written))
    return network_fields.interface(written)


@dataclass(frozen=True, slots=True)
class Match:
    """``match``."""

    macaddress: str | None = value(fields.mac, None)
    name: str = value(values.line, "")


@dataclass(frozen=True, slots=True)
class Nameservers:
    """``nameservers``."""

    addresses: list[fields.IP | None] | None = parts(fields.address)
    search: list[str | None] | None = parts(network_fields.search_domain)


@dataclass(frozen=True, slots=True)
class PlanRoute:
    """``routes[]``."""

    to: str = value(network_fields.destination)
    via: fields.IP | None = value(fields.optional_address, None)
    metric: int | None = value(network_fields.METRIC, None)
    on_link: bool = value(values.boolean, default=False)


@dataclass(frozen=True, slots=True)
class Parameters:
    """``parameters`` of a bond. Those of a bridge are not handled."""

    mode: str = value(network_fields.bond_mode, "balance-rr")
    mii_monitor_interval: int | None = value(network_fields.MILLISECONDS, None)
    transmit_hash_policy: str | None = value(network_fields.xmit_hash_policy, None)
    lacp_rate: str | None = value(network_fields.lacp_rate, None)
    primary: str = value(values.line, "")


@dataclass(frozen=True, slots=True)
class Device:
    """An entry of any section."""

    match: Match | None = part(Match)
    macaddress: str | None = value(fields.mac, None)
    addresses: list[Interface | None] | None = parts(address)
    gateway4: fields.IP | None = value(fields.optional_address, None)
    gateway6: fields.IP | None = value(fields.optional_address, None)
    routes: list[PlanRoute | None] | None = parts(PlanRoute)
    nameservers: Nameservers | None = part(Nameservers)
    mtu: int | None = value(network_fields.MTU, None)
    dhcp4: bool = value(values.boolean, default=False)
    dhcp6: bool = value(values.boolean, default=False)
    accept_ra: bool = value(values.boolean, default=True)
    optional: bool = value(values.boolean, default=False)
    interfaces: list[str | None] | None = parts(values.line)
    parameters: Parameters | None = part(Parameters)
    id: int | None = value(network_fields.VLAN, None)
    link: str = value(values.line, "")


@dataclass(frozen=True, slots=True)
class Plan:
    """The document."""

    version: Any = value(values.word, "")
    ethernets: dict[str, Device | None] | None = named(Device)
    bonds: dict[str, Device | None] | None = named(Device)
    bridges: dict[str, Device | None] | None = named(Device)
    vlans: dict[str, Device | None] | None = named(Device)


def read(document: dict[str, Any], name: str, draft: Draft) -> None:
    """Add the network to the draft."""
    found, problems = validate(Plan, document)
    links = [
        _link(f"{section}.{shown(key)}", key, kind, device)
        for section, kind in _SECTIONS.items()
        for key, device in (getattr(found, section) or {}).items()
        if device is not None
    ]
    draft.nics = assemble(links, problems)
    draft.add_problems(name, problems)


def _link(path: str, key: str, kind: Kind, device: Device) -> Link:
    match, parameters = device.match or Match(), device.parameters or Parameters()
    servers = device.nameservers or Nameservers()
    bond = Bond(
        parameters.mode,
        parameters.mii_monitor_interval,
        parameters.transmit_hash_policy,
        parameters.lacp_rate,
    )
    nic = Nic(
        number=0,
        mac=match.macaddress if kind is Kind.PHYSICAL else device.macaddress,
        name=_name(key, kind, device),
        kind=kind,
        vlan=device.id if kind is Kind.VLAN else None,
        bond=bond if kind is Kind.BOND else None,
        addresses=tuple(str(one) for one in device.addresses or () if one),
        routes=_routes(device),
        nameservers=tuple(str(one) for one in servers.addresses or () if one),
        search=tuple(one for one in servers.search or () if one),
        mtu=device.mtu,
        optional=device.optional,
        dhcp4=device.dhcp4,
        dhcp6=device.dhcp6,
        accept_ra=device.accept_ra,
    )
    has_ports = kind in (Kind.BOND, Kind.BRIDGE)
    return Link(
        path=path,
        nic=nic,
        refs=(key,),
        ports=tuple(one for one in device.interfaces or () if one) if has_ports else (),
        parent=device.link if kind is Kind.VLAN else None,
        primary=parameters.primary or None if kind is Kind.BOND else None,
        ports_key="interfaces",
        parent_key="link",
    )


def _name(key: str, kind: Kind, device: Device) -> str | None:
    """Return the interface's name, None for a NIC that is matched by MAC address or pattern."""
    if kind is Kind.PHYSICAL and device.match is not None:
        if device.match.macaddress or not device.match.name or re.search(r"[*?\[]", device.match.name):
            return None
        key = device.match.name
    try:
        return network_fields.interface_name(key)
    except ValueError:
        return None


def _routes(device: Device) -> tuple[Route, ...]:
    gateways = [gateway for gateway in (device.gateway4, device.gateway6) if gateway is not None]
    routes = [Route(network_fields.anywhere(gateway.version), str(gateway)) for gateway in gateways]
    for one in device.routes or ():
        if one is not None:
            gateway = str(one.via) if one.via else None
            routes.append(Route(network_fields.toward(one.to, one.via), gateway, one.on_link, one.metric))
    return tuple(routes)
