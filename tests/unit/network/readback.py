"""Read the files of each renderer back, and compare them with the model: a value that is lost on the way is
a disagreement, unless the renderer names it (``unsupported``).

The readers have their own tables of the managers' keys, after the managers' documentation: nothing here is
taken from a renderer but the text that it writes. A NIC is described by a flat dictionary: keys of the
model, kernel names for bonds and bridges, and None for what is not written.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import Any

from agent.config.nics import Kind, Nic, Route, RouteOptions, Rule
from agent.lib.records import asdict, replace
from agent.network import limits, load
from agent.network.interfaces import LOOPBACK, Interface, Link
from agent.network.plan import plan

from . import readback_ifupdown, readback_netplan, readback_networkd, readback_networkmanager

Said = dict[str, Any]

#: Numbers of routing tables (rtnetlink(7)).
_LOCAL, _MAIN = 255, 254
#: What each manager does if a DHCP option is not written; an option that is not here has no such default.
_REQUESTED = {"use_dns": True, "use_hostname": True, "use_routes": True, "send_hostname": True}
DEFAULTS: dict[str, dict[str, Any]] = {
    "networkd": _REQUESTED
    | {"use_ntp": True, "use_mtu": False, "use_domains": "false", "identifier": "duid"},
    "netplan": _REQUESTED | {"use_ntp": True, "use_mtu": True, "use_domains": "false", "identifier": "duid"},
    "ifupdown": _REQUESTED | {"use_ntp": True, "use_mtu": True, "use_domains": "true", "identifier": "duid"},
    "networkmanager": _REQUESTED | {"use_ntp": False, "use_mtu": True, "use_domains": "true"},
}
_WORDS = {"yes": "true", "no": "false"}
#: DHCPv6 has neither.
_NOT_IN_DHCPV6 = ("use_routes", "use_mtu")
#: Done by a systemd.link(5) file for each manager.
_OF_LINK_FILES = ("set_name", "wake_on_lan")
#: What a manager does without being told: its addresses stay when NetworkManager stops; ifupdown does not
#: look at the carrier.
_ALWAYS = {"networkmanager": ("critical",), "ifupdown": ("ignore_carrier",)}
_READERS: dict[str, Callable[[tuple[Link, ...], dict[str, dict[str, str]]], dict[str, Said]]] = {
    "networkd": readback_networkd.read,
    "netplan": readback_netplan.read,
    "ifupdown": readback_ifupdown.read,
    "networkmanager": readback_networkmanager.read,
}


def disagreements(nics: Iterable[Nic], manager: str = "") -> list[str]:
    """Return where a manager's files differ from the model, for one manager or for all four. The machine has
    an interface for each physical NIC, with the NIC's MAC and name where it has them.
    """
    nics = list(nics)
    links = links_of(nics)
    found = [f"{nic.number}: not planned" for nic in nics if nic.number not in {x.nic.number for x in links}]
    return found + of_links(links, manager)


def links_of(nics: Iterable[Nic]) -> tuple[Link, ...]:
    """Return the links as planned on such a machine."""
    nics = list(nics)
    there = {nic.number: _interface(nic) for nic in nics if nic.kind is Kind.PHYSICAL}
    return plan(nics, there, slaac=False)


def _interface(nic: Nic) -> Interface:
    if nic.loopback:
        return LOOPBACK
    given = nic.options.set_name if nic.options else None
    name = given or nic.name or f"eth{nic.number}"
    return Interface(name, nic.mac or f"52:54:00:99:{nic.number // 256:02x}:{nic.number % 256:02x}")


def of_links(
    links: tuple[Link, ...], manager: str = "", rendered: tuple[Link, ...] | None = None
) -> list[str]:
    """Return where a manager's files differ from planned links, as ``disagreements``; ``rendered`` are the
    links that the files are made of, if they are others.
    """
    found = list[str]()
    for name in [manager] if manager else _READERS:
        renderer = load(name)
        files = {link.key: {f.path: f.text for f in renderer.render(link)} for link in rendered or links}
        named = {link.key: limits.unsupported(renderer, link) for link in links}
        found += compared(name, links, _READERS[name](links, files), named)
    return found


def compared(
    manager: str, links: tuple[Link, ...], read: dict[str, Said], named: dict[str, dict[str, str]]
) -> list[str]:
    """Return where descriptions differ from planned links without what is ``named`` as left out, by key."""
    found = list[str]()
    for link in links:
        wanted = _canonical(_expected(link, named[link.key]), manager, link)
        there = _canonical(read[link.key], manager, link)
        found += [
            f"{manager}: {link.name} {key}: written {there.get(key)!r}, in the model {wanted.get(key)!r}"
            for key in sorted(wanted.keys() | there.keys())
            if wanted.get(key) != there.get(key)
        ]
    return found


def _expected(link: Link, unsupported: Iterable[str]) -> Said:
    # Planning changes metrics only.
    assert [_way(route) for route in link.routes] == [_way(route) for route in link.nic.routes]
    nic = replace(link.nic, routes=link.routes)
    for path in unsupported:
        nic = limits.without(nic, path)
    routes = [*nic.routes, *(link.table.routes if link.table else ())]
    rules = [*nic.rules, *(link.table.rules if link.table else ())]
    options = asdict(nic.options) if nic.options else {}
    said: Said = {
        "mtu": nic.mtu,
        "mac": options.pop("set_mac", None) or (link.is_virtual and nic.mac) or None,
    }
    if link.is_virtual:
        said |= {"kind": str(nic.kind), "vlan": nic.vlan, "parent": link.parent and link.parent.name}
    said["ports"] = frozenset(port.name for port in link.ports)
    said |= _bond(link, nic) | _bridge(link, nic)
    said["activation_mode"] = options.pop("activation_mode", None)
    if link.master:
        return said
    own = {one.address: one for one in nic.options.addresses} if nic.options else {}
    said["addresses"] = frozenset(
        (a, own[a].label if a in own else None, own[a].lifetime if a in own else None) for a in nic.addresses
    )
    said |= {"routes": frozenset(map(_route, routes)), "rules": frozenset(map(_rule, rules))}
    said |= {"dhcp4": nic.dhcp4, "dhcp6": nic.dhcp6, "search": nic.search, "nameservers": nic.nameservers}
    flags = {"address": nic.ra_address, "dns": nic.ra_dns, "gateway": nic.ra_gateway}
    said["ra"] = frozenset(key for key, on in flags.items() if on and nic.accept_ra)
    said["link_local"] = frozenset({6} if options.get("link_local") is None else options["link_local"])
    for version, metric in (("dhcp4", link.metric4), ("dhcp6", link.metric6)):
        dhcp = options.pop(version, None) or {}
        said |= {f"{version}.{key}": of for key, of in dhcp.items() if key != "route_metric"}
        said[f"metric{version[-1]}"] = metric
    left = {k: v for k, v in options.items() if k not in ("addresses", "link_local", *_OF_LINK_FILES)}
    return (
        said
        | {key: of or None for key, of in left.items() if key != "ipv6_privacy"}
        | {"ipv6_privacy": options.get("ipv6_privacy")}
    )


def _way(route: Route) -> tuple[object, ...]:
    return route.destination, route.gateway, route.table, route.type, route.options


def _bond(link: Link, nic: Nic) -> Said:
    if nic.kind is not Kind.BOND:
        return {}
    given: Said = asdict(nic.bond) if nic.bond else {"mode": "active-backup"}
    options = given.pop("options", None) or {}
    primary = given.pop("primary", None)
    # The agent's default is 100 ms, unless ARP is used: the kernel has one kind of checks or the other.
    if given.get("miimon") is None:
        given["miimon"] = 0 if options.get("arp_interval") else 100
    given |= {key: of or None if key == "arp_ip_target" else of for key, of in options.items()}
    names = {port.nic.number: port.name for port in link.ports}
    return {f"bond.{key}": of for key, of in given.items()} | {"bond.primary": names.get(primary)}


def _bridge(link: Link, nic: Nic) -> Said:
    if nic.kind is not Kind.BRIDGE:
        return {}
    given = asdict(nic.bridge) if nic.bridge else {}
    names = {port.nic.number: port.name for port in link.ports}
    for key in ("port_priority", "path_cost"):
        given[key] = frozenset((names[n], of) for n, of in given.get(key, ()) if n in names)
    return {f"bridge.{key}": of for key, of in given.items()} | {"bridge.stp": bool(given.get("stp"))}


def _route(route: Route | None) -> Any:
    if route is None:
        return None
    options = route.options or RouteOptions()
    return route_said(asdict(route) | asdict(options))


def route_said(of: Said) -> tuple[tuple[str, object], ...]:
    """Return a route in a form that can be compared: its keys, with the kernel's default values."""
    kind, gateway = of.get("type") or "unicast", of.get("gateway")
    ipv6 = ":" in of["destination"]
    reach = "host" if kind == "local" else "link" if kind == "unicast" and not gateway else "global"
    said = {
        "destination": str(ipaddress.ip_network(of["destination"])),
        "gateway": gateway and str(ipaddress.ip_address(gateway)),
        "on_link": bool(gateway and of.get("on_link")),
        "metric": of.get("metric"),
        "table": of.get("table") or (_LOCAL if kind == "local" else _MAIN),
        "type": kind,
        "source": of.get("source"),
        # The kernel has no scopes for IPv6.
        "scope": None if ipv6 or kind not in ("unicast", "local") else of.get("scope") or reach,
        **{key: of.get(key) for key in ("mtu", "initcwnd", "initrwnd")},
    }
    return tuple(sorted(said.items()))


