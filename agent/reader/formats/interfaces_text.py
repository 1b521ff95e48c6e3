"""The text of interfaces(5), as older OpenStack, Proxmox VE and OpenNebula deliver it.

Nothing of it is run or included: of the commands, only those that add a route have an effect.
"""

from __future__ import annotations

import re

from agent.config.nics import AddressOptions, Dhcp, Kind, Nic, NicOptions
from agent.lib.records import dataclass, replace
from agent.lib.text import WHITE, words
from agent.reader.common import fields, network_fields, values
from agent.reader.common.lenient import ITSELF, named, parts, unused, validate, value
from agent.reader.common.problem import HARMLESS, UNSUPPORTED, shown
from agent.reader.common.topology import Link, assemble
from agent.reader.common.values import Choice
from agent.reader.formats import ifupdown_options, interfaces_lines, ip_subnets, route_commands
from agent.reader.formats.interfaces_lines import COMMANDS, Iface
from agent.reader.formats.ip_subnets import Subnet, SubnetRoute

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agent.reader.common.merge import Draft

#: The names of aliases, of which the kernel takes 15 characters (IFNAMSIZ).
_LABEL = re.compile(r"[A-Za-z0-9_.:@-]{1,15}")
_TAGGED = re.compile(r"(.+)\.([0-9]{1,4})")


def hardware(written: object) -> str | None:
    """Return a MAC address, also with ``ether`` before it."""
    return fields.mac(fields.stripped(written).removeprefix("ether").strip(WHITE))


def privacy(written: object) -> bool:
    """Return whether temporary addresses are preferred."""
    return Choice(("0", "2"))(written) == "2"


@dataclass(frozen=True, slots=True)
class Stanza:
    """The options of one ``iface``; those of bonds and bridges are read apart."""

    address: list[str | None] | None = parts(fields.text)
    netmask: str = value(values.word, "", exact=True)
    gateway: fields.IP | None = value(fields.optional_address, None)
    metric: int | None = value(network_fields.METRIC, None)
    mtu: int | None = value(network_fields.MTU, None)
    hwaddress: str | None = value(hardware, None, exact=True)
    dns_nameservers: list[fields.IP | None] | None = parts(fields.resolver, split=True)
    dns_nameserver: list[fields.IP | None] | None = parts(fields.resolver, split=True)
    dns_domain: list[str | None] | None = parts(network_fields.search_domain, split=True)
    dns_search: list[str | None] | None = parts(network_fields.search_domain, split=True)
    scope: str = value(Choice(("global",)), "global", exact=True)
    hostname: str = value(fields.hostname, "")
    accept_ra: str = value(Choice(("0", "1", "2")), "")
    autoconf: bool | None = value(ifupdown_options.switch, None)
    privext: bool | None = value(privacy, None)
    preferred_lifetime: str = value(Choice(("0", "forever")), "")
    vlan_raw_device: str = value(values.line, "", exact=True)
    vlan_id: int | None = value(network_fields.VLAN, None, exact=True)
    up: list[str | None] | None = parts(values.line)
    post_up: list[str | None] | None = parts(values.line)
    pre_up: list[str | None] | None = parts(values.line)
    down: list[str | None] | None = parts(values.line)
    pre_down: list[str | None] | None = parts(values.line)
    post_down: list[str | None] | None = parts(values.line)


_OTHER_LINK = "only Ethernet, bonds, VLANs and bridges are set up"
unused(
    Stanza,
    harmless={
        "broadcast": "it follows from the address and its prefix",
        "network": "it follows from the address and its prefix",
        "dad_attempts": "the manager waits for the address as it is set up to",
        "dad_interval": "the manager waits for the address as it is set up to",
    },
    refused={
        "pointopoint": "addresses with a peer are not set",
        **dict.fromkeys(("endpoint", "local", "ttl", "mode", "provider", "vrf", "unit"), _OTHER_LINK),
        **dict.fromkeys(("wpa_ssid", "wpa_psk", "wpa_conf", "wireless_essid", "wireless_key"), _OTHER_LINK),
    },
    unknown=ITSELF,
)


@dataclass(frozen=True, slots=True)
class Interfaces:
    """The file's stanzas, by the line and text of their beginning."""

    iface: dict[str, Stanza | None] | None = named(Stanza)


def read(text: str, document: str, draft: Draft) -> None:
    """Add the network to the draft."""
    scanned = interfaces_lines.scan(text, document, draft)
    written = {one.place: one.options for one in scanned.stanzas}
    found, problems = validate(Interfaces, {"iface": written})
    for problem in problems:
        draft.problems.append(replace(problem, path=f"{document}: {problem.path.removeprefix('iface.')}"))
    network = _Network(document, draft)
    for one in scanned.stanzas:
        stanza = (found.iface or {}).get(one.place)
        if stanza is None:
            continue
        control = scanned.control(one.name)
        is_manual = control == "manual" and scanned.control(one.device) != "manual"
        if ":" in one.name and is_manual:
            # ifup sets its address only when it is called for the alias.
            what, hint = "an alias that is not brought up at boot: left out", f"write auto {shown(one.name)}"
            draft.add_problem(f"{document}: {one.place}", what, hint, severity=UNSUPPORTED)
        else:
            network.add(one, stanza, control)
    network.finish()
    for name in sorted(scanned.auto - {one.name for one in scanned.stanzas}):
        what = f"no stanza iface {shown(name)}: it has no effect"
        draft.add_problem(f"{document}: auto", what, "write one", severity=UNSUPPORTED)


