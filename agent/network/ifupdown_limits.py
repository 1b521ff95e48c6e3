"""What ifupdown cannot express of a NIC's rare values (``limits.rare``). Pure."""

from __future__ import annotations

from agent.network import limits
from agent.network.ifupdown_lines import has_label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.network.interfaces import Link

#: Beside all that is true: what Debian's configuration of dhcpcd requests and sends.
_DEFAULTS = (("use_domains", "true"), ("use_domains", "yes"), ("identifier", "duid"))
#: Values that dhcpcd has from its own configuration in Debian, whatever the stanza says.
_DHCPCD = "dhcpcd has one configuration for all NICs, dhcpcd.conf(5)"
_NOT_ON_LO = "lo has addresses, routes and rules only"
_FOR_LO = ("routes", "rules", "addresses", "critical", "ignore_carrier", "activation_mode")


def unsupported(link: Link) -> dict[str, str]:
    """Return why a value is not written, by its path."""
    found = {path: why for key, path, value in limits.rare(link.nic) if (why := _why(link, key, value))}
    for number, one in enumerate(link.nic.options.addresses if link.nic.options else ()):
        if one.label and not has_label(link, one):
            found[f"addresses[{number}].label"] = f"a label begins with {link.name}: and is for IPv4"
    return found


def _why(link: Link, key: str, value: object) -> str:
    if link.nic.loopback:
        return "" if key.partition(".")[0] in _FOR_LO else _NOT_ON_LO
    version, _, of_dhcp = key.partition(".")
    if version in ("dhcp4", "dhcp6"):
        return _why_leased(link, version, of_dhcp, value)
    if key == "link_local" and isinstance(value, tuple) and 4 in value:
        return "an IPv4 link-local address needs a program of its own"
    if key == "ipv6_address_generation":
        if value == "stable-privacy":
            return "the kernel has no secret for it"
        if link.nic.options and link.nic.options.link_local == ():
            return "the kernel has one setting for it and for no link-local address"
    return ""


def _why_leased(link: Link, version: str, key: str, value: object) -> str:
    nic, own = link.nic, link.nic.options and link.nic.options.dhcp4
    if not (nic.dhcp4 if version == "dhcp4" else nic.dhcp6) or key == "route_metric":
        return ""
    if version == "dhcp4" and key == "hostname" and own and own.send_hostname is not False:
        return ""
    if version == "dhcp4" and key == "identifier" and link.interface.mac:
        return ""
    is_default = value is True or (key, value) in _DEFAULTS
    return "" if is_default else _DHCPCD