def _rule(rule: Rule | None) -> Any:
    return None if rule is None else rule_said(asdict(rule))


def rule_said(of: Said) -> tuple[tuple[str, object], ...]:
    """Return a rule in a form that can be compared."""
    networks = {key: of.get(key) and str(ipaddress.ip_network(of[key])) for key in ("source", "destination")}
    version = 6 if any(":" in one for one in networks.values() if one) else 4
    networks = {key: None if one in ("0.0.0.0/0", "::/0") else one for key, one in networks.items()}
    others = {key: of.get(key) for key in ("table", "priority", "mark", "tos")}
    return tuple(sorted((networks | others | {"version": version}).items()))


def _canonical(said: Said, manager: str, link: Link) -> Said:
    """Return a description with each value that means the same to this manager in one form."""
    said = dict(said)
    for key in ("routes", "rules"):
        said[key] = frozenset(one for one in said.get(key, ()) if one is not None)
    said["addresses"] = frozenset(
        (a, label, None if lifetime == "forever" else lifetime)
        for a, label, lifetime in said.get("addresses", ())
    )
    # A manager may keep servers of each IP version by themselves.
    servers = (server for server in said.get("nameservers", ()) if server)
    said["nameservers"] = tuple(sorted(servers, key=lambda one: ":" in one))
    said["ra"] = _advertised(frozenset(said.get("ra", ())), manager)
    if manager == "networkmanager":
        _one_switch(said, link)
    for version, wanted in (("dhcp4", link.nic.dhcp4), ("dhcp6", link.nic.dhcp6)):
        defaults = DEFAULTS[manager] if wanted else {}
        options = {**{f"{version}.{key}": None for key in defaults}, **said}
        for key, value in options.items():
            name = key.removeprefix(f"{version}.")
            if name != key:
                value = _WORDS.get(value, value) if isinstance(value, str) else value
                value = defaults.get(name) if value is None else value
                said[key] = value if wanted and not (version == "dhcp6" and name in _NOT_IN_DHCPV6) else None
    if said.get("dhcp4.send_hostname") is False:
        said["dhcp4.hostname"] = None
    nic = link.nic
    # netplan has one metric for both, none for router advertisements alone; the drop-in that separates them
    # is for physical NICs. A metric of the document is named (``test_metrics_of_virtual_nics``).
    by_netplan = manager == "netplan" and link.is_virtual
    apart = not by_netplan or not nic.dhcp6
    said["metric4"] = said.get("metric4") if nic.dhcp4 and apart else None
    advertised = nic.accept_ra and nic.ra_gateway and not by_netplan
    said["metric6"] = said.get("metric6") if advertised else None
    if manager == "networkmanager" and said["ra"]:
        # With advertisements, their flag M says whether DHCPv6 is used.
        said["dhcp6"] = None
    said["link_local"] = frozenset(said.get("link_local", {6}))
    if link.master or nic.loopback:
        said |= dict.fromkeys(("link_local", "ra"))
    if manager == "networkd" and nic.kind is Kind.BRIDGE and not link.ports:
        # It never has a carrier, and is configured without one.
        said["ignore_carrier"] = None
    for key in _ALWAYS.get(manager, ()):
        said[key] = None
    if manager in ("ifupdown", "networkmanager") and said.get("activation_mode"):
        said["activation_mode"] = "manual"
    if nic.kind is Kind.BOND:
        said["bond.miimon"] = said.get("bond.miimon") or 0
    if said.get("ipv6_privacy") is not None:
        said["ipv6_privacy"] = "on" if said["ipv6_privacy"] else "off"
    return {
        key: of
        for key, of in said.items()
        if of is not None and of is not False and of not in ((), frozenset())
    }


