"""Renderer for ifupdown: one interfaces(5) file for each NIC below /etc/network/interfaces.d.

ifupdown merges all stanzas of one name, so an ``iface eth0`` from the image would configure the NIC a second
time. ``prepare`` comments out such stanzas in other files whenever the agent's file is written. Stanzas that
the administrator adds later are not touched: the agent's file is then no longer written.
"""

from __future__ import annotations

import re

from agent.host.sysfs import listed
from agent.lib.errors import HostError
from agent.lib.text import lines, words
from agent.network.ifupdown_virtual import stanza_lines
from agent.network.interfaces import FALLBACK, ConfigFile, family, rule_family
from agent.network.multihoming import PRIORITY
from agent.systemd import transient, units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.config.nics import Route
    from agent.host.host import Host
    from agent.network.interfaces import Link

NAME = "ifupdown"
BY_NAME = True
INTERFACES = "/etc/network/interfaces"
_FOLDER = "/etc/network/interfaces.d"
_PREFIX = "gandi-"
_SOURCE = f"source {_FOLDER}/*"
_LOOPBACK = "auto lo\niface lo inet loopback\n"
_DISABLED = "# gandi-agent: "
#: Keywords that begin a stanza, and so end the one before (interfaces(5)).
_STANZAS = ("iface", "mapping", "auto", "source", "source-directory", "rename", "no-auto-down", "no-scripts")
#: Metric of a static IPv6 default route. dhcpcd, the DHCP client, accepts router advertisements on its NIC
#: whatever its configuration says, and gives their routes the metric of the lease, which may be the first
#: that the agent assigns (100), or else 1000 plus the ifindex. The kernel's default would be 1024.
_BEFORE_DHCPCD = 64
_IFDOWN_TIMEOUT, _IFUP_TIMEOUT = 30.0, 60.0
#: Characters of a NIC's name that are replaced in the name of its transient unit.
_UNSAFE = r"[^A-Za-z0-9]"


def paths(key: str) -> tuple[str, ...]:
    """Return the NIC's file."""
    return (f"{_FOLDER}/{_PREFIX}{key}",)


def render(link: Link) -> tuple[ConfigFile, ...]:
    """Return the file with the NIC's stanzas.

    The boot waits for ``auto`` NICs. A physical NIC that needs an answer (DHCP) and is not required may be
    unconnected, so it only gets ``allow-hotplug``. A virtual NIC is never hot-plugged: always ``auto``.
    """
    name, nic = link.name, link.nic
    old, new = ([], []) if link.master else (_ipv4(link), _ipv6(link))
    for stanzas, wanted in ((old, 4), (new, 6)):
        if stanzas:
            stanzas[-1] += _routes(link, wanted)
    stanzas = old + new or [[f"iface {name} inet manual"]]
    stanzas[0] += [*stanza_lines(link), *([] if link.master else _settings(link)), *_common(link)]
    waits = (nic.dhcp4 or nic.dhcp6) and not link.master
    lines = [] if waits and not link.required and not link.is_virtual else [f"auto {name}"]
    lines += [] if link.is_virtual else [f"allow-hotplug {name}"]
    lines += ["\n    ".join(stanza) for stanza in stanzas]
    text = "# Written by gandi-agent; once changed, it is left alone.\n" + "\n".join(lines) + "\n"
    return (ConfigFile(paths(link.key)[0], text),)


def _ipv4(link: Link) -> list[list[str]]:
    dhcp = [[f"iface {link.name} inet dhcp"]] if link.nic.dhcp4 else []
    if dhcp and link.metric4 is not None:
        dhcp[0].append(f"metric {link.metric4}")
    static = (address for address in link.nic.addresses if ":" not in address)
    return dhcp + [[f"iface {link.name} inet static", f"address {address}"] for address in static]


def _ipv6(link: Link) -> list[list[str]]:
    name, nic = link.name, link.nic
    stanzas = [[f"iface {name} inet6 dhcp"]] if nic.dhcp6 else []
    for address in (address for address in nic.addresses if ":" in address):
        # This method's default for accept_ra is 0. Without carrier, duplicate address detection never
        # ends, and the boot would wait for it.
        words = [f"address {address}", f"accept_ra {int(nic.accept_ra)}", f"autoconf {int(nic.ra_address)}"]
        stanzas.append([f"iface {name} inet6 static", *words, "dad-attempts 0"])
    return stanzas


def _settings(link: Link) -> list[str]:
    """Return the IPv6 settings that must be in force before the NIC first comes up, whichever family brings
    it up: router advertisements may arrive at once. They are sysctls (ip-sysctl.rst); a failure to write
    them is ignored, since the kernel may be without IPv6.
    """
    nic, folder = link.nic, f"/proc/sys/net/ipv6/conf/{link.name}"
    off = {"accept_ra": nic.accept_ra, "autoconf": nic.ra_address, "accept_ra_defrtr": nic.ra_gateway}
    values = [(key, 0) for key, wanted in off.items() if not wanted]
    # The kernel's default metric is 1024, behind those of ``multihoming``.
    behind = link.metric6 is not None and nic.accept_ra and nic.ra_gateway
    values += [("ra_defrtr_metric", link.metric6 or 0)] if behind else []
    return [f"pre-up echo {value} > {folder}/{key} || true" for key, value in values]


def _common(link: Link) -> list[str]:
    nic = link.nic
    lines = [f"pre-up ip link set dev {link.name} mtu {nic.mtu}"] if nic.mtu else []
    lines += [f"dns-nameservers {' '.join(nic.nameservers)}"] if nic.nameservers else []
    return lines + ([f"dns-search {' '.join(nic.search)}"] if nic.search else [])


