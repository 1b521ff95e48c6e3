"""Read keyfiles (nm-settings-keyfile(5)) back. See ``readback``."""

from __future__ import annotations

import configparser
from typing import Any

from agent.network.interfaces import Link

Said = dict[str, Any]

_BOND_NUMBERS = (
    *("miimon", "min_links", "arp_interval", "updelay", "downdelay", "num_grat_arp", "packets_per_slave"),
    *("resend_igmp", "lp_interval"),
)
_BRIDGE = ("ageing-time", "priority", "forward-delay", "hello-time", "max-age")
_SCOPES = {"0": "global", "200": "site", "253": "link", "254": "host"}
_ROUTE_NUMBERS = ("table", "mtu", "initcwnd", "initrwnd")
_TRUE = {"true": True, "false": False}


def read(links: tuple[Link, ...], files: dict[str, dict[str, str]]) -> dict[str, Said]:
    """Return the description of each NIC by its key."""
    said: dict[str, Said] = {}
    profiles: dict[str, configparser.ConfigParser] = {}
    for link in links:
        ((_, text),) = files[link.key].items()
        profile = configparser.ConfigParser(delimiters="=", interpolation=None, strict=True)
        profile.read_string(text)
        profiles[link.key] = profile
        said[link.key] = _profile(link, profile)
    _ports(links, profiles, said)
    return said


def _profile(link: Link, profile: configparser.ConfigParser) -> Said:
    said: Said = {"ra": set(), "link_local": {6}, "ports": set(), "routes": set(), "rules": set()}
    said |= {"addresses": set(), "nameservers": []}
    connection, kind = profile["connection"], profile["connection"]["type"]
    group = "loopback" if kind == "loopback" else "ethernet"
    hardware = dict(profile[group]) if group in profile else {}
    assert (kind == "loopback") == link.nic.loopback
    if kind in ("bond", "bridge", "vlan"):
        said["kind"] = kind
        assert connection["interface-name"] == link.name
    elif "mac-address" in hardware:
        assert hardware["mac-address"].lower() == link.interface.mac
    else:
        assert connection["interface-name"] == link.name
    said["mtu"] = int(hardware["mtu"]) if "mtu" in hardware else None
    said["mac"] = hardware["cloned-mac-address"].lower() if "cloned-mac-address" in hardware else None
    if connection.get("autoconnect") == "false":
        said["activation_mode"] = "manual"
    if kind == "vlan":
        said |= {"vlan": int(profile["vlan"]["id"]), "parent": profile["vlan"]["parent"]}
    if kind == "bond":
        said |= {f"bond.{key}": _bond_value(key, value) for key, value in profile["bond"].items()}
    if kind == "bridge":
        bridge = dict(profile["bridge"])
        # Without this key a bridge has STP.
        said["bridge.stp"] = _TRUE[bridge.pop("stp", "true")]
        assert set(bridge) <= set(_BRIDGE), bridge
        said |= {f"bridge.{key.replace('-', '_')}": int(value) for key, value in bridge.items()}
    if "ipv4" in profile:
        _ipv4(dict(profile["ipv4"]), said)
        _ipv6(dict(profile["ipv6"]), said)
    if kind == "loopback":
        # With this method too, lo has static addresses only.
        said["dhcp4"] = False
    if "hostname" in profile:
        used = profile["hostname"]["from-dhcp"] == "1"
        said |= {f"{version}.use_hostname": used for version in ("dhcp4", "dhcp6")}
    return said


def _bond_value(key: str, value: str) -> object:
    if key == "arp_ip_target":
        return tuple(value.split(","))
    if key == "all_slaves_active":
        return value == "1"
    return int(value) if key in _BOND_NUMBERS else value


def _ipv4(keys: dict[str, str], said: Said) -> None:
    method = keys.pop("method")
    said["dhcp4"] = method == "auto"
    local = keys.pop("link-local", "0") == "3" or method == "link-local"
    said["link_local"] |= {4} if local else set()
    if client := keys.pop("dhcp-client-id", None):
        said["dhcp4.identifier"] = client
    for key, name in (("ignore-auto-dns", "use_dns"), ("ignore-auto-routes", "use_routes")):
        if key in keys:
            said[f"dhcp4.{name}"] = not _TRUE[keys.pop(key)]
    _both(keys, "4", said)


