"""Renderer for systemd-networkd: one systemd.network(5) file for each NIC, matched by its MAC if the
document does not name it; for a virtual NIC a systemd.netdev(5) file too.

The names sort before those of images and administrators' wildcards (``10-gandi-…`` before ``20-wired``),
because networkd uses only the first file that matches a NIC. ``Kind=!*`` excludes bridges and VLANs, which
take over the MAC of a NIC.
"""

from __future__ import annotations

from agent.config.nics import Bond, Kind
from agent.host.sysfs import listed
from agent.lib.text import BLANKS, HEADER, WHITE, lines, words
from agent.network.interfaces import FALLBACK, ConfigFile, bond_miimon, is_plain
from agent.network.managers import NETWORKD_UNIT
from agent.systemd import units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent.config.nics import Nic, Route, Rule
    from agent.host.host import Host
    from agent.network.interfaces import Link

    #: A section's name and its lines.
    Section = tuple[str, list[str]]

NAME = "networkd"
BY_NAME = False
_PREFIX = "10-gandi-"
#: In descending order of precedence: a file hides files of the same name in later folders.
_FOLDERS = (
    "/etc/systemd/network",
    "/run/systemd/network",
    "/usr/local/lib/systemd/network",
    "/usr/lib/systemd/network",
)
#: Made by networkd when it starts.
_RUNS = "/run/systemd/netif/links"


def paths(key: str) -> tuple[str, ...]:
    """Return the NIC's .netdev file, which creates it, and its .network file, which configures it."""
    return f"{_FOLDERS[0]}/{_PREFIX}{key}.netdev", f"{_FOLDERS[0]}/{_PREFIX}{key}.network"


def render(link: Link) -> tuple[ConfigFile, ...]:
    """Return the .network file, for a virtual NIC after the .netdev file."""
    netdev, network = paths(link.key)
    device, sections = _netdev(link), _sections(link)
    if not is_plain(link.nic) or (link.master and link.master.nic.bridge):
        from agent.network import networkd_options

        device, sections = networkd_options.device(link, device), networkd_options.network(link, sections)
    made = (ConfigFile(netdev, text(device)),) if link.is_virtual else ()
    return *made, ConfigFile(network, text(sections))


def unsupported(link: Link) -> dict[str, str]:
    """Return the values without a directive, by their paths, and why; each ordinary value has one."""
    if is_plain(link.nic):
        return {}
    from agent.network import networkd_options

    return networkd_options.unsupported(link)


def text(sections: Iterable[Section]) -> str:
    """Return a file in the format of unit files; sections without lines are left out."""
    return HEADER + "\n".join(
        f"[{name}]\n" + "".join(f"{line}\n" for line in lines) for name, lines in sections if lines
    )


def _netdev(link: Link) -> list[Section]:
    nic = link.nic
    lines = [f"Name={link.name}", f"Kind={nic.kind}"] + ([f"MACAddress={nic.mac}"] if nic.mac else [])
    vlan = [f"Id={nic.vlan}"] if nic.vlan is not None else []
    return [("NetDev", lines), ("VLAN", vlan), ("Bond", _bond(nic)), ("Bridge", [])]


def _bond(nic: Nic) -> list[str]:
    if nic.kind is not Kind.BOND:
        return []
    bond = nic.bond or Bond()
    lines = [f"Mode={bond.mode}", f"MIIMonitorSec={bond_miimon(bond)}ms"]
    lines += [f"TransmitHashPolicy={bond.xmit_hash_policy}"] if bond.xmit_hash_policy else []
    return lines + ([f"LACPTransmitRate={bond.lacp_rate}"] if bond.lacp_rate else [])


def _sections(link: Link) -> list[Section]:
    head = [_match(link), _link(link)]
    if link.master:
        return [*head, ("Network", _port(link, link.master)), ("Bridge", [])]
    routes = [("Route", _route(route)) for route in link.all_routes]
    rules = [("RoutingPolicyRule", _rule(rule)) for rule in link.all_rules]
    return [*head, ("Network", _network(link)), *_dynamic(link), *routes, *rules]


