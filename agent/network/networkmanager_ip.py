"""The groups [ipv4] and [ipv6] of a keyfile (nm-settings-keyfile(5)), and [hostname], which goes with DHCP.

NetworkManager processes router advertisements itself, and uses all addresses of one or none. Where the
document wants no such address, advertisements are accepted only if they supply the default route.
"""

from __future__ import annotations

from agent.config.nics import ANYWHERE
from agent.network.interfaces import family, rule_family

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.config.nics import Dhcp, NicOptions, Route, Rule
    from agent.network.interfaces import Link

    Keys = dict[str, object]

#: Written as the gateway of a route without one: the metric is the next field.
_NO_GATEWAY = {4: "0.0.0.0", 6: "::"}  # noqa: S104 - not an address to listen at
#: Scopes by their names in ip-route(8), as the kernel numbers them (rtnetlink(7)).
_SCOPES = {"global": 0, "site": 200, "link": 253, "host": 254}
#: Priority of a rule without one, which NetworkManager requires: before the main table's (32766).
_BEFORE_MAIN = 32765
#: ipv4.link-local: an address beside those of the method.
_LINK_LOCAL_TOO = 3


def ipv4(link: Link) -> Keys:
    """Return the keys of [ipv4]. Routes and rules are in force with every method; resolvers are not allowed
    without an address.
    """
    nic, addresses = link.nic, _addresses(link, 4)
    local = nic.options is not None and 4 in (nic.options.link_local or ()) and is_link_local_possible(link)
    if nic.loopback:
        # It has its own addresses with every method; "disabled" is not allowed.
        return {"method": "manual" if addresses else "auto", **addresses, **_named(link, 4)}
    if not has_addresses(link, 4):
        return {"method": "link-local" if local else "disabled", **_routing(link, 4)}
    keys = {"method": "auto" if nic.dhcp4 else "manual", **addresses}
    keys |= {"link-local": _LINK_LOCAL_TOO} if local else {}
    if nic.dhcp4 and nic.options and nic.options.dhcp4:
        keys |= _leased4(nic.options.dhcp4)
    return {**keys, **_metric(link.metric4), **_resolvers(link, 4), **_routing(link, 4)}


def ipv6(link: Link) -> Keys:
    """Return the keys of [ipv6]."""
    nic, addresses = link.nic, _addresses(link, 6)
    if nic.loopback:
        return {"method": "manual" if addresses else "auto", **addresses, **_named(link, 6)}
    if not uses_ipv6(link) and not has_link_local(link):
        return {"method": "disabled"}
    if link.accepts_router_advertisements:
        keys: Keys = {"method": "auto"}
        keys |= {"ignore-auto-routes": True} if not nic.ra_gateway else {}
        keys |= {"ignore-auto-dns": True} if ignores_dns6(link) else {}
    else:
        keys = {"method": "dhcp" if nic.dhcp6 else "manual" if addresses else "link-local"}
        keys |= {"ignore-auto-dns": True} if nic.dhcp6 and ignores_dns6(link) else {}
    keys |= addresses
    if nic.options:
        keys |= _generated(nic.options)
        keys |= _leased6(nic.options.dhcp6) if nic.dhcp6 and nic.options.dhcp6 else {}
    return {**keys, **_metric(link.metric6), **_resolvers(link, 6), **_routing(link, 6)}


def _named(link: Link, wanted: int) -> Keys:
    return (_resolvers(link, wanted) if has_addresses(link, wanted) else {}) | _routing(link, wanted)


def hostname(link: Link) -> Keys:
    """Return the keys of [hostname], which is for both IP versions."""
    options = link.nic.options
    given = [one.use_hostname for one in (options.dhcp4, options.dhcp6) if one] if options else []
    wanted = next((one for one in given if one is not None), None)
    return {} if wanted is None or link.master else {"from-dhcp": int(wanted)}


def has_addresses(link: Link, wanted: int) -> bool:
    """Return whether the NIC gets an address of a family (4 or 6), so that resolvers of it are allowed."""
    if wanted == 4:
        return link.nic.dhcp4 or bool(_addresses(link, 4))
    return link.accepts_router_advertisements or link.nic.dhcp6 or bool(_addresses(link, 6))


def uses_ipv6(link: Link) -> bool:
    """Return whether the document has anything for IPv6 on this NIC."""
    routes = any(family(route.destination) == 6 for route in link.all_routes)
    return has_addresses(link, 6) or routes or any(rule_family(rule) == 6 for rule in link.all_rules)


def has_link_local(link: Link) -> bool:
    """Return whether the NIC is to have an IPv6 link-local address."""
    options = link.nic.options
    return options is None or options.link_local is None or 6 in options.link_local


def is_link_local_possible(link: Link) -> bool:
    """Return whether the NIC can have the link-local addresses of the document: it has one for IPv6 with
    everything else of IPv6.
    """
    return has_link_local(link) or not uses_ipv6(link)