class _Network:
    """The links by the names of their devices."""

    def __init__(self, document: str, draft: Draft) -> None:
        self.document = document
        self.draft = draft
        self.links: dict[str, Link] = {}
        self._controls: dict[str, list[str]] = {}
        self._bonds: dict[str, dict[str, Any]] = {}
        self._bridges: dict[str, dict[str, Any]] = {}
        self._ports: dict[str, list[str]] = {}

    def add(self, one: Iface, stanza: Stanza, control: str) -> None:
        """Add a stanza to the link of its device."""
        device, path = one.device, f"{self.document}: {one.place}"
        if device not in self.links:
            if device != "lo" and ip_subnets.plain_nic(device) is None:
                self.draft.add_problem(path, "not an interface name: left out", "name one interface")
                return
            nic = Nic(0, name=device, loopback=device == "lo")
            self.links[device] = Link(path=one.place, nic=nic, refs=(device,))
        if stanza.hostname and one.type != "dhcp4":
            what, hint = "no effect without DHCP for IPv4", "write it below inet dhcp"
            self.draft.add_problem(f"{path}.hostname", what, hint, severity=UNSUPPORTED)
            stanza = replace(stanza, hostname="")
        link = self.links[device]
        self._controls.setdefault(device, []).append(control)
        self._set_kind(link, one, stanza)
        nic = self._with_mac(link.nic, stanza, path)
        for place, address in enumerate(stanza.address or [""]):
            if address is not None and (one.type in ("static", "static6") or not place):
                subnet = _subnet(one.type, address, stanza, is_first=place == 0)
                label = self._label(one, path)
                nic = ip_subnets.with_subnet(nic, subnet, path, self.draft, label=label)
        nic = _with_options(nic, stanza)
        link.nic = self._with_commands(nic, stanza, path)

    def _with_mac(self, nic: Nic, stanza: Stanza, path: str) -> Nic:
        if stanza.hwaddress and nic.mac not in (None, stanza.hwaddress):
            what = "another MAC address than in a stanza before: not applied"
            self.draft.add_problem(f"{path}.hwaddress", what, "write one of them")
            return nic
        return replace(nic, mac=stanza.hwaddress or nic.mac)

    def _label(self, one: Iface, path: str) -> str | None:
        """Return the label of the addresses of an alias such as eth0:1."""
        if ":" not in one.name:
            return None
        if _LABEL.fullmatch(one.name):
            return one.name
        what, hint = "not a label of addresses: set without it", "write at most 15 letters and digits"
        self.draft.add_problem(path, what, hint)
        return None

    def _set_kind(self, link: Link, one: Iface, stanza: Stanza) -> None:
        """Note what the device is, and of what it is made."""
        device = one.device
        bond = dict(one.groups.get("bond", {}))
        master = bond.pop("bond_master", None)
        if master not in (None, "none"):
            # The options of a bond may be in the stanzas of its ports too.
            self._ports.setdefault(master, []).append(device)
            for key, written in bond.items():
                self._bonds.setdefault(master, {}).setdefault(key, written)
        elif bond:
            slaves = words(bond.pop("bond_slaves", "none"))
            self._ports.setdefault(device, []).extend(slave for slave in slaves if slave != "none")
            self._bonds[device] = self._bonds.get(device, {}) | bond
        if bridge := one.groups.get("bridge"):
            self._bridges.setdefault(device, {}).update(bridge)
        tagged = _TAGGED.fullmatch(device)
        if stanza.vlan_raw_device or stanza.vlan_id or tagged:
            number = re.search(r"[0-9]+\Z", device)
            tag = stanza.vlan_id or (int(number[0]) if number else None)
            link.parent = stanza.vlan_raw_device or (tagged[1] if tagged else None)
            link.parent_key = "vlan-raw-device"
            link.nic = replace(link.nic, kind=Kind.VLAN, vlan=tag if tag and 0 < tag < 4095 else None)

    def _with_commands(self, nic: Nic, stanza: Stanza, path: str) -> Nic:
        """Return the NIC with the routes that commands add; report the others."""
        device = nic.name or (nic.options.set_name if nic.options else None) or ""
        for key in COMMANDS:
            for place, command in enumerate(getattr(stanza, key) or ()):
                if command is None:
                    continue
                at = f"{path}.{key.replace('_', '-')}[{place}]"
                try:
                    if key not in ("up", "post_up"):
                        raise ValueError("commands are not run; deliver a script as user data")
                    nic = replace(nic, routes=(*nic.routes, route_commands.added(command, device)))
                except ValueError as error:
                    what, _, hint = str(error).partition("; ")
                    if "down" in key and route_commands.is_deletion(command, device):
                        what = "no effect: a route goes with its NIC"
                        self.draft.add_problem(at, what, severity=HARMLESS)
                    else:
                        self.draft.add_problem(at, f"{what}: left out", hint, severity=UNSUPPORTED)
        return nic

    def finish(self) -> None:
        """Put the links together, and add the NICs and the machine's resolvers to the draft."""
        problems = self.draft.problems
        for master in sorted(self._ports.keys() - self.links.keys()):
            for port in self._ports[master]:
                path = f"{self.document}: {self.links[port].path}.bond-master"
                what = f"no stanza iface {shown(master)}: not made a port of it"
                self.draft.add_problem(path, what, "write one for the bond")
        for device, link in list(self.links.items()):
            where = f"{self.document}: {link.path}"
            if device in self._bridges:
                bridge = ifupdown_options.bridge(self._bridges[device], where, problems)
                mac = link.nic.mac or bridge.hw
                options = ifupdown_options.to_bridge(bridge)
                link.nic = replace(link.nic, kind=Kind.BRIDGE, bridge=options, mac=mac, vlan=None)
                link.ports = tuple(port for port in bridge.ports or () if port not in (None, "none"))
                link.ports_key, link.parent = "bridge_ports", None
                ifupdown_options.set_by_port(link, bridge)
            elif device in self._bonds or device in self._ports:
                bond = ifupdown_options.bond(self._bonds.get(device, {}), where, problems)
                if bond is None:
                    del self.links[device]
                    continue
                link.nic = replace(link.nic, kind=Kind.BOND, bond=ifupdown_options.to_bond(bond))
                link.ports = tuple(dict.fromkeys(self._ports.get(device, ())))
                link.ports_key, link.keys = "bond-slaves", {"primary": "bond-primary"}
                # Several may be named, by preference.
                link.primary = words(bond.primary)[0] if bond.primary else None
        below = [name for link in self.links.values() for name in (*link.ports, link.parent) if name]
        for device, link in self.links.items():
            link.nic = ip_subnets.with_control(_renamed(link.nic), self._controls[device])
            if device in below:
                link.nic = ip_subnets.as_port(link.nic)
        self._add_plain(below)
        lo = self.links.pop("lo", None)
        links = list(self.links.values())
        if lo is not None:
            self.draft.nameservers.extend(lo.nic.nameservers)
            self.draft.search.extend(lo.nic.search)
            lo.nic = ip_subnets.bare_loopback(lo.nic)
            links += [lo] if lo.nic.addresses or lo.nic.routes else []
        more: list[Any] = []
        self.draft.nics = assemble(links, more)
        self.draft.add_problems(self.document, more)

    def _add_plain(self, names: list[str]) -> None:
        """Add a NIC for each port or parent without a stanza: none is needed."""
        for name in names:
            if name not in self.links and (nic := ip_subnets.plain_nic(name)):
                self.links[name] = Link(path=f"iface {name}", nic=nic, refs=(name,))