def _match(link: Link) -> Section:
    nic, mac = link.nic, link.interface.mac
    if link.is_virtual or not mac or (nic.name and not nic.mac):
        return "Match", [f"Name={link.name}"]
    # A bond gives all its ports one address: a port is matched by its permanent one.
    changes = (link.master and link.master.nic.kind is Kind.BOND) or (nic.options and nic.options.set_mac)
    key = "PermanentMACAddress" if changes else "MACAddress"
    return "Match", [f"{key}={mac}", "Type=ether", "Kind=!*"]


def _link(link: Link) -> Section:
    # With a port that has no carrier, a bond or a bridge never reaches a better state.
    required = "degraded-carrier" if link.ports else "yes"
    lines = [f"RequiredForOnline={required if link.required else 'no'}"]
    return "Link", lines + ([f"MTUBytes={link.nic.mtu}"] if link.nic.mtu else [])


def _port(link: Link, master: Link) -> list[str]:
    if master.nic.kind is Kind.BRIDGE:
        return [f"Bridge={master.name}", *_vlans(link)]
    first = master.nic.bond and master.nic.bond.primary == link.nic.number
    return [f"Bond={master.name}", *(["PrimarySlave=yes"] if first else []), *_vlans(link)]


def _vlans(link: Link) -> list[str]:
    return [f"VLAN={name}" for name in link.vlans]


def _network(link: Link) -> list[str]:
    nic = link.nic
    dhcp = {(False, False): "no", (True, False): "ipv4", (False, True): "ipv6", (True, True): "yes"}
    lines = [f"DHCP={dhcp[nic.dhcp4, nic.dhcp6]}", f"IPv6AcceptRA={'yes' if nic.accept_ra else 'no'}"]
    lines += [f"Address={address}" for address in nic.addresses]
    lines += [f"DNS={server}" for server in nic.nameservers]
    lines += [f"Domains={' '.join(nic.search)}"] if nic.search else []
    # A bridge without ports never has a carrier.
    alone = ["ConfigureWithoutCarrier=yes"] if nic.kind is Kind.BRIDGE and not link.ports else []
    return lines + _vlans(link) + alone


def _dynamic(link: Link) -> list[Section]:
    four = [f"RouteMetric={link.metric4}"] if link.metric4 is not None and link.nic.dhcp4 else []
    return [("DHCPv4", four), ("DHCPv6", []), ("IPv6AcceptRA", advertised(link))]


def advertised(link: Link) -> list[str]:
    """Return the lines of the NIC's [IPv6AcceptRA] section; none if its defaults are wanted."""
    nic = link.nic
    options = [
        ("UseAutonomousPrefix=no", not nic.ra_address),
        # A router's advertisement can also start DHCPv6, which would assign an address.
        ("DHCPv6Client=no", not nic.ra_address and not nic.dhcp6),
        ("DHCPv6Client=always", nic.dhcp6),
        ("UseDNS=no", not nic.ra_dns),
        ("UseGateway=no", not nic.ra_gateway),
        (f"RouteMetric={link.metric6}", link.metric6 is not None and nic.ra_gateway),
    ]
    return [line for line, applies in options if applies] if nic.accept_ra else []


def _route(route: Route) -> list[str]:
    lines = [f"Destination={route.destination}"]
    lines += [f"Gateway={route.gateway}"] if route.gateway else []
    lines += ["GatewayOnLink=yes"] if route.on_link and route.gateway else []
    lines += [f"Type={route.type}"] if route.type != "unicast" else []
    lines += [f"Metric={route.metric}"] if route.metric is not None else []
    lines += [f"Table={route.table}"] if route.table is not None else []
    if not (options := route.options):
        return lines
    lines += [f"PreferredSource={options.source}"] if options.source else []
    lines += [f"Scope={options.scope}"] if options.scope else []
    lines += [f"MTUBytes={options.mtu}"] if options.mtu else []
    lines += [f"InitialCongestionWindow={options.initcwnd}"] if options.initcwnd else []
    return lines + ([f"InitialAdvertisedReceiveWindow={options.initrwnd}"] if options.initrwnd else [])


