"""Renderer for ifupdown: one interfaces(5) file for each NIC below /etc/network/interfaces.d.

ifupdown adds up all stanzas of one name, so an ``iface eth0`` that the image brought would configure the
NIC twice: when ours is written, such stanzas in other files are commented out (``prepare``), each line
still there to be read. What the administrator adds later is not touched, because our file is then no
longer written.
"""

from __future__ import annotations

from agent import units
from agent.network.links import FALLBACK
from agent.sysfs import listed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.host import Host
    from agent.model import Nic, Route
    from agent.network.links import Link

NAME = "ifupdown"
BY_NAME = True
INTERFACES = "/etc/network/interfaces"
_FOLDER = "/etc/network/interfaces.d"
_PREFIX = "gandi-"
_SOURCE = f"source {_FOLDER}/*"
_LOOPBACK = "auto lo\niface lo inet loopback\n"
_DISABLED = "# gandi-agent: "
_FALLBACK_METRIC = 2048
#: Words that begin a stanza and so end the one before (interfaces(5)).
_STANZAS = ("iface", "mapping", "auto", "source", "source-directory", "rename", "no-auto-down", "no-scripts")
_IFDOWN_TIMEOUT = 30.0


def manages(host: Host) -> bool:
    """Whether ifup is installed and networking.service enabled."""
    return host.which("ifup") and units.enabled(host, "networking.service")


def path(key: str) -> str:
    """Our file for that NIC."""
    return f"{_FOLDER}/{_PREFIX}{key}"


def render(link: Link) -> str:
    """The NIC's stanzas.

    ``auto`` NICs are waited for by the boot, so one that may be dead and needs an answer (DHCP on a NIC
    that is not required) is brought up as hot-plugged ones are.
    """
    name, nic = link.interface.name, link.nic
    old, new = _ipv4(name, link), _ipv6(name, nic)
    for stanzas, family in ((old, 4), (new, 6)):
        if stanzas:
            stanzas[-1] += _routes(name, nic, family)
    stanzas = old + new or [[f"iface {name} inet manual"]]
    stanzas[0] += _common(name, nic)
    waits = nic.dhcp4 or nic.dhcp6
    lines = [] if waits and not link.required else [f"auto {name}"]
    lines += [f"allow-hotplug {name}", *("\n    ".join(stanza) for stanza in stanzas)]
    return "# Written by gandi-agent; once changed, it is left alone.\n" + "\n".join(lines) + "\n"


def _ipv4(name: str, link: Link) -> list[list[str]]:
    nic = link.nic
    dhcp = [[f"iface {name} inet dhcp"]] if nic.dhcp4 else []
    if dhcp and link.fallback and not link.required:
        dhcp[0].append(f"metric {_FALLBACK_METRIC}")
    static = (address for address in nic.addresses if ":" not in address)
    return dhcp + [[f"iface {name} inet static", f"address {address}"] for address in static]


def _ipv6(name: str, nic: Nic) -> list[list[str]]:
    stanzas = [[f"iface {name} inet6 dhcp"]] if nic.dhcp6 else []
    for address in (address for address in nic.addresses if ":" in address):
        # accept_ra is 0 for this method unless told; a NIC without carrier never ends duplicate address
        # detection, and the boot would wait for it.
        words = [f"address {address}", f"accept_ra {int(nic.accept_ra)}", f"autoconf {int(nic.ra_address)}"]
        stanzas.append([f"iface {name} inet6 static", *words, "dad-attempts 0"])
    return stanzas


def _common(name: str, nic: Nic) -> list[str]:
    """What must be set before the NIC is up for the first time, whichever family brings it up: a router's
    advertisement comes at once. In the kernel's own names (ip-sysctl.rst), where it has IPv6.
    """
    off = {"accept_ra": nic.accept_ra, "autoconf": nic.ra_address, "accept_ra_defrtr": nic.ra_gateway}
    folder = f"/proc/sys/net/ipv6/conf/{name}"
    lines = [f"pre-up echo 0 > {folder}/{key} || true" for key, wanted in off.items() if not wanted]
    lines += [f"pre-up ip link set dev {name} mtu {nic.mtu}"] if nic.mtu else []
    return lines + ([f"dns-nameservers {' '.join(nic.nameservers)}"] if nic.nameservers else [])