def ignores_dns6(link: Link) -> bool:
    """Return whether to ignore resolvers: those of router advertisements and DHCPv6 have one switch."""
    nic = link.nic
    if link.accepts_router_advertisements:
        return not nic.ra_dns
    return bool(nic.options and nic.options.dhcp6 and nic.options.dhcp6.use_dns is False)


def _leased4(dhcp: Dhcp) -> Keys:
    keys: Keys = {"ignore-auto-dns": True} if dhcp.use_dns is False else {}
    keys |= {"ignore-auto-routes": True} if dhcp.use_routes is False else {}
    return keys | _sent(dhcp) | ({"dhcp-client-id": dhcp.identifier} if dhcp.identifier else {})


def _leased6(dhcp: Dhcp) -> Keys:
    # A DUID of the link-layer address alone (RFC 8415, section 11.4); the default is another DUID.
    return _sent(dhcp) | ({"dhcp-duid": "ll"} if dhcp.identifier == "mac" else {})


def _sent(dhcp: Dhcp) -> Keys:
    keys: Keys = {"dhcp-send-hostname": dhcp.send_hostname} if dhcp.send_hostname is not None else {}
    return keys | ({"dhcp-hostname": dhcp.hostname} if dhcp.hostname else {})


def _generated(options: NicOptions) -> Keys:
    keys: Keys = {}
    if options.ipv6_privacy is not None:
        # 2: prefer the temporary address (RFC 8981).
        keys["ip6-privacy"] = 2 if options.ipv6_privacy else 0
    if options.ipv6_address_token:
        keys |= {"addr-gen-mode": "eui64", "token": options.ipv6_address_token}
    elif options.ipv6_address_generation:
        keys["addr-gen-mode"] = options.ipv6_address_generation
    return keys | ({"mtu": options.ipv6_mtu} if options.ipv6_mtu else {})


def _metric(metric: int | None) -> Keys:
    return {"route-metric": metric} if metric is not None else {}


def _addresses(link: Link, wanted: int) -> Keys:
    own = (address for address in link.nic.addresses if family(address) == wanted)
    return {f"address{number}": address for number, address in enumerate(own, start=1)}


def _resolvers(link: Link, wanted: int) -> Keys:
    if wanted == 6 and not has_addresses(link, 6):
        return {}
    own = [server for server in link.nic.nameservers if family(server) == wanted]
    keys: Keys = {"dns": "".join(f"{server};" for server in own)} if own else {}
    # Search domains apply to both families: written once.
    first = 4 if has_addresses(link, 4) else 6
    search = "".join(f"{domain};" for domain in link.nic.search) if wanted == first else ""
    return keys | ({"dns-search": search} if search else {})


def _routing(link: Link, wanted: int) -> Keys:
    keys: Keys = {}
    routes = (route for route in link.all_routes if family(route.destination) == wanted)
    for number, route in enumerate(routes, start=1):
        keys[f"route{number}"] = _route(route)
        if options := _options(route, wanted):
            keys[f"route{number}_options"] = ",".join(options)
    rules = (rule for rule in link.all_rules if rule_family(rule) == wanted)
    return keys | {f"routing-rule{number}": _rule(rule) for number, rule in enumerate(rules, start=1)}


def _route(route: Route) -> str:
    words = [route.destination]
    if route.gateway or route.metric is not None:
        words.append(route.gateway or _NO_GATEWAY[family(route.destination)])
    return ",".join(words + ([str(route.metric)] if route.metric is not None else []))


def _options(route: Route, wanted: int) -> list[str]:
    """Return the attributes of a route in the order of their names, as NetworkManager writes them."""
    given: Keys = {"onlink": "true"} if route.on_link and route.gateway else {}
    given |= {"table": route.table, "type": route.type if route.type != "unicast" else None}
    if of := route.options:
        given |= {"src": of.source, "mtu": of.mtu, "initcwnd": of.initcwnd, "initrwnd": of.initrwnd}
        # The kernel has no scopes for IPv6; that of a local route is always host.
        scoped = wanted == 4 and route.type != "local"
        given["scope"] = _SCOPES.get(of.scope) if of.scope and scoped else None
    return [f"{key}={value}" for key, value in sorted(given.items()) if value is not None]


def _rule(rule: Rule) -> str:
    words = [f"priority {rule.priority if rule.priority is not None else _BEFORE_MAIN}"]
    # One without addresses is for IPv4 (``rule_family``).
    words.append(f"from {rule.source or ANYWHERE[rule_family(rule)]}")
    words += [f"to {rule.destination}"] if rule.destination else []
    words += [f"tos {rule.tos:#x}"] if rule.tos is not None else []
    words += [f"fwmark {rule.mark:#x}"] if rule.mark is not None else []
    return " ".join([*words, f"table {rule.table}"])