def _rule(rule: Rule) -> list[str]:
    lines = [f"From={rule.source}"] if rule.source else []
    lines += [f"To={rule.destination}"] if rule.destination else []
    lines += [f"Table={rule.table}"]
    lines += [f"Priority={rule.priority}"] if rule.priority is not None else []
    lines += [f"FirewallMark={rule.mark}"] if rule.mark is not None else []
    return lines + ([f"TypeOfService={rule.tos}"] if rule.tos is not None else [])


def configures(host: Host, names: frozenset[str], mac: str, *, but: str = _PREFIX + FALLBACK) -> str:
    """Return the first .network file with a [Match] section that fits the NIC, "" if there is none. Files
    with the name prefix ``but`` (by default the agent's for DHCP) do not count.
    """
    for name, path in sorted(_files(host).items()):
        if not name.startswith(but) and _fits(_match_section(host.read(path) or ""), names, mac):
            return path
    return ""


def _files(host: Host) -> dict[str, str]:
    found = ((folder, name) for folder in reversed(_FOLDERS) for name in listed(host, folder))
    return {name: f"{folder}/{name}" for folder, name in found if name.endswith(".network")}


def _match_section(text: str) -> dict[str, str]:
    section, keys = "", dict[str, str]()
    for line in (line.strip(WHITE) for line in lines(text)):
        if line.startswith("["):
            section = line
        elif section == "[Match]" and "=" in line and not line.startswith(("#", ";")):
            key, _, value = line.partition("=")
            key = key.rstrip(BLANKS)
            keys[key] = f"{keys.get(key, '')} {value}".strip(BLANKS)
    return keys


def _fits(match: dict[str, str], names: frozenset[str], mac: str) -> bool:
    """Return whether each key of the section fits the NIC. An unsupported key counts as fitting, so that the
    agent does not configure a NIC that another file may configure.
    """
    tests: dict[str, Callable[[str], bool]] = {
        "Name": lambda value: any(_glob(value, name) for name in names),
        "MACAddress": lambda value: mac in words(value.lower()),
        "PermanentMACAddress": lambda value: mac in words(value.lower()),
        "Type": lambda value: _glob(value, "ether"),
        # A physical NIC has no kind: it fits a list that excludes kinds.
        "Kind": lambda value: value.startswith("!"),
        "WLANInterfaceType": lambda _value: False,
        "SSID": lambda _value: False,
    }
    return bool(match) and all(tests[key](value) for key, value in match.items() if key in tests)


def _glob(patterns: str, name: str) -> bool:
    import fnmatch

    negative = patterns.startswith("!")
    fits = any(fnmatch.fnmatchcase(name, pattern) for pattern in words(patterns.removeprefix("!")))
    return fits != negative


def possible(_host: Host, link: Link) -> tuple[Link, dict[str, str]]:
    """Return the link: the manager itself does everything."""
    return link, {}


def prepare(host: Host, link: Link) -> None:
    """Do nothing: the agent's file sorts first."""


def reload(host: Host, links: Iterable[Link]) -> None:
    """Make a running systemd-networkd read its files again and configure the NICs with changed ones."""
    if not list(links) or not host.live or not host.exists(_RUNS):
        return
    if not units.is_active(host, NETWORKD_UNIT):
        return
    # A reload runs networkctl, which needs the system bus. A restart needs none, and keeps addresses.
    verb = "reload" if host.exists("/run/dbus/system_bus_socket") else "restart"
    host.run(("systemctl", "--no-block", verb, NETWORKD_UNIT))
