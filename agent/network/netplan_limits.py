"""What netplan's backend NetworkManager cannot do of a NIC's values (netplan 0.106 to 1.1). Pure.

netplan refuses all its files for a few values, and passes on nothing of others; with some that it passes on,
NetworkManager refuses the NIC's profile.
"""

from __future__ import annotations

from agent.config.nics import Kind
from agent.lib.records import replace
from agent.network import limits
from agent.network.interfaces import family, rule_family
from agent.network.networkmanager_virtual import refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.config.nics import Route
    from agent.network.interfaces import Link

    #: Why values are left out, by their paths.
    Why = dict[str, str]

_NOT_PASSED_ON = "netplan does not pass it on"
_NOT_ON_LO = "netplan has no lo"
#: The part of a route without which it is still the same.
_SCOPE = ".scope"
_ONE_FOR_BOTH = "netplan needs the same for both IP versions"
_WITHOUT = "not on a NIC without IPv{0} addresses and DHCP for IPv{0}"
_NEVER = {
    "addresses.label": "netplan refuses an address with a label",
    "addresses.lifetime": "netplan refuses an address with a lifetime",
    "ipv6_mtu": "netplan refuses an MTU of IPv6",
    "ignore_carrier": _NOT_PASSED_ON,
}
#: What NetworkManager does of DHCP by default.
_DEFAULTS = (
    *((name, True) for name in ("use_dns", "use_hostname", "use_mtu", "use_routes", "send_hostname")),
    *(("use_ntp", False), ("use_domains", "true"), ("use_domains", "yes")),
)
#: NetworkManager reads a rule's type of service, which netplan writes in decimal, as hexadecimal.
_SAME_IN_BOTH = 9
#: For rules without a priority, which netplan leaves out: before the main table's (32766).
_BEFORE_MAIN = 32765


def for_networkmanager(link: Link) -> tuple[Link, Why]:
    """Return the link without these values, and why, by their paths."""
    found = _on_lo(link) if link.nic.loopback else _found(link)
    # Advertisements are not in netplan's files for NetworkManager.
    paths = [path for path in found if not path.startswith("ra_")]
    link = _bare(link) if link.nic.loopback else _adapted(limits.left_out(link, paths))
    return link, {path: f"for NetworkManager: {why}" for path, why in found.items()}


def _bare(link: Link) -> Link:
    nic = replace(link.nic, addresses=(), routes=(), rules=(), nameservers=(), search=(), options=None)
    return replace(link, nic=nic, routes=())


def _adapted(link: Link) -> Link:
    """Return the link with what means the same to NetworkManager in the form that netplan passes on."""
    rules, options = link.nic.rules, link.nic.options
    if options:
        # There is one mode for a NIC that NetworkManager does not bring up.
        mode = "manual" if options.activation_mode else None
        options = replace(options, addresses=(), activation_mode=mode)
    rules = tuple(replace(one, priority=_BEFORE_MAIN) if one.priority is None else one for one in rules)
    link = replace(link, nic=replace(link.nic, rules=rules, options=options))
    if not (table := link.table):
        return link
    # It has copies of the document's routes.
    found = ((one, *_of_route(link, one)) for one in table.routes)
    routes = tuple(
        _without_scope(one) if part else one for one, part, why in found if not why or part == _SCOPE
    )
    return replace(link, table=replace(table, routes=routes))


def _without_scope(route: Route) -> Route:
    return replace(route, options=replace(route.options, scope=None)) if route.options else route


def _on_lo(link: Link) -> Why:
    lists = ("addresses", "routes", "rules", "nameservers")
    found = {f"{name}[{n}]": _NOT_ON_LO for name in lists for n in range(len(getattr(link.nic, name)))}
    return found | ({"search": _NOT_ON_LO} if link.nic.search else {})


def _found(link: Link) -> Why:
    nic = link.nic
    found = {path: why for key, path, value in limits.rare(nic) if (why := _why(link, key, value))}
    found |= refused(link)
    if nic.kind is Kind.BOND and nic.bond and nic.bond.primary is not None:
        found["bond.primary"] = "netplan passes on its own name of the port"
    return found if link.master else found | _routing(link) | _resolving(link) | _advertised(link)