def _subnet(kind: str, address: str, stanza: Stanza, *, is_first: bool) -> Subnet:
    if not is_first:
        return Subnet(type=kind, address=address, netmask=stanza.netmask)
    servers = [*(stanza.dns_nameservers or ()), *(stanza.dns_nameserver or ())]
    return Subnet(
        type=kind,
        address=address,
        netmask=stanza.netmask,
        gateway=stanza.gateway,
        metric=stanza.metric,
        mtu=stanza.mtu,
        dns_nameservers=servers,
        dns_search=[*(stanza.dns_domain or ()), *(stanza.dns_search or ())],
        routes=list[SubnetRoute | None](),
    )


def _renamed(nic: Nic) -> Nic:
    """Return the NIC; a physical one that is found by its MAC address gets the name of its stanza."""
    if nic.kind is not Kind.PHYSICAL or nic.mac is None or nic.loopback:
        return nic
    options = replace(nic.options or NicOptions(), set_name=nic.name)
    return replace(nic, name=None, options=options)


def _with_options(nic: Nic, stanza: Stanza) -> Nic:
    """Return the NIC with the options of IPv6, of its last address and of its DHCP."""
    options = nic.options or NicOptions()
    if stanza.privext is not None:
        options = replace(options, ipv6_privacy=stanza.privext)
    if stanza.hostname:
        options = replace(options, dhcp4=replace(options.dhcp4 or Dhcp(), hostname=stanza.hostname))
    if stanza.preferred_lifetime and stanza.address and nic.addresses:
        last = nic.addresses[-1]
        kept = [one for one in options.addresses if one.address != last]
        label = next((one.label for one in options.addresses if one.address == last), None)
        more = AddressOptions(last, label, stanza.preferred_lifetime)
        options = replace(options, addresses=(*kept, more))
    nic = replace(nic, options=None if options == NicOptions() else options)
    if stanza.accept_ra:
        nic = replace(nic, accept_ra=stanza.accept_ra != "0")
    return nic if stanza.autoconf is None else replace(nic, ra_address=stanza.autoconf)