def _one_switch(said: Said, link: Link) -> None:
    """Make equal what NetworkManager has one switch for: the host name of both DHCP versions; resolvers
    and domains.
    """
    names = [said.get(f"{version}.use_hostname") for version in ("dhcp4", "dhcp6")]
    used = names[0] if names[0] is not None else names[1]
    said |= {f"{version}.use_hostname": used for version in ("dhcp4", "dhcp6")}
    for version in ("dhcp4", "dhcp6"):
        if said.get(f"{version}.use_dns") is False:
            said[f"{version}.use_domains"] = "false"
    given = link.nic.options.dhcp6 if link.nic.options else None
    if link.accepts_router_advertisements and (given is None or given.use_dns is not link.nic.ra_dns):
        # That of router advertisements.
        said |= {"dhcp6.use_dns": None, "dhcp6.use_domains": None}
    if link.nic.mtu:
        said["dhcp4.use_mtu"] = None
    if said.get("dhcp6.identifier") is None:
        # DHCPv6 has no other.
        said["dhcp6.identifier"] = "duid"


def _advertised(flags: frozenset[str], manager: str) -> frozenset[str]:
    """Return what is used of router advertisements, as far as the manager distinguishes it: the kernel reads
    no resolvers; NetworkManager uses all addresses of one or ignores it.
    """
    if manager == "ifupdown":
        return flags - {"dns"}
    if manager == "networkd":
        return flags
    if not flags & {"address", "gateway"}:
        return frozenset()
    return flags if manager == "netplan" else flags - {"address"} | {"ra"}