def unsupported(link: Link) -> dict[str, str]:
    """Return every rare value: this renderer writes none of them."""
    from agent.network import limits

    return {path: "not written" for _key, path, _value in limits.rare(link.nic)}


def _routes(link: Link, wanted: int) -> list[str]:
    """Return the routes of a family, and the routes and rules of the NIC's own table."""
    name, table = link.name, link.table
    ip = f"ip -{wanted}"
    lines = [f"up {ip} route replace {_route(name, r)}" for r in link.routes if _of(r, wanted)]
    if table:
        own = (route for route in table.routes if _of(route, wanted))
        lines += [f"up {ip} route replace {_route(name, route)} table {table.number}" for route in own]
        for rule in (rule for rule in table.rules if rule_family(rule) == wanted):
            to = f" to {rule.destination}" if rule.destination else ""
            words = f"from {rule.source}{to} lookup {table.number} priority {PRIORITY}"
            # It may exist already: the kernel keeps rules when a NIC goes away.
            lines += [f"up {ip} rule add {words} || true", f"down {ip} rule del {words} || true"]
    return lines


def _of(route: Route, wanted: int) -> bool:
    return family(route.destination + (route.gateway or "")) == wanted


def _route(name: str, route: Route) -> str:
    default = route.gateway is not None and route.destination == "::/0"
    metric = _BEFORE_DHCPCD if route.metric is None and default else route.metric
    words = [route.destination]
    words += ["via", route.gateway] if route.gateway else []
    words += ["dev", name]
    words += ["onlink"] if route.on_link and route.gateway else []
    words += ["metric", str(metric)] if metric is not None else []
    return " ".join(words)


def configures(host: Host, names: frozenset[str], _mac: str) -> str:
    """Return the first file with an ``iface`` stanza for one of the names, except the agent's for DHCP."""
    for path in _files(host, but=_PREFIX + FALLBACK):
        for line in lines(host.read(path) or ""):
            fields = words(line)
            if fields[:1] == ["iface"] and names & set(fields[1:2]):
                return path
    return ""


def _files(host: Host, *, but: str) -> list[str]:
    return [INTERFACES, *(f"{_FOLDER}/{name}" for name in listed(host, _FOLDER) if not name.startswith(but))]


def prepare(host: Host, link: Link) -> None:
    """Make ifupdown read the agent's folder, and comment out the NIC's stanzas in other files."""
    main = host.read(INTERFACES)
    if main is None or not _sources(main):
        host.write(INTERFACES, (main if main is not None else _LOOPBACK) + f"\n{_SOURCE}\n")
    for path in _files(host, but=_PREFIX):
        text = host.read(path)
        if text is not None and without(text, link.interface.name) != text:
            host.write(path, without(text, link.interface.name))


def _sources(text: str) -> bool:
    folders = ("interfaces.d", f"{_FOLDER}")
    for line in lines(text):
        fields = words(line)
        if fields[:1] in (["source"], ["source-directory"]) and len(fields) > 1:
            place = fields[1].rstrip("/*")
            if place in folders:
                return True
    return False


def without(text: str, name: str) -> str:
    """Return an interfaces(5) file with all that it says of one NIC commented out, the rest unchanged."""
    kept, inside = list[str](), False
    for line in lines(text):
        fields = words(line)
        if fields and (fields[0] in _STANZAS or fields[0].startswith("allow-")):
            inside = fields[:2] == ["iface", name]
        if (inside and fields and not fields[0].startswith("#")) or _only_brings_up(fields, name):
            kept.append(_DISABLED + line)
        else:
            kept.append(_not_brought_up(line, fields, name))
    return "\n".join(kept) + ("\n" if text.endswith("\n") else "")


def _brings_up(words: list[str], name: str) -> bool:
    return bool(words) and (words[0] == "auto" or words[0].startswith("allow-")) and name in words[1:]


def _only_brings_up(words: list[str], name: str) -> bool:
    return _brings_up(words, name) and set(words[1:]) == {name}


def _not_brought_up(line: str, words: list[str], name: str) -> str:
    return " ".join(word for word in words if word != name) if _brings_up(words, name) else line


def reload(host: Host, links: Iterable[Link]) -> None:
    """Restart the NICs if networking.service is active; else start the physical ones that are not required,
    for which the boot does not wait.

    Raise the first HostError after all NICs have been tried: one that hangs must not keep others down.
    """
    changed = list(links)
    if not changed or not host.live:
        return
    running = units.is_active(host, "networking.service")
    first: HostError | None = None
    for link in changed:
        try:
            _restart(host, link, running=running)
        except HostError as error:
            first = first or error
    if first:
        raise first


def _restart(host: Host, link: Link, *, running: bool) -> None:
    if running:
        host.run(("ifdown", "--force", link.name), timeout=_IFDOWN_TIMEOUT, check=False)
    if running and link.is_virtual:
        # Not ifup@.service: that waits for the NIC, which only ifup creates. In a transient unit, so that
        # the DHCP client it starts survives the daemon's exit.
        unit, keep = f"gandi-ifup-{re.sub(_UNSAFE, '-', link.name)}", (("KillMode", "s", "process"),)
        transient.run(host, unit, ("ifup", link.name), timeout=_IFUP_TIMEOUT, properties=keep)
    elif not link.is_virtual and (running or not link.required):
        # ifupdown's unit for one NIC. It is ordered after network-pre.target, so waiting for it in a boot
        # would be a deadlock.
        host.run(("systemctl", "--no-block", "restart", f"ifup@{link.name}.service"), check=False)
