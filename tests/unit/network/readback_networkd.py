"""Read systemd.network(5) and systemd.netdev(5) files back. See ``readback``."""

from __future__ import annotations

import re
from typing import Any

from agent.network.interfaces import Link

Said = dict[str, Any]
Sections = list[tuple[str, list[tuple[str, str]]]]

_BOND = {
    "Mode": "mode",
    "MIIMonitorSec": "miimon",
    "TransmitHashPolicy": "xmit_hash_policy",
    "LACPTransmitRate": "lacp_rate",
    "MinLinks": "min_links",
    "AdSelect": "ad_select",
    "AllSlavesActive": "all_slaves_active",
    "ARPIntervalSec": "arp_interval",
    "ARPIPTargets": "arp_ip_target",
    "ARPValidate": "arp_validate",
    "ARPAllTargets": "arp_all_targets",
    "UpDelaySec": "updelay",
    "DownDelaySec": "downdelay",
    "FailOverMACPolicy": "fail_over_mac",
    "GratuitousARP": "num_grat_arp",
    "PacketsPerSlave": "packets_per_slave",
    "PrimaryReselectPolicy": "primary_reselect",
    "ResendIGMP": "resend_igmp",
    "LearnPacketIntervalSec": "lp_interval",
}
_MILLISECONDS = ("miimon", "arp_interval", "updelay", "downdelay")
_NUMBERS = ("min_links", "num_grat_arp", "packets_per_slave", "resend_igmp", "lp_interval")
_BRIDGE = {
    "STP": "stp",
    "AgeingTimeSec": "ageing_time",
    "Priority": "priority",
    "ForwardDelaySec": "forward_delay",
    "HelloTimeSec": "hello_time",
    "MaxAgeSec": "max_age",
}
_ROUTE = {
    "Destination": "destination",
    "Gateway": "gateway",
    "GatewayOnLink": "on_link",
    "Metric": "metric",
    "Table": "table",
    "Type": "type",
    "PreferredSource": "source",
    "Scope": "scope",
    "MTUBytes": "mtu",
    "InitialCongestionWindow": "initcwnd",
    "InitialAdvertisedReceiveWindow": "initrwnd",
}
_RULE = {
    "From": "source",
    "To": "destination",
    "Table": "table",
    "Priority": "priority",
    "FirewallMark": "mark",
    "TypeOfService": "tos",
}
_ROUTE_NUMBERS = ("metric", "table", "mtu", "initcwnd", "initrwnd", "priority", "mark", "tos")
_DHCP = {
    "UseDNS": "use_dns",
    "UseDomains": "use_domains",
    "UseHostname": "use_hostname",
    "UseMTU": "use_mtu",
    "UseNTP": "use_ntp",
    "UseRoutes": "use_routes",
    "SendHostname": "send_hostname",
    "Hostname": "hostname",
    "ClientIdentifier": "identifier",
    "DUIDType": "identifier",
}
_YES = {"yes": True, "no": False, "true": True, "false": False}


def read(links: tuple[Link, ...], files: dict[str, dict[str, str]]) -> dict[str, Said]:
    """Return the description of each NIC by its key."""
    said: dict[str, Said] = {}
    for link in links:
        said[link.key] = one = empty()
        for path, text in files[link.key].items():
            if path.endswith(".netdev"):
                _netdev(sections(text), one)
            elif path.endswith(".network"):
                _network(link, sections(text), one)
    _relations(links, said)
    return said


def empty() -> Said:
    return {
        **{"addresses": set(), "routes": set(), "rules": set(), "ports": set(), "nameservers": []},
        **{"ra": set(), "link_local": {6}},
    }


def sections(text: str) -> Sections:
    found: Sections = []
    for line in text.splitlines():
        if line.startswith("["):
            found.append((line.strip("[]"), []))
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found[-1][1].append((key, value))
    return found


def _time(value: str, unit: str) -> int:
    """Return a time of systemd.time(7) in that unit, "ms" or "s"."""
    number, written = re.fullmatch(r"(\d+)(ms|s|)", value).groups()  # type: ignore[union-attr]
    milliseconds = int(number) * (1 if written == "ms" else 1000)
    return milliseconds if unit == "ms" else milliseconds // 1000


def _netdev(sections: Sections, said: Said) -> None:
    for section, lines in sections:
        for key, value in lines:
            match section, key:
                case "NetDev", "Kind":
                    said["kind"] = value
                    said |= {"bridge.stp": False} if value == "bridge" else {}
                case "NetDev", "MACAddress":
                    said["mac"] = value
                case "VLAN", "Id":
                    said["vlan"] = int(value)
                case "Bond", _:
                    said[f"bond.{_BOND[key]}"] = _bond_value(_BOND[key], value)
                case "Bridge", _:
                    name = _BRIDGE[key]
                    said[f"bridge.{name}"] = (
                        _YES[value]
                        if name == "stp"
                        else int(value)
                        if name == "priority"
                        else _time(value, "s")
                    )
                case _:
                    assert (section, key) == ("NetDev", "Name"), (section, key)


def _bond_value(name: str, value: str) -> object:
    if name in _MILLISECONDS:
        return _time(value, "ms")
    if name == "lp_interval":
        return _time(value, "s")
    if name == "arp_ip_target":
        return tuple(value.split())
    if name == "all_slaves_active":
        return _YES[value]
    return int(value) if name in _NUMBERS else value


