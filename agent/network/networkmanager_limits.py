"""What NetworkManager cannot express of a NIC's rare values (``limits.rare``). Pure."""

from __future__ import annotations

from agent.network import limits
from agent.network.interfaces import family
from agent.network.networkmanager_ip import (
    has_addresses,
    has_link_local,
    ignores_dns6,
    is_link_local_possible,
    uses_ipv6,
)
from agent.network.networkmanager_virtual import refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.config.nics import Dhcp
    from agent.network.interfaces import Link

_NOT_ON_LO = "lo has addresses, routes and rules only"
_FOR_LO = ("routes", "rules", "addresses", "critical", "activation_mode")
#: Keys of which no value is written.
_NEVER = {
    "addresses.label": "a keyfile has no labels",
    "addresses.lifetime": "a keyfile has no lifetimes",
    "ignore_carrier": "it is a setting of NetworkManager.conf(5) for the machine",
}
#: Whether domains are used, by the value; not for routing only.
_USED = {"true": True, "yes": True, "false": False, "no": False}


def unsupported(link: Link) -> dict[str, str]:
    """Return why a value is not written, by its path."""
    found = {path: why for key, path, value in limits.rare(link.nic) if (why := _why(link, key, value))}
    found |= limits.ignored_advertisements(link)
    nic = link.nic
    if not link.master and link.accepts_router_advertisements and nic.ra_dns and not nic.ra_address:
        # Without resolvers too, only a route is wanted, as by the platform's archive: see the decisions.
        found["ra_address"] = "it uses all addresses of a router advertisement"
    found |= refused(link)
    for number, route in enumerate(link.nic.routes):
        scope = route.options.scope if route.options else None
        if route.type == "local" and scope not in (None, "host") and family(route.destination) == 4:
            found[f"routes[{number}].scope"] = "a local route has the scope host"
    for number, server in enumerate(link.nic.nameservers if not link.master else ()):
        version = family(server)
        if not has_addresses(link, version):
            found[f"nameservers[{number}]"] = f"not allowed on a NIC without IPv{version}"
    if link.nic.search and not link.master and not any(has_addresses(link, version) for version in (4, 6)):
        found["search"] = "not allowed on a NIC without addresses"
    return found


def _why(link: Link, key: str, value: object) -> str:
    if link.nic.loopback and key.partition(".")[0] not in _FOR_LO:
        return _NOT_ON_LO
    if key in _NEVER and value != "forever":
        return _NEVER[key]
    if key == "link_local" and not is_link_local_possible(link):
        return "every NIC with IPv6 has an IPv6 link-local address"
    if key.startswith("ipv6_") and not uses_ipv6(link) and not has_link_local(link):
        return "IPv6 is off on this NIC"
    options = link.nic.options
    if key.startswith("dhcp4.") and link.nic.dhcp4 and options and options.dhcp4:
        return _why_leased(link, options.dhcp4, key)
    if key.startswith("dhcp6.") and link.nic.dhcp6 and options and options.dhcp6:
        return _why_leased(link, options.dhcp6, key)
    return ""


def _are_domains_used(link: Link, dhcp: Dhcp, version: str) -> bool:
    return dhcp.use_dns is not False if version == "dhcp4" else not ignores_dns6(link)


def _why_leased(link: Link, dhcp: Dhcp, key: str) -> str:
    options = link.nic.options
    version, _, of = key.partition(".")
    match of:
        case "use_domains" if _are_domains_used(link, dhcp, version) is not _USED.get(
            dhcp.use_domains or ""
        ):
            return "domains and resolvers have one switch"
        case "use_mtu" if version == "dhcp4" and dhcp.use_mtu is False and not link.nic.mtu:
            return "an MTU of DHCP is used unless the NIC has one"
        case "use_ntp" if dhcp.use_ntp:
            return "it sets no clock"
        case "use_dns" if version == "dhcp6" and ignores_dns6(link) is bool(dhcp.use_dns):
            return "resolvers of DHCPv6 and of router advertisements have one switch"
        case "use_hostname" if version == "dhcp6" and options and options.dhcp4:
            other = options.dhcp4.use_hostname
            return "" if other in (None, dhcp.use_hostname) else "DHCPv4 and DHCPv6 have one switch"
    return ""