def _ipv6(keys: dict[str, str], said: Said) -> None:
    method = keys.pop("method")
    if method == "disabled":
        said["link_local"] -= {6}
        assert not keys
        return
    said["dhcp6"] = method == "dhcp"
    no_dns = _TRUE[keys.pop("ignore-auto-dns", "false")]
    if method == "auto":
        unused = ({"gateway"} if _TRUE[keys.pop("ignore-auto-routes", "false")] else set()) | (
            {"dns"} if no_dns else set()
        )
        said["ra"] = {"address", "gateway", "dns"} - unused
    said["dhcp6.use_dns"] = False if no_dns else None
    if duid := keys.pop("dhcp-duid", None):
        said["dhcp6.identifier"] = {"ll": "mac"}[duid]
    for key, name in (("mtu", "ipv6_mtu"), ("ip6-privacy", "ipv6_privacy")):
        if key in keys:
            value = int(keys.pop(key))
            said[name] = value if key == "mtu" else {0: False, 2: True}[value]
    generation = keys.pop("addr-gen-mode", None)
    if token := keys.pop("token", None):
        # nm-settings(5): a token requires this mode.
        assert generation == "eui64"
        said["ipv6_address_token"] = token
    else:
        said["ipv6_address_generation"] = generation
    _both(keys, "6", said)


def _both(keys: dict[str, str], version: str, said: Said) -> None:
    routes: dict[str, Said] = {}
    for key, value in keys.items():
        if key.startswith("address"):
            said["addresses"].add((value, None, None))
        elif key.startswith("route") and key.endswith("_options"):
            routes[key.removesuffix("_options")] |= _route_options(value)
        elif key == "route-metric":
            said[f"metric{version}"] = int(value)
        elif key.startswith("routing-rule"):
            said["rules"].add(_rule(value))
        elif key.startswith("route"):
            destination, gateway, metric, *_ = [*value.split(","), "", ""]
            none = gateway in ("", "0.0.0.0", "::")
            routes[key] = {"destination": destination, "gateway": None if none else gateway}
            routes[key]["metric"] = int(metric) if metric else None
        elif key == "dns":
            said["nameservers"] += [one for one in value.split(";") if one]
        elif key == "dns-search":
            said["search"] = tuple(one for one in value.split(";") if one)
        elif key == "dhcp-send-hostname":
            said[f"dhcp{version}.send_hostname"] = _TRUE[value]
        else:
            assert key == "dhcp-hostname", key
            said[f"dhcp{version}.hostname"] = value
    from .readback import route_said

    said["routes"] |= {route_said(route) for route in routes.values()}


def _route_options(text: str) -> Said:
    of: Said = {}
    for one in text.split(","):
        key, _, value = one.partition("=")
        if key in _ROUTE_NUMBERS:
            of[key] = int(value)
        elif key == "onlink":
            of["on_link"] = _TRUE[value]
        elif key == "scope":
            of["scope"] = _SCOPES[value]
        else:
            of[{"src": "source", "type": "type"}[key]] = value
    return of


def _rule(text: str) -> tuple[tuple[str, object], ...]:
    from .readback import rule_said

    words, of = text.split(), dict[str, Any]()
    for key, value in zip(words[::2], words[1::2], strict=True):
        if key in ("from", "to"):
            of[{"from": "source", "to": "destination"}[key]] = value
        else:
            name = {"priority": "priority", "table": "table", "tos": "tos", "fwmark": "mark"}[key]
            of[name] = int(value, 0)
    # The format requires a priority; this one is the kernel's choice for a first rule without one.
    of["priority"] = None if of["priority"] == 32765 else of["priority"]
    of["source"] = None if of.get("source") in ("0.0.0.0/0", "::/0") else of.get("source")
    return rule_said(of)


def _ports(
    links: tuple[Link, ...], profiles: dict[str, configparser.ConfigParser], said: dict[str, Said]
) -> None:
    by_name = {link.name: link.key for link in links}
    for link in links:
        connection = profiles[link.key]["connection"]
        if "master" not in connection:
            continue
        master = said[by_name[connection["master"]]]
        assert connection["slave-type"] == master["kind"]
        master["ports"].add(link.name)
        if "bridge-port" in profiles[link.key]:
            for key, value in profiles[link.key]["bridge-port"].items():
                name = {"priority": "bridge.port_priority", "path-cost": "bridge.path_cost"}[key]
                master[name] = master.get(name, frozenset()) | {(link.name, int(value))}