def _network(link: Link, sections: Sections, said: Said) -> None:
    from .readback import route_said, rule_said

    accepts, advertised = True, {"address", "gateway", "dns"}
    for section, lines in sections:
        keys = dict(lines)
        match section:
            case "Match":
                name, mac = keys.get("Name"), keys.get("MACAddress", keys.get("PermanentMACAddress"))
                assert name == link.name or mac == link.interface.mac
            case "Link":
                said["mtu"] = int(keys["MTUBytes"]) if "MTUBytes" in keys else said.get("mtu")
                said["mac"] = keys.get("MACAddress", said.get("mac"))
                policy = keys.get("ActivationPolicy")
                said["activation_mode"] = {"always-down": "off", "down": "off"}.get(policy or "", policy)
            case "Network":
                accepts = network_keys(lines, said)
            case "Route":
                said["routes"].add(
                    route_said({_ROUTE[key]: _route_value(_ROUTE[key], of) for key, of in lines})
                )
            case "RoutingPolicyRule":
                lines = [(key, of) for key, of in lines if key != "Family"]
                said["rules"].add(rule_said({_RULE[key]: _route_value(_RULE[key], of) for key, of in lines}))
            case "Address":
                label, lifetime = keys.get("Label"), keys.get("PreferredLifetime")
                said["addresses"].add((keys["Address"], label, lifetime))
            case "DHCPv4" | "DHCPv6" | "DHCP":
                for version in {"DHCPv4": "4", "DHCPv6": "6", "DHCP": "46"}[section]:
                    dhcp(version, lines, said)
            case "IPv6AcceptRA":
                off = {"UseAutonomousPrefix": "address", "UseGateway": "gateway", "UseDNS": "dns"}
                advertised -= {name for key, name in off.items() if keys.get(key) == "no"}
                said["metric6"] = int(keys["RouteMetric"]) if "RouteMetric" in keys else None
                token(keys, said)
            case "Bridge":
                said |= {f"port.{key}": int(of) for key, of in lines}
            case _:
                raise AssertionError(section)
    said["ra"] = advertised if accepts else set()


def token(keys: dict[str, str], said: Said) -> None:
    token = keys.get("Token")
    if token and token.startswith("static:"):
        said["ipv6_address_token"] = token.removeprefix("static:")
    elif token:
        said["ipv6_address_generation"] = {"eui64": "eui64", "prefixstable": "stable-privacy"}[token]


def network_keys(lines: list[tuple[str, str]], said: Said) -> bool:
    """Read a [Network] section; return whether router advertisements are accepted."""
    accepts = True
    said["vlans"] = {of for key, of in lines if key == "VLAN"}
    for key, value in lines:
        match key:
            case "DHCP":
                said["dhcp4"] = value in ("yes", "ipv4")
                said["dhcp6"] = value in ("yes", "ipv6")
            case "IPv6AcceptRA":
                accepts = _YES[value]
            case "Address":
                said["addresses"].add((value, None, None))
            case "DNS":
                said["nameservers"].append(value)
            case "Domains":
                said["search"] = tuple(value.split())
            case "LinkLocalAddressing":
                said["link_local"] = {"no": set(), "yes": {4, 6}, "ipv4": {4}, "ipv6": {6}}[value]
            case "IPv6MTUBytes":
                said["ipv6_mtu"] = int(value)
            case "IPv6PrivacyExtensions":
                said["ipv6_privacy"] = _YES[value]
            case "IPv6LinkLocalAddressGenerationMode":
                said["ipv6_address_generation"] = value
            case "KeepConfiguration":
                said["critical"] = value != "no"
            case "ConfigureWithoutCarrier" | "IgnoreCarrierLoss":
                # The second one has the value of the first by default.
                said["ignore_carrier"] = value != "no"
            case "Bond" | "Bridge":
                said["master"] = value
            case "PrimarySlave":
                said["primary"] = _YES[value]
            case _:
                assert key == "VLAN", key
    return accepts


def dhcp(version: str, lines: list[tuple[str, str]], said: Said) -> None:
    for key, value in lines:
        if key == "RouteMetric":
            said["metric4"] = int(value) if version == "4" else said.get("metric4")
        else:
            name = _DHCP.get(key)
            assert name, key
            of: object = value if name in ("use_domains", "hostname") else _YES.get(value, value)
            said[f"dhcp{version}.{name}"] = {"duid-only": "duid", "link-layer": "mac"}.get(str(of), of)


def _route_value(name: str, value: str) -> object:
    if name == "on_link":
        return _YES[value]
    return int(value) if name in _ROUTE_NUMBERS else value


def _relations(links: tuple[Link, ...], said: dict[str, Said]) -> None:
    """Move what networkd has in the files of ports and parents to those of bonds, bridges and VLANs."""
    by_name = {link.name: said[link.key] for link in links}
    for link in links:
        one = said[link.key]
        for vlan in one.pop("vlans", ()):
            by_name[vlan]["parent"] = link.name
        primary, master = one.pop("primary", None), one.pop("master", None)
        priority, cost = one.pop("port.Priority", None), one.pop("port.Cost", None)
        if master:
            of = by_name[master]
            of["ports"].add(link.name)
            of |= {"bond.primary": link.name} if primary else {}
            for key, value in (("bridge.port_priority", priority), ("bridge.path_cost", cost)):
                of |= {key: of.get(key, frozenset()) | {(link.name, value)}} if value is not None else {}
