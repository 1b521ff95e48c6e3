"""The lines of an interfaces(5) stanza that run a command of ip(8) or write a sysctl (ip-sysctl.rst).

ifupdown runs each as root in a shell, which must take every word as it is: ``command`` refuses others. What
does not go away with the link has a ``down`` line that removes exactly what the ``up`` line has added.
"""

from __future__ import annotations

import re

from agent.lib.errors import ConfigError
from agent.network.interfaces import family, rule_family

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.config.nics import AddressOptions, Route, Rule
    from agent.network.interfaces import Link

#: Characters that mean nothing to a shell.
_WORDS = re.compile(r"[A-Za-z0-9_.:/@+,=-]+( [A-Za-z0-9_.:/@+,=-]+)*")
#: Metric of a static IPv6 default route. dhcpcd, the DHCP client, accepts router advertisements on its NIC
#: whatever its configuration says, and gives their routes the metric of the lease, which may be the first
#: that the agent assigns (100), or else 1000 plus the ifindex. The kernel's default would be 1024.
_BEFORE_DHCPCD = 64
#: The types of routes that lead somewhere: over the NIC, or to the machine itself.
_REACHABLE = ("unicast", "local")
#: Values of the sysctl addr_gen_mode.
_EUI64, _NO_LINK_LOCAL = 0, 1
_OR_TRUE = " || true"
#: Table, type and options of a route without rare values.
_PLAIN = (None, "unicast", None)
_RULE = (("up", "add"), ("down", "del"))


def command(words: str) -> str:
    """Return the words of a command.

    Raise ConfigError if a shell would interpret a character of them.
    """
    if not _WORDS.fullmatch(words):
        raise ConfigError(
            "network: a value with a character that ifupdown's shell would interpret",
            hint="names and addresses have letters, digits and _ . : / @ + , = - only",
        )
    return words


def addresses(link: Link, wanted: int) -> list[list[str]]:
    """Return a static stanza for each address of a family (4 or 6)."""
    own = {one.address: one for one in link.nic.options.addresses} if link.nic.options else {}
    return [_stanza(link, a, own.get(a)) for a in link.nic.addresses if family(a) == wanted]


def _stanza(link: Link, address: str, options: AddressOptions | None) -> list[str]:
    name, nic = link.name, link.nic
    deprecated = options is not None and options.lifetime == "0"
    if family(address) == 6:
        # This method's default for accept_ra is 0. Without carrier, duplicate address detection never
        # ends, and the boot would wait for it.
        words = [f"address {address}", f"accept_ra {int(nic.accept_ra)}", f"autoconf {int(nic.ra_address)}"]
        lifetime = ["preferred-lifetime 0"] if deprecated else []
        return [f"iface {name} inet6 static", *words, *lifetime, "dad-attempts 0"]
    if options and has_label(link, options):
        # The method static gives its address the label of the NIC, and removes only those with that.
        lifetime = [" preferred_lft 0"] if deprecated else []
        return [f"iface {name} inet manual", *_added(name, address, f" label {options.label}", *lifetime)]
    changed = [f"up {command(f'ip -4 addr change {address} dev {name} preferred_lft 0')}"]
    return [f"iface {name} inet static", f"address {address}", *(changed if deprecated else [])]


def has_label(link: Link, options: AddressOptions) -> bool:
    """Return whether ip-address(8) accepts the label: it must begin with the NIC's name and a colon."""
    is_ipv4 = family(options.address) == 4
    return is_ipv4 and options.label is not None and options.label.startswith(f"{link.name}:")


def of_loopback(link: Link) -> list[str]:
    """Return the lines that add the addresses of lo beside the kernel's own; the method static would remove
    those with its own.
    """
    own = {one.address: one for one in link.nic.options.addresses} if link.nic.options else {}
    lines = list[str]()
    for address in link.nic.addresses:
        options = own.get(address)
        label = f" label {options.label}" if options and has_label(link, options) else ""
        lifetime = " preferred_lft 0" if options and options.lifetime == "0" else ""
        lines += _added(link.name, address, label, lifetime)
    return lines


def _added(name: str, address: str, *options: str) -> list[str]:
    ip, broadcast = f"ip -{family(address)} addr", " brd +" if family(address) == 4 else ""
    add = command(f"{ip} replace {address}{broadcast} dev {name}{''.join(options)}")
    return [f"up {add}", f"down {command(f'{ip} del {address} dev {name}')}{_OR_TRUE}"]


def routing(link: Link, wanted: int) -> list[str]:
    """Return the routes and rules of a family. Routes over the NIC go away with the link, those that lead
    nowhere do not. A rare route that the kernel refuses costs only itself: ifup would give up the NIC.
    """
    lines, ip = list[str](), f"ip -{wanted}"
    for route in (r for r in link.all_routes if family(r.destination + (r.gateway or "")) == wanted):
        words = _route(link.name, route)
        is_rare = route in link.routes and (route.table, route.type, route.options) != _PLAIN
        lines.append(f"up {command(f'{ip} route replace {words}')}{_OR_TRUE if is_rare else ''}")
        if route.type not in _REACHABLE:
            lines.append(f"down {command(f'{ip} route del {words}')}{_OR_TRUE}")
    for rule in (r for r in link.all_rules if rule_family(r) == wanted):
        words = _rule(rule)
        # It may exist already: the kernel keeps rules when a NIC goes away.
        lines += [f"{when} {command(f'{ip} rule {verb} {words}')}{_OR_TRUE}" for when, verb in _RULE]
    return lines


