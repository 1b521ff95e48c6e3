"""network-config version 2: netplan's ethernets, bonds, bridges and VLANs as NICs of the model.

Format: netplan-yaml(5). The keys are declared in ``agent.reader.formats.netplan_keys``.
"""

from __future__ import annotations

from agent.config.nics import (
    ANYWHERE,
    AddressOptions,
    Dhcp,
    Kind,
    Match,
    Nic,
    NicOptions,
    Route,
    RouteOptions,
    Rule,
)
from agent.lib.records import fields, replace
from agent.reader.common import network_fields
from agent.reader.common.lenient import validate
from agent.reader.common.problem import HARMLESS, UNSUPPORTED, Problem, shown
from agent.reader.common.topology import Link, assemble
from agent.reader.formats import netplan_values, netplan_virtual
from agent.reader.formats.netplan_keys import BondDevice, BridgeDevice, Ethernet, Plan, VlanDevice
from agent.reader.formats.netplan_values import MAIN_TABLE
from agent.reader.formats.netplan_virtual import unless_default, valid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agent.reader.common.merge import Draft
    from agent.reader.formats.netplan_keys import Device, Overrides, PlanRoute, Policy
    from agent.reader.formats.netplan_values import Address

_SECTIONS: tuple[tuple[str, Kind, type[Device]], ...]
_SECTIONS = (
    ("ethernets", Kind.PHYSICAL, Ethernet),
    ("bonds", Kind.BOND, BondDevice),
    ("bridges", Kind.BRIDGE, BridgeDevice),
    ("vlans", Kind.VLAN, VlanDevice),
)
#: The sections of which each entry is refused, by what it is.
_REFUSED = {
    "vrfs": "a VRF",
    "tunnels": "a tunnel",
    "wifis": "a Wi-Fi interface",
    "modems": "a modem",
    "dummy_devices": "a dummy interface",
    "virtual_ethernets": "a virtual Ethernet pair",
    "nm_devices": "a connection of NetworkManager",
    "xfrm_interfaces": "an interface of IPsec",
}
#: The keys that lo may have.
_OF_LO = {"match", "addresses", "routes", "routing_policy", "optional"}
#: The addresses that the kernel gives to lo.
_LO_HAS = ("127.0.0.1/8", "::1/128")


def read(document: dict[str, Any], name: str, draft: Draft) -> None:
    """Add the network to the draft."""
    problems = _section_renderers(document)
    found, more = validate(Plan, document)
    problems += more
    isolated = _refused(found, problems)
    links = [
        _Entry(f"{section}.{shown(key)}", key, kind, device or empty(), problems).link()
        for section, kind, empty in _SECTIONS
        for key, device in (getattr(found, section) or {}).items()
    ]
    draft.nics = assemble(
        [one for one in links if one and not _is_isolated(one, isolated, problems)], problems
    )
    draft.add_problems(name, problems)


def _section_renderers(document: dict[str, Any]) -> list[Problem]:
    """Remove the ``renderer`` of each section, which is beside its devices."""
    problems = []
    for section, inside in document.items():
        if isinstance(inside, dict) and isinstance(inside.get("renderer"), str):
            del inside["renderer"]
            why = "no effect: CONFIG_RENDERER decides which network manager is configured"
            problems.append(Problem(f"{shown(section)}.renderer", why, "", HARMLESS))
    return problems


def _refused(found: Plan, problems: list[Problem]) -> set[str]:
    """Report each entry of the sections that are not supported; return the ports of VRFs."""
    isolated: set[str] = set()
    for section, what in _REFUSED.items():
        entries: dict[str, Any] = getattr(found, section) or {}
        for key, entry in entries.items():
            path, hint = f"{section.replace('_', '-')}.{shown(key)}", "configure it in the machine"
            problems.append(Problem(path, f"not supported: {what}", hint, UNSUPPORTED))
            ports = entry.get("interfaces") if section == "vrfs" and isinstance(entry, dict) else ()
            many = ports if isinstance(ports, list) else [ports]
            isolated.update(port for port in many if isinstance(port, str))
    return isolated


def _is_isolated(link: Link, isolated: set[str], problems: list[Problem]) -> bool:
    """Return whether the NIC is a port of a VRF; report it: its routes would be in the main table."""
    nic = link.nic
    if isolated.isdisjoint({*link.refs, nic.name, nic.options.set_name if nic.options else None}):
        return False
    what = "a port of a VRF, which is not supported: left out"
    problems.append(Problem(link.path, what, "take it out of the VRF", UNSUPPORTED))
    return True