def _routes(name: str, nic: Nic, family: int) -> list[str]:
    routes = (r for r in nic.routes if (":" in r.destination + (r.gateway or "")) == (family == 6))
    return [f"up ip -{family} route replace {_route(name, route)}" for route in routes]


def _route(name: str, route: Route) -> str:
    words = [route.destination]
    words += ["via", route.gateway] if route.gateway else []
    words += ["dev", name]
    words += ["onlink"] if route.on_link and route.gateway else []
    words += ["metric", str(route.metric)] if route.metric is not None else []
    return " ".join(words)


def configures(host: Host, names: frozenset[str], _mac: str) -> str:
    """The file, except ours for DHCP, that has an ``iface`` stanza for one of the names."""
    for found in _files(host, but=_PREFIX + FALLBACK):
        for line in (host.read(found) or "").splitlines():
            if line.split()[:1] == ["iface"] and names & set(line.split()[1:2]):
                return found
    return ""


def _files(host: Host, *, but: str) -> list[str]:
    return [INTERFACES, *(f"{_FOLDER}/{name}" for name in listed(host, _FOLDER) if not name.startswith(but))]


def prepare(host: Host, link: Link) -> None:
    """Have our folder read, and comment out what other files say of the NIC."""
    main = host.read(INTERFACES)
    if main is None or not _sources(main):
        host.write(INTERFACES, (main if main is not None else _LOOPBACK) + f"\n{_SOURCE}\n")
    for found in _files(host, but=_PREFIX):
        text = host.read(found)
        if text is not None and without(text, link.interface.name) != text:
            host.write(found, without(text, link.interface.name))


def _sources(text: str) -> bool:
    folders = ("interfaces.d", f"{_FOLDER}")
    for line in text.splitlines():
        words = line.split()
        if words[:1] in (["source"], ["source-directory"]) and len(words) > 1:
            place = words[1].rstrip("/*")
            if place in folders:
                return True
    return False


def without(text: str, name: str) -> str:
    """An interfaces(5) file with all that it says of one NIC commented out, the rest as it was."""
    lines, inside = list[str](), False
    for line in text.splitlines():
        words = line.split()
        if words and (words[0] in _STANZAS or words[0].startswith("allow-")):
            inside = words[:2] == ["iface", name]
        if (inside and words and not words[0].startswith("#")) or _only_brings_up(words, name):
            lines.append(_DISABLED + line)
        else:
            lines.append(_not_brought_up(line, words, name))
    return "\n".join(lines) + ("\n" if text.endswith("\n") else "")


def _brings_up(words: list[str], name: str) -> bool:
    return bool(words) and (words[0] == "auto" or words[0].startswith("allow-")) and name in words[1:]


def _only_brings_up(words: list[str], name: str) -> bool:
    return _brings_up(words, name) and set(words[1:]) == {name}


def _not_brought_up(line: str, words: list[str], name: str) -> str:
    return " ".join(word for word in words if word != name) if _brings_up(words, name) else line


def reload(host: Host, links: Iterable[Link]) -> None:
    """Bring up the NICs that the boot does not wait for, and those whose file has changed after
    networking.service.
    """
    if not host.live:
        return
    asked = ("systemctl", "is-active", "--quiet", "networking.service")
    running: bool | None = None
    for link in links:
        name = link.interface.name
        running = not host.run(asked, changes=False, check=False).returncode if running is None else running
        if running:
            host.run(("ifdown", "--force", name), timeout=_IFDOWN_TIMEOUT, check=False)
        if running or not link.required:
            # ifupdown's own unit for one NIC; it is ordered after network-pre.target, so it must not be
            # waited for.
            host.run(("systemctl", "--no-block", "restart", f"ifup@{name}.service"), check=False)
