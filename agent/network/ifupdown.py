"""Renderer for ifupdown: one interfaces(5) file for each NIC below /etc/network/interfaces.d.

ifupdown merges all stanzas of one name, so an ``iface eth0`` from the image would configure the NIC a second
time. ``prepare`` comments out such stanzas in other files whenever the agent's file is written. Stanzas that
the administrator adds later are not touched: the agent's file is then no longer written.
"""

from __future__ import annotations

import re

from agent.host.sysfs import listed
from agent.lib.errors import HostError
from agent.lib.records import replace
from agent.lib.text import HEADER, lines, words
from agent.network import ifupdown_lines
from agent.network.ifupdown_virtual import stanza_lines
from agent.network.interfaces import FALLBACK, ConfigFile, is_plain
from agent.systemd import transient, units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

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
#: The only client that the method dhcp of inet6 starts (inet6.defn).
_DHCPV6_CLIENT = "/sbin/dhclient"
_IP_TIMEOUT, _IFDOWN_TIMEOUT, _IFUP_TIMEOUT = 5.0, 30.0, 60.0
#: Characters of a NIC's name that are replaced in the name of its transient unit.
_UNSAFE = r"[^A-Za-z0-9]"


def paths(key: str) -> tuple[str, ...]:
    """Return the NIC's file."""
    return (f"{_FOLDER}/{_PREFIX}{key}",)


def render(link: Link) -> tuple[ConfigFile, ...]:
    """Return the file with the NIC's stanzas."""
    name, nic = link.name, link.nic
    stanzas = [[f"iface {name} inet loopback", *ifupdown_lines.of_loopback(link)]] if nic.loopback else []
    for wanted, inet, of in ((4, "inet", _ipv4), (6, "inet6", _ipv6)):
        if not link.master:
            own = [] if nic.loopback else of(link)
            lines = ifupdown_lines.routing(link, wanted)
            if lines and not own:
                own = [[f"iface {name} {inet} manual"]]
            if lines:
                own[-1] += lines
            stanzas += own
    stanzas = stanzas or [[f"iface {name} inet manual"]]
    settings = [] if nic.loopback else ifupdown_lines.settings(link)
    stanzas[0] += [*stanza_lines(link), *settings, *_common(link)]
    lines = [*_brought_up(link), *("\n    ".join(stanza) for stanza in stanzas)]
    text = HEADER + "\n".join(lines) + "\n"
    return (ConfigFile(paths(link.key)[0], text),)


def _brought_up(link: Link) -> list[str]:
    """Return the lines that say when the NIC is brought up and down.

    The boot waits for ``auto`` NICs. A physical NIC that needs an answer (DHCP) and is not required may be
    unconnected, so it only gets ``allow-hotplug``. A virtual NIC is never hot-plugged: always ``auto``.
    """
    nic, lines = link.nic, list[str]()
    if not link.activation_mode:
        waits = (nic.dhcp4 or nic.dhcp6) and not link.master
        lines += [] if waits and not link.required and not link.is_virtual else [f"auto {link.name}"]
        lines += [] if link.is_virtual or nic.loopback else [f"allow-hotplug {link.name}"]
    stays = nic.options and nic.options.critical and not link.master
    return lines + ([f"no-auto-down {link.name}"] if stays else [])


def _ipv4(link: Link) -> list[list[str]]:
    nic, dhcp = link.nic, [f"iface {link.name} inet dhcp"]
    if not nic.dhcp4:
        return ifupdown_lines.addresses(link, 4)
    given = nic.options.dhcp4 if nic.options else None
    dhcp += [f"metric {link.metric4}"] if link.metric4 is not None else []
    if given and given.hostname and given.send_hostname is not False:
        dhcp.append(ifupdown_lines.command(f"hostname {given.hostname}"))
    if given and given.identifier == "mac" and link.interface.mac:
        # RFC 2132, section 9.14: the type of the hardware (1 for Ethernet) and the address.
        dhcp.append(f"client 01:{link.interface.mac}")
    return [dhcp, *ifupdown_lines.addresses(link, 4)]


def _ipv6(link: Link) -> list[list[str]]:
    dhcp = [[f"iface {link.name} inet6 dhcp"]] if link.nic.dhcp6 else []
    return dhcp + ifupdown_lines.addresses(link, 6)


def _common(link: Link) -> list[str]:
    nic = link.nic
    lines = [f"pre-up ip link set dev {link.name} mtu {nic.mtu}"] if nic.mtu else []
    lines += [f"dns-nameservers {' '.join(nic.nameservers)}"] if nic.nameservers else []
    return lines + ([f"dns-search {' '.join(nic.search)}"] if nic.search else [])


def unsupported(link: Link) -> dict[str, str]:
    """Return which of the NIC's values are not written, by their paths, and why."""
    if is_plain(link.nic):
        return {}
    from agent.network import ifupdown_limits

    return ifupdown_limits.unsupported(link)


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


def possible(host: Host, link: Link) -> tuple[Link, dict[str, str]]:
    """Return the link without DHCPv6 if ifup would fail: it then stops the client for IPv4 too."""
    if not link.nic.dhcp6 or link.master or host.exists(_DHCPV6_CLIENT):
        return link, {}
    why = f"{_DHCPV6_CLIENT} is missing, which ifup needs for DHCPv6"
    return replace(link, nic=replace(link.nic, dhcp6=False)), {"dhcp6": why}


def prepare(host: Host, link: Link) -> None:
    """Make ifupdown read the agent's folder, and comment out the NIC's stanzas in other files; those of lo
    only bring it up, and stay.
    """
    if (old := host.read(paths(link.key)[0])) and units.is_active(host, "networking.service"):
        _undo(host, old)
    main = host.read(INTERFACES)
    if main is None or not _sources(main):
        host.write(INTERFACES, (main if main is not None else _LOOPBACK) + f"\n{_SOURCE}\n")
    for path in () if link.nic.loopback else _files(host, but=_PREFIX):
        text = host.read(path)
        if text is not None and without(text, link.interface.name) != text:
            host.write(path, without(text, link.interface.name))


def _undo(host: Host, old: str) -> None:
    """Run the down lines of the NIC's file before it changes: ifdown runs after that, with the lines of
    the new one only. A failure means that there is nothing to remove.
    """
    for line in lines(old):
        fields = words(line)
        if fields[:2] == ["down", "ip"]:
            argv = fields[1:-2] if fields[-2:] == ["||", "true"] else fields[1:]
            host.run(tuple(argv), timeout=_IP_TIMEOUT, check=False)


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
    if running and link.activation_mode != "manual":
        host.run(("ifdown", "--force", link.name), timeout=_IFDOWN_TIMEOUT, check=False)
    if link.activation_mode:
        return
    if running and link.is_virtual:
        # Not ifup@.service: that waits for the NIC, which only ifup creates. In a transient unit, so that
        # the DHCP client it starts survives the daemon's exit.
        unit, keep = f"gandi-ifup-{re.sub(_UNSAFE, '-', link.name)}", (("KillMode", "s", "process"),)
        transient.run(host, unit, ("ifup", link.name), timeout=_IFUP_TIMEOUT, properties=keep)
    elif not link.is_virtual and (running or not link.required):
        # ifupdown's unit for one NIC. It is ordered after network-pre.target, so waiting for it in a boot
        # would be a deadlock.
        host.run(("systemctl", "--no-block", "restart", f"ifup@{link.name}.service"), check=False)