def _why(link: Link, key: str, value: object) -> str:
    if link.master:
        return ""
    if key in _NEVER:
        return "" if value == "forever" else _NEVER[key]
    if key == "link_local" and isinstance(value, tuple):
        local = {6} if _has(link, 4) else {4, 6}
        return "" if set(value) == local else "a NIC has one for IPv6, and for IPv4 without other addresses"
    if key.startswith("ipv6_") and value is not False and not _has(link, 6):
        return "netplan leaves IPv6 to the kernel without addresses and DHCPv6"
    version, _, name = key.partition(".")
    if version in ("dhcp4", "dhcp6"):
        return _why_leased(link, version, name, value)
    return ""


def _why_leased(link: Link, version: str, name: str, value: object) -> str:
    nic, is_4 = link.nic, version == "dhcp4"
    if not (nic.dhcp4 if is_4 else nic.dhcp6):
        # A metric for IPv6 is that of router advertisements too.
        of_advertisements = not is_4 and link.accepts_router_advertisements and nic.ra_gateway
        return _NOT_PASSED_ON if name == "route_metric" and of_advertisements else ""
    if (name, value) in _DEFAULTS:
        return ""
    both = nic.dhcp4 and nic.dhcp6
    match name:
        case "route_metric":
            is_lost = both and link.metric4 != link.metric6 and not (is_4 and link.is_virtual)
            return _ONE_FOR_BOTH if is_lost else ""
        case "use_routes" if is_4:
            return _ONE_FOR_BOTH if both else ""
        case "use_routes":
            return "DHCP for IPv6 does not offer routes"
    return _NOT_PASSED_ON


def _has(link: Link, version: int) -> bool:
    """Return whether netplan configures an IP version: without it, routes, rules and resolvers are lost."""
    leased = link.nic.dhcp4 if version == 4 else link.nic.dhcp6
    return leased or any(family(address) == version for address in link.nic.addresses)


def _routing(link: Link) -> Why:
    routes = ((number, _of_route(link, route)) for number, route in enumerate(link.nic.routes))
    found = {f"routes[{number}]{part}": why for number, (part, why) in routes if why}
    for number, rule in enumerate(link.nic.rules):
        if not _has(link, rule_family(rule)):
            found[f"rules[{number}]"] = _WITHOUT.format(rule_family(rule))
        elif rule.tos is not None and rule.tos > _SAME_IN_BOTH:
            found[f"rules[{number}].tos"] = "it would read a type of service above 9 as another one"
    return found


def _of_route(link: Link, route: Route) -> tuple[str, str]:
    """Return which part of a route's path is left out, and why: only its scope, or all of it."""
    version, scope = family(route.destination), route.options.scope if route.options else None
    if not _has(link, version):
        return "", _WITHOUT.format(version)
    if route.type != "unicast":
        return ".type", "netplan refuses a route that is not unicast"
    if route.gateway and version == 4 and scope in ("link", "host"):
        return "", "netplan loses the gateway of a route with a scope"
    if scope == "host" or (route.gateway and scope == "link"):
        return _SCOPE, "a route has the scope that its gateway implies"
    return "", ""


def _resolving(link: Link) -> Why:
    servers = enumerate(link.nic.nameservers)
    found = {
        f"nameservers[{n}]": _WITHOUT.format(family(one))
        for n, one in servers
        if not _has(link, family(one))
    }
    is_lost = link.nic.search and not _has(link, 4) and not _has(link, 6)
    return found | ({"search": "not on a NIC without addresses and DHCP"} if is_lost else {})


def _advertised(link: Link) -> Why:
    """Return what of router advertisements is used or not against the document. The kernel, which takes no
    resolvers, processes them on a NIC without addresses of IPv6 and DHCPv6.
    """
    nic = link.nic
    by_kernel = not _has(link, 6)
    why = "left to the kernel" if by_kernel else "all of them with DHCPv6, nothing without it"
    wanted = {"address": nic.ra_address, "dns": nic.ra_dns, "gateway": nic.ra_gateway}
    return {
        f"ra_{name}": why
        for name, is_wanted in wanted.items()
        if (nic.accept_ra and is_wanted) is not (nic.dhcp6 or by_kernel)
        and not (by_kernel and name == "dns")
    }
