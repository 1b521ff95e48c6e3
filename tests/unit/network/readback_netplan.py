"""Read netplan-yaml(5) files, and the drop-ins for networkd beside them, back. See ``readback``."""

from __future__ import annotations

from typing import Any

import yaml

from agent.network.interfaces import Link

from .readback_networkd import Said, Sections, dhcp, empty, network_keys, sections, token

_BOND = {
    "mode": "mode",
    "mii-monitor-interval": "miimon",
    "transmit-hash-policy": "xmit_hash_policy",
    "lacp-rate": "lacp_rate",
    "min-links": "min_links",
    "ad-select": "ad_select",
    "all-members-active": "all_slaves_active",
    "all-slaves-active": "all_slaves_active",
    "arp-interval": "arp_interval",
    "arp-ip-targets": "arp_ip_target",
    "arp-validate": "arp_validate",
    "arp-all-targets": "arp_all_targets",
    "up-delay": "updelay",
    "down-delay": "downdelay",
    "fail-over-mac-policy": "fail_over_mac",
    "gratuitous-arp": "num_grat_arp",
    "gratuitious-arp": "num_grat_arp",
    "packets-per-member": "packets_per_slave",
    "packets-per-slave": "packets_per_slave",
    "primary-reselect-policy": "primary_reselect",
    "resend-igmp": "resend_igmp",
    "learn-packet-interval": "lp_interval",
    "primary": "primary",
}
_BRIDGE = {
    "stp": "stp",
    "ageing-time": "ageing_time",
    "aging-time": "ageing_time",
    "priority": "priority",
    "forward-delay": "forward_delay",
    "hello-time": "hello_time",
    "max-age": "max_age",
}
_ROUTE = {
    "to": "destination",
    "via": "gateway",
    "on-link": "on_link",
    "metric": "metric",
    "table": "table",
    "type": "type",
    "from": "source",
    "scope": "scope",
    "mtu": "mtu",
    "congestion-window": "initcwnd",
    "advertised-receive-window": "initrwnd",
}
_RULE = {
    "from": "source",
    "to": "destination",
    "table": "table",
    "priority": "priority",
    "mark": "mark",
    "type-of-service": "tos",
}
_DHCP = {
    **{
        key.replace("_", "-"): key
        for key in ("use_dns", "use_domains", "use_hostname", "use_mtu", "use_ntp")
    },
    **{"use-routes": "use_routes", "send-hostname": "send_hostname", "hostname": "hostname"},
}


def read(links: tuple[Link, ...], files: dict[str, dict[str, str]]) -> dict[str, Said]:
    """Return the description of each NIC by its key: netplan's file, and what a drop-in adds."""
    ids: dict[str, str] = {}
    trees: dict[str, tuple[str, dict[str, Any]]] = {}
    for link in links:
        (text,) = (text for path, text in files[link.key].items() if path.startswith("/etc/netplan/"))
        tree = yaml.safe_load(text)["network"]
        assert tree.pop("version") == 2
        ((section, devices),) = tree.items()
        ((identity, device),) = devices.items()
        trees[link.key], ids[identity] = (section, device), link.name
    said: dict[str, Said] = {}
    for link in links:
        said[link.key] = one = empty()
        section, device = trees[link.key]
        _device(link, section, dict(device), ids, one)
        for path, text in files[link.key].items():
            if "/systemd/network/" in path:
                _drop_in(sections(text), one)
    return said


def _drop_in(parts: Sections, said: Said) -> None:
    off = {"UseAutonomousPrefix": "address", "UseGateway": "gateway", "UseDNS": "dns"}
    for section, lines in parts:
        keys = dict(lines)
        if section == "IPv6AcceptRA":
            said["ra"] -= {name for key, name in off.items() if keys.get(key) == "no"}
            said["metric6"] = int(keys["RouteMetric"]) if "RouteMetric" in keys else said.get("metric6")
            token(keys, said)
        elif section in ("DHCPv4", "DHCPv6"):
            dhcp(section[-1], lines, said)
        elif section == "Network":
            network_keys(lines, said)
        else:
            assert section in ("Link", "Match"), section


def _device(link: Link, section: str, device: dict[str, Any], ids: dict[str, str], said: Said) -> None:
    from .readback import route_said, rule_said

    kind = {"bonds": "bond", "bridges": "bridge", "vlans": "vlan"}.get(section)
    said |= {"kind": kind} if kind else {}
    if match := device.pop("match", None):
        assert match.get("name") == link.name or match.get("macaddress") == link.interface.mac
    for key, value in device.items():
        match key:
            case "macaddress":
                said["mac"] = value
            case "id":
                said["vlan"] = value
            case "link":
                said["parent"] = ids[value]
            case "interfaces":
                said["ports"] = {ids[one] for one in value}
            case "parameters" if kind == "bridge":
                _bridge_parameters(value, ids, said)
            case "parameters":
                said |= {
                    f"bond.{_BOND[k]}": tuple(v) if isinstance(v, list) else v for k, v in value.items()
                }
                said |= {"bond.primary": ids[value["primary"]]} if "primary" in value else {}
            case "accept-ra":
                said["ra"] = {"address", "gateway", "dns"} if value else set()
            case "addresses":
                said["addresses"] = {_address(one) for one in value}
            case "nameservers":
                said |= {"nameservers": value.get("addresses", []), "search": tuple(value.get("search", ()))}
            case "routes":
                said["routes"] = {route_said({_ROUTE[k]: v for k, v in one.items()}) for one in value}
            case "routing-policy":
                said["rules"] = {rule_said({_RULE[k]: v for k, v in one.items()}) for one in value}
            case "dhcp4-overrides" | "dhcp6-overrides":
                version = key[4]
                for k, v in value.items():
                    if k == "route-metric":
                        said[f"metric{version}"] = v
                    else:
                        said[f"dhcp{version}.{_DHCP[k]}"] = str(v).lower() if k == "use-domains" else v
            case "dhcp-identifier":
                said["dhcp4.identifier"] = value
            case "link-local":
                said["link_local"] = {int(one[-1]) for one in value}
            case "activation-mode":
                said["activation_mode"] = value
            case "mtu" | "dhcp4" | "dhcp6" | "critical" | "ignore-carrier" | "ipv6-mtu" | "ipv6-privacy":
                said[key.replace("-", "_")] = value
            case "ipv6-address-generation" | "ipv6-address-token":
                said[key.replace("-", "_")] = value
            case _:
                assert key in ("optional", "set-name", "wakeonlan"), key


def _address(one: Any) -> tuple[str, str | None, str | None]:
    if isinstance(one, str):
        return one, None, None
    ((address, options),) = one.items()
    options = options or {}
    lifetime = options.get("lifetime")
    return address, options.get("label"), None if lifetime is None else str(lifetime)


def _bridge_parameters(value: dict[str, Any], ids: dict[str, str], said: Said) -> None:
    # Without this key a bridge has STP.
    said["bridge.stp"] = value.pop("stp", True)
    for key in ("port-priority", "path-cost"):
        by_port = frozenset((ids[port], of) for port, of in value.pop(key, {}).items())
        said[f"bridge.{key.replace('-', '_')}"] = by_port
    said |= {f"bridge.{_BRIDGE[key]}": of for key, of in value.items()}
