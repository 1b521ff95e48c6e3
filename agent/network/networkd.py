"""Renderer for systemd-networkd: one systemd.network(5) file for each NIC, matched by its MAC.

The names sort before those of images and administrators' wildcards (``10-gandi-…`` before ``20-wired``),
because the first file that matches a NIC is the only one that counts. ``Kind=!*`` keeps bridges and
VLANs out, which take over the MAC of a NIC.
"""

from __future__ import annotations

from agent import units
from agent.network.links import FALLBACK
from agent.sysfs import listed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from agent.host import Host
    from agent.model import Nic, Route
    from agent.network.links import Link

NAME = "networkd"
BY_NAME = False
_UNIT = "systemd-networkd.service"
_PREFIX = "10-gandi-"
#: In descending order of precedence: a file hides those of its name in later folders.
_FOLDERS = (
    "/etc/systemd/network",
    "/run/systemd/network",
    "/usr/local/lib/systemd/network",
    "/usr/lib/systemd/network",
)
#: Behind every route with a metric that networkd itself chooses (1024).
_FALLBACK_METRIC = 2048
_RUNS = "/run/systemd/netif/links"


def manages(host: Host) -> bool:
    """Whether systemd-networkd is enabled and not masked."""
    return units.enabled(host, _UNIT)


def path(key: str) -> str:
    """Our file for that NIC."""
    return f"{_FOLDERS[0]}/{_PREFIX}{key}.network"


def render(link: Link) -> str:
    """The .network file."""
    sections = [_match(link), _link(link), _network(link.nic), *_dhcp(link), *map(_route, link.nic.routes)]
    header = "# Written by gandi-agent; once changed, it is left alone.\n"
    return header + "\n".join(
        f"[{name}]\n" + "".join(f"{line}\n" for line in lines) for name, lines in sections
    )


def _match(link: Link) -> tuple[str, list[str]]:
    if not link.interface.mac:
        return "Match", [f"Name={link.interface.name}"]
    return "Match", [f"MACAddress={link.interface.mac}", "Type=ether", "Kind=!*"]


def _link(link: Link) -> tuple[str, list[str]]:
    lines = [f"RequiredForOnline={'yes' if link.required else 'no'}"]
    return "Link", lines + ([f"MTUBytes={link.nic.mtu}"] if link.nic.mtu else [])


def _network(nic: Nic) -> tuple[str, list[str]]:
    dhcp = {(False, False): "no", (True, False): "ipv4", (False, True): "ipv6", (True, True): "yes"}
    lines = [f"DHCP={dhcp[nic.dhcp4, nic.dhcp6]}", f"IPv6AcceptRA={'yes' if nic.accept_ra else 'no'}"]
    lines += [f"Address={address}" for address in nic.addresses]
    return "Network", lines + [f"DNS={server}" for server in nic.nameservers]


def _dhcp(link: Link) -> Iterator[tuple[str, list[str]]]:
    nic = link.nic
    metric = [f"RouteMetric={_FALLBACK_METRIC}"] if link.fallback and not link.required else []
    if nic.dhcp4 and metric:
        yield "DHCPv4", metric
    advertised = [
        ("UseAutonomousPrefix=no", not nic.ra_address),
        # A router's advertisement can also ask for DHCPv6, which would bring an address.
        ("DHCPv6Client=no", not nic.ra_address and not nic.dhcp6),
        ("DHCPv6Client=always", nic.dhcp6),
        ("UseDNS=no", not nic.ra_dns),
        ("UseGateway=no", not nic.ra_gateway),
    ]
    lines = [line for line, applies in advertised if applies] + metric
    if nic.accept_ra and lines:
        yield "IPv6AcceptRA", lines


def _route(route: Route) -> tuple[str, list[str]]:
    lines = [f"Destination={route.destination}"]
    if route.gateway:
        lines.append(f"Gateway={route.gateway}")
    if route.on_link and route.gateway:
        lines.append("GatewayOnLink=yes")
    return "Route", lines + ([f"Metric={route.metric}"] if route.metric is not None else [])


def configures(host: Host, names: frozenset[str], mac: str) -> str:
    """The first .network file, except ours for DHCP, whose [Match] section fits the NIC."""
    for name, found in sorted(_files(host).items()):
        if not name.startswith(_PREFIX + FALLBACK) and _fits(
            _match_section(host.read(found) or ""), names, mac
        ):
            return found
    return ""


def _files(host: Host) -> dict[str, str]:
    found: dict[str, str] = {}
    for folder in _FOLDERS:
        for name in listed(host, folder):
            if name.endswith(".network"):
                found.setdefault(name, f"{folder}/{name}")
    return found


def _match_section(text: str) -> dict[str, str]:
    section, found = "", dict[str, str]()
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            section = line
        elif section == "[Match]" and "=" in line and not line.startswith(("#", ";")):
            key, _, value = line.partition("=")
            found[key.strip()] = f"{found.get(key.strip(), '')} {value.strip()}".strip()
    return found


def _fits(match: dict[str, str], names: frozenset[str], mac: str) -> bool:
    """Whether all that the section asks for fits; a key that is not known here is taken to fit, so the NIC
    is left.
    """
    tests: dict[str, Callable[[str], bool]] = {
        "Name": lambda value: any(_glob(value, name) for name in names),
        "MACAddress": lambda value: mac in value.lower().split(),
        "PermanentMACAddress": lambda value: mac in value.lower().split(),
        "Type": lambda value: _glob(value, "ether"),
        # A physical NIC has no kind; a list that only excludes some fits it.
        "Kind": lambda value: value.startswith("!"),
        "WLANInterfaceType": lambda _value: False,
        "SSID": lambda _value: False,
    }
    return bool(match) and all(tests[key](value) for key, value in match.items() if key in tests)


def _glob(patterns: str, name: str) -> bool:
    import fnmatch

    negative = patterns.startswith("!")
    fits = any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns.removeprefix("!").split())
    return fits != negative


def prepare(host: Host, link: Link) -> None:
    """Nothing to do: the name of our file puts it first."""


def reload(host: Host, links: Iterable[Link]) -> None:
    """Have a running systemd-networkd read its files again and configure the NICs whose file has changed."""
    if not list(links) or not host.live or not host.exists(_RUNS):
        return
    active = host.run(("systemctl", "is-active", "--quiet", _UNIT), changes=False, check=False)
    if active.returncode:
        return
    # networkctl, which a reload runs, speaks over the system bus; a restart keeps addresses and needs no
    # bus.
    how = "reload" if host.exists("/run/dbus/system_bus_socket") else "restart"
    host.run(("systemctl", "--no-block", how, _UNIT))