class _Entry:
    """One entry of a section, and its place."""

    def __init__(self, path: str, key: str, kind: Kind, device: Device, problems: list[Problem]) -> None:
        self.path = path
        self.key = key
        self.kind = kind
        self.device = device
        self.problems = problems
        match = device.match if isinstance(device, Ethernet) else None
        name = match.name if match else key
        is_by_name = not match or not (match.macaddress or match.driver)
        self.is_loopback = kind is Kind.PHYSICAL and name == "lo" and is_by_name
        self.addresses = self._addresses()

    def report(self, key: str, what: str, hint: str, severity: str = "error") -> None:
        self.problems.append(Problem(f"{self.path}.{key}" if key else self.path, what, hint, severity))

    def link(self) -> Link | None:
        """Return the NIC with its references; None if it was left out."""
        match self.device:
            case Ethernet() as device:
                return self._physical(device)
            case BondDevice() as device:
                ports, primary = device.interfaces, device.parameters.primary if device.parameters else ""
                nic = replace(self._nic(), bond=netplan_virtual.bond(device.parameters, self.report))
                return self._link(nic, ports=valid(ports), primary=primary or None)
            case BridgeDevice() as device:
                nic = replace(self._nic(), bridge=netplan_virtual.bridge(device.parameters, self.report))
                by_port = netplan_virtual.by_port(device.parameters)
                return self._link(nic, ports=valid(device.interfaces), by_port=by_port)
            case VlanDevice() as device:
                return self._link(replace(self._nic(), vlan=device.id), parent=device.link)
        raise TypeError(type(self.device))

    def _link(self, nic: Nic, **given: Any) -> Link:
        keys = {key: f"parameters.{key.replace('_', '-')}" for key in ("primary", *given.get("by_port", ()))}
        keys["options"] = "parameters"
        refs = (self.key,)
        return Link(self.path, nic, refs, ports_key="interfaces", parent_key="link", keys=keys, **given)

    def _nic(self) -> Nic:
        """Return the NIC with what all kinds have."""
        device = self.device
        virtual = self.kind is not Kind.PHYSICAL
        servers = device.nameservers
        ra = device.ra_overrides
        if ra and ra.table:
            what = "not supported: routers' routes in another table: their default route is not used"
            self.report(
                "ra-overrides.table", what, "write the routes as routes, with their table", UNSUPPORTED
            )
        return Nic(
            number=0,
            mac=device.macaddress if virtual else None,
            name=_interface_name(self.key) if virtual else None,
            kind=self.kind,
            addresses=tuple(str(one.interface) for one in self.addresses),
            routes=self._routes(),
            rules=self._rules(),
            nameservers=tuple(map(str, valid(servers.addresses))) if servers else (),
            search=valid(servers.search) if servers else (),
            mtu=device.mtu,
            # netplan-yaml(5): an activation mode makes a NIC optional.
            optional=device.optional or device.activation_mode is not None,
            dhcp4=device.dhcp4,
            dhcp6=device.dhcp6,
            accept_ra=device.accept_ra,
            ra_dns=ra.use_dns if ra else True,
            ra_gateway=not (ra and ra.table),
            options=unless_default(self._options()),
        )

    def _physical(self, device: Ethernet) -> Link | None:
        match = device.match
        name = match.name if match else self.key
        for place, driver in enumerate(match.driver if match else ()):
            if driver is None:
                self.report(f"match.driver[{place}]", "not a driver's name: left out", "correct it")
        if self.is_loopback:
            return self._loopback(device)
        if match is None:
            if _interface_name(self.key) is None:
                what = "no interface can have this name: left out"
                self.report("", what, "write match, or an interface's name in place of the key")
                return None
            if device.set_name:
                self.report("set-name", "without match: not renamed", "write which NIC it is as match")
        mac = match.macaddress if match else None
        # Beside a MAC address, Nic.name is no condition: the native format pairs by the address alone.
        exact = name and mac is None and _interface_name(name)
        pattern = None if exact else name
        if match is not None and not (mac or name or match.driver):
            pattern = "*"
        nic = self._nic()
        options = replace(nic.options or NicOptions(), set_mac=device.macaddress)
        if match:
            options = replace(options, set_name=device.set_name)
        drivers = valid(match.driver) if match else ()
        nic = replace(
            nic,
            mac=mac,
            name=name if exact else None,
            match=unless_default(Match(pattern, drivers)),
            options=unless_default(replace(options, wake_on_lan=device.wakeonlan)),
        )
        return self._link(nic)

    def _loopback(self, device: Ethernet) -> Link:
        for one in fields(Ethernet):
            if one.name not in _OF_LO and getattr(device, one.name) != one.default:
                hint = "write it for a NIC: lo has addresses, routes and rules"
                self.report(one.name.replace("_", "-"), "lo cannot have it: not applied", hint)
        nic = self._nic()
        options = NicOptions(addresses=nic.options.addresses) if nic.options else NicOptions()
        made = Nic(
            number=0,
            name="lo",
            loopback=True,
            addresses=nic.addresses,
            routes=nic.routes,
            rules=nic.rules,
            optional=nic.optional,
            options=unless_default(options),
        )
        return self._link(made)

    def _addresses(self) -> list[Address]:
        found = []
        for place, one in enumerate(self.device.addresses or ()):
            if one is None:
                continue
            if one.interface.is_loopback and not self.is_loopback:
                self.report(f"addresses[{place}]", "an address of lo: left out", "write it for lo")
            elif str(one.interface) in _LO_HAS:
                self.report(f"addresses[{place}]", "no effect: lo has it already", "", HARMLESS)
            else:
                found.append(replace(one, label=self._label(one, f"addresses[{place}].label")))
        return found

    def _label(self, one: Address, key: str) -> str | None:
        """Return the label of an address. The address is the same without it."""
        if one.label is None:
            return None
        try:
            label = netplan_values.label(one.label)
        except ValueError as error:
            what, _, hint = str(error).partition("; ")
            self.report(key, f"{what}: left out", hint)
            return None
        if one.interface.version == 6:
            self.report(key, "not supported: only IPv4 addresses have labels", "remove it", UNSUPPORTED)
            return None
        return label

    def _routes(self) -> tuple[Route, ...]:
        device = self.device
        gateways = [one for one in (device.gateway4, device.gateway6) if one and not self.is_loopback]
        routes = [Route(ANYWHERE[one.version], str(one)) for one in gateways]
        return (*routes, *(_route(one) for one in device.routes or () if one is not None))

    def _rules(self) -> tuple[Rule, ...]:
        found = []
        for place, one in enumerate(self.device.routing_policy or ()):
            if one is None:
                continue
            wrong = _wrong_rule(one)
            if wrong:
                self.report(f"routing-policy[{place}]", f"{wrong}: left out", "write from or to, or both")
            else:
                made = Rule(one.table, one.from_, one.to, one.priority, one.mark, one.type_of_service)
                found.append(made)
        return tuple(found)

    def _options(self) -> NicOptions:
        device = self.device
        local = device.link_local
        generation = device.ipv6_address_generation
        if generation and device.ipv6_address_token:
            what = "not with ipv6-address-token: not applied"
            self.report("ipv6-address-generation", what, "write one of them")
            generation = None
        return NicOptions(
            dhcp4=_dhcp(device.dhcp4_overrides, device.dhcp_identifier),
            dhcp6=_dhcp(device.dhcp6_overrides, None),
            addresses=tuple(
                AddressOptions(str(one.interface), one.label, one.lifetime)
                for one in self.addresses
                if one.label or one.lifetime
            ),
            # A list in which all is wrong is no empty list, which turns the addresses off.
            link_local=None if local is None or (local and not any(local)) else valid(local),
            ipv6_mtu=device.ipv6_mtu,
            ipv6_privacy=device.ipv6_privacy,
            ipv6_address_generation=generation,
            ipv6_address_token=device.ipv6_address_token,
            critical=device.critical,
            ignore_carrier=device.ignore_carrier,
            activation_mode=device.activation_mode,
        )


def _interface_name(written: str) -> str | None:
    """Return the name if an interface can have it."""
    try:
        return network_fields.interface_name(written)
    except ValueError:
        return None


def _route(one: PlanRoute) -> Route:
    options = RouteOptions(
        str(one.from_) if one.from_ else None,
        one.scope,
        one.mtu,
        one.congestion_window,
        one.advertised_receive_window,
    )
    return Route(
        network_fields.toward(one.to, one.via or one.from_),
        str(one.via) if one.via else None,
        one.on_link,
        one.metric,
        None if one.table == MAIN_TABLE else one.table,
        one.type,
        unless_default(options),
    )


def _wrong_rule(one: Policy) -> str:
    if not one.from_ and not one.to:
        return "a rule for all packets"
    if one.from_ and one.to and (":" in one.from_) != (":" in one.to):
        return "a rule from one IP version to the other"
    return ""


def _dhcp(said: Overrides | None, identifier: str | None) -> Dhcp | None:
    if said is None:
        return Dhcp(identifier=identifier) if identifier else None
    given = {one.name: getattr(said, one.name) for one in fields(type(said))}
    given["hostname"] = said.hostname or None
    return unless_default(Dhcp(**given, identifier=identifier))