def _route(name: str, route: Route) -> str:
    is_ipv6_default = route.gateway and route.destination == "::/0"
    metric = _BEFORE_DHCPCD if route.metric is None and is_ipv6_default else route.metric
    words = [] if route.type == "unicast" else [route.type]
    words.append(route.destination)
    words += ["via", route.gateway] if route.gateway else []
    words += ["dev", name] if route.type in _REACHABLE else []
    words += ["onlink"] if route.on_link and route.gateway else []
    words += _given(("metric", metric), ("table", route.table))
    if route.options:
        of = route.options
        words += _given(("scope", of.scope), ("src", of.source), ("mtu", of.mtu))
        words += _given(("initcwnd", of.initcwnd), ("initrwnd", of.initrwnd))
    return " ".join(words)


def _rule(rule: Rule) -> str:
    # ip-rule(8) reads this number as hexadecimal.
    tos = f"{rule.tos:#x}" if rule.tos is not None else None
    words = _given(("from", rule.source), ("to", rule.destination), ("fwmark", rule.mark), ("tos", tos))
    return " ".join(words + _given(("lookup", rule.table), ("priority", rule.priority)))


def _given(*options: tuple[str, object]) -> list[str]:
    return [word for key, value in options if value is not None for word in (key, str(value))]


def settings(link: Link) -> list[str]:
    """Return the settings that must be in force before the NIC first comes up, whichever family brings it
    up: router advertisements may arrive at once. A failure to write a sysctl is ignored, since the kernel
    may be without IPv6.
    """
    nic = link.nic
    if link.master:
        return _mac(link)
    off = {"accept_ra": nic.accept_ra, "autoconf": nic.ra_address, "accept_ra_defrtr": nic.ra_gateway}
    values = [(key, 0) for key, wanted in off.items() if not wanted]
    # The kernel's default metric is 1024, behind those of ``multihoming``.
    behind = link.metric6 is not None and nic.accept_ra and nic.ra_gateway
    values += [("ra_defrtr_metric", link.metric6 or 0)] if behind else []
    given, own = _sysctls(link, values), _generation(link)
    return [*_mac(link), *given, *_sysctls(link, own), *_reset(link, own), *_token(link), *_ipv6_mtu(link)]


def _sysctls(link: Link, values: list[tuple[str, int]]) -> list[str]:
    return [f"pre-up echo {value} > {_sysctl(link, key)}{_OR_TRUE}" for key, value in values]


def _reset(link: Link, values: list[tuple[str, int]]) -> list[str]:
    """Return the lines that give sysctls the value that every new NIC has."""
    default = "/proc/sys/net/ipv6/conf/default"
    return [f"post-down cat {default}/{key} > {_sysctl(link, key)}{_OR_TRUE}" for key, _ in values]


def _sysctl(link: Link, key: str) -> str:
    return command(f"/proc/sys/net/ipv6/conf/{link.name}/{key}")


def _mac(link: Link) -> list[str]:
    options, name, own = link.nic.options, link.name, link.interface.mac
    if not options or not options.set_mac:
        return []
    undo = [f"post-down {command(f'ip link set dev {name} address {own}')}{_OR_TRUE}"] if own else []
    return [f"pre-up {command(f'ip link set dev {name} address {options.set_mac}')}", *undo]


def _generation(link: Link) -> list[tuple[str, int]]:
    options = link.nic.options
    if not options:
        return []
    by_mac = options.ipv6_address_generation == "eui64"
    mode = _EUI64 if by_mac else None
    values = [("addr_gen_mode", _NO_LINK_LOCAL if options.link_local == () else mode)]
    if options.ipv6_privacy is not None:
        # 2: prefer the temporary address (RFC 8981).
        values.append(("use_tempaddr", 2 if options.ipv6_privacy else 0))
    return [(key, value) for key, value in values if value is not None]


def _token(link: Link) -> list[str]:
    token, name = link.nic.options and link.nic.options.ipv6_address_token, link.name
    if not token:
        return []
    undo = f"post-down {command(f'ip token set :: dev {name}')}{_OR_TRUE}"
    return [f"pre-up {command(f'ip token set {token} dev {name}')}{_OR_TRUE}", undo]


def _ipv6_mtu(link: Link) -> list[str]:
    """Return the line for the MTU of IPv6, which the kernel resets when the NIC comes up."""
    mtu = link.nic.options and link.nic.options.ipv6_mtu
    return [f"up echo {mtu} > {_sysctl(link, 'mtu')}{_OR_TRUE}"] if mtu else []
