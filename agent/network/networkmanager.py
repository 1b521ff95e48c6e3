"""Renderer for NetworkManager: one keyfile (nm-settings-keyfile(5)) for each NIC.

NetworkManager processes router advertisements itself, and uses all addresses of one or none. Where the
document wants no such address, advertisements are accepted only if they supply the default route.
"""

from __future__ import annotations

from agent.config.nics import Bond, Kind
from agent.host.sysfs import listed
from agent.lib.text import WHITE, lines
from agent.network.interfaces import FALLBACK, MIIMON, ConfigFile, family, rule_family
from agent.network.managers import NETWORKMANAGER_UNIT
from agent.network.multihoming import PRIORITY
from agent.systemd import units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.config.nics import Route
    from agent.host.host import Host
    from agent.network.interfaces import Link

    #: A group's name, and its keys and values.
    Group = tuple[str, dict[str, object]]

NAME = "networkmanager"
BY_NAME = False
_FOLDER = "/etc/NetworkManager/system-connections"
_FOLDERS = (_FOLDER, "/run/NetworkManager/system-connections", "/usr/lib/NetworkManager/system-connections")
_PREFIX = "gandi-"
#: Above that of the image's profiles that fit the NIC too (default 0).
_PRIORITY = 100
#: Seconds for nmcli, which is run without waiting for a NIC to be up.
_TIMEOUT = 20.0
#: Written as the gateway of a route without one: the metric is the next field.
_NO_GATEWAY = {4: "0.0.0.0", 6: "::"}  # noqa: S104 - not an address to listen at
_TYPES = {Kind.PHYSICAL: "ethernet"}


def paths(key: str) -> tuple[str, ...]:
    """Return the NIC's keyfile."""
    return (f"{_FOLDER}/{_PREFIX}{key}.nmconnection",)


def render(link: Link) -> tuple[ConfigFile, ...]:
    """Return the keyfile, mode 0600: NetworkManager ignores one that other users can read."""
    groups = [("connection", _connection(link)), ("ethernet", _ethernet(link)), *_made(link)]
    if not link.master:
        groups += [("ipv4", _ipv4(link)), ("ipv6", _ipv6(link))]
    text = "# Written by gandi-agent; once changed, it is left alone.\n" + "\n".join(
        f"[{name}]\n" + "".join(f"{key}={_value(value)}\n" for key, value in keys.items())
        for name, keys in groups
        if keys
    )
    return (ConfigFile(paths(link.key)[0], text, 0o600),)


def _value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _connection(link: Link) -> dict[str, object]:
    keys: dict[str, object] = {
        "id": f"{_PREFIX}{link.key}",
        "type": _TYPES.get(link.nic.kind, str(link.nic.kind)),
        "autoconnect-priority": _PRIORITY,
    }
    if not _by_mac(link):
        keys["interface-name"] = link.name
    if link.master:
        keys |= {"master": link.master.name, "slave-type": link.master.nic.kind}
    # A port does not bring up its master; a bond or bridge without this waits for its ports.
    return keys | ({"autoconnect-slaves": 1} if link.ports else {})


def _by_mac(link: Link) -> bool:
    named = link.nic.name and not link.nic.mac
    return bool(link.interface.mac) and not link.is_virtual and not named


def _ethernet(link: Link) -> dict[str, object]:
    keys: dict[str, object] = {}
    if _by_mac(link):
        keys["mac-address"] = link.interface.mac.upper()
    if link.is_virtual and link.nic.mac:
        keys["cloned-mac-address"] = link.nic.mac.upper()
    return keys | ({"mtu": link.nic.mtu} if link.nic.mtu else {})


def _made(link: Link) -> list[Group]:
    nic = link.nic
    if link.parent:
        return [("vlan", {"id": nic.vlan, "parent": link.parent.name})]
    if nic.kind is Kind.BRIDGE:
        return [("bridge", {"stp": False})]
    if nic.kind is not Kind.BOND:
        return []
    bond = nic.bond or Bond()
    options = {
        "mode": bond.mode,
        "miimon": bond.miimon or MIIMON,
        "xmit_hash_policy": bond.xmit_hash_policy,
        "lacp_rate": bond.lacp_rate,
        "primary": next((p.name for p in link.ports if p.nic.number == bond.primary), None),
    }
    return [("bond", {key: value for key, value in options.items() if value})]


def _ipv4(link: Link) -> dict[str, object]:
    addresses = _addresses(link, 4)
    if not _has_ipv4(link):
        # No other key is allowed with this method. An IPv4 resolver is reached by another NIC.
        return {"method": "disabled"}
    method = "auto" if link.nic.dhcp4 else "manual"
    metric = {"route-metric": link.metric4} if link.metric4 is not None else {}
    return {"method": method, **addresses, **metric, **_resolvers(link, 4), **_routing(link, 4)}


def _has_ipv4(link: Link) -> bool:
    return link.nic.dhcp4 or bool(_addresses(link, 4))


def _ipv6(link: Link) -> dict[str, object]:
    nic, addresses = link.nic, _addresses(link, 6)
    if link.accepts_router_advertisements:
        keys: dict[str, object] = {"method": "auto", "ignore-auto-routes": not nic.ra_gateway}
        keys |= {"ignore-auto-dns": not nic.ra_dns}
        keys = {key: value for key, value in keys.items() if value}
    else:
        keys = {"method": "dhcp" if nic.dhcp6 else "manual" if addresses else "link-local"}
    metric = {"route-metric": link.metric6} if link.metric6 is not None else {}
    return {**keys, **addresses, **metric, **_resolvers(link, 6), **_routing(link, 6)}


def _addresses(link: Link, wanted: int) -> dict[str, object]:
    own = (address for address in link.nic.addresses if family(address) == wanted)
    return {f"address{number}": address for number, address in enumerate(own, start=1)}


def _resolvers(link: Link, wanted: int) -> dict[str, object]:
    own = [server for server in link.nic.nameservers if family(server) == wanted]
    keys: dict[str, object] = {"dns": "".join(f"{server};" for server in own)} if own else {}
    # Search domains apply to both families: written once.
    first = 4 if _has_ipv4(link) else 6
    search = "".join(f"{domain};" for domain in link.nic.search) if wanted == first else ""
    return keys | ({"dns-search": search} if search else {})


def unsupported(link: Link) -> dict[str, str]:
    """Return every rare value: this renderer writes none of them."""
    from agent.network import limits

    return {path: "not written" for _key, path, _value in limits.rare(link.nic)}


def _routing(link: Link, wanted: int) -> dict[str, object]:
    keys: dict[str, object] = {}
    own: list[tuple[Route, int | None]] = [(route, None) for route in link.routes]
    own += [(route, link.table.number) for route in link.table.routes] if link.table else []
    mine = [(route, table) for route, table in own if family(route.destination) == wanted]
    for number, (route, table) in enumerate(mine, start=1):
        keys[f"route{number}"] = _route(route)
        options = ["onlink=true"] if route.on_link and route.gateway else []
        options += [f"table={table}"] if table is not None else []
        if options:
            keys[f"route{number}_options"] = ",".join(options)
    rules = link.table.rules if link.table else ()
    for number, rule in enumerate((r for r in rules if rule_family(r) == wanted), start=1):
        to = f" to {rule.destination}" if rule.destination else ""
        where = f"table {link.table.number}" if link.table else ""
        keys[f"routing-rule{number}"] = f"priority {PRIORITY} from {rule.source}{to} {where}"
    return keys


def _route(route: Route) -> str:
    words = [route.destination]
    if route.gateway or route.metric is not None:
        words.append(route.gateway or _NO_GATEWAY[family(route.destination)])
    return ",".join(words + ([str(route.metric)] if route.metric is not None else []))


def configures(host: Host, names: frozenset[str], mac: str, *, but: str = _PREFIX + FALLBACK) -> str:
    """Return the first Ethernet profile that fits the NIC, by name, MAC, or because it has neither; "" if
    there is none. Files with the name prefix ``but`` (by default the agent's for DHCP) do not count.
    """
    for folder in _FOLDERS:
        for name in listed(host, folder):
            if not name.startswith(but) and _fits(host.read(f"{folder}/{name}") or "", names, mac):
                return f"{folder}/{name}"
    return ""


def _fits(text: str, names: frozenset[str], mac: str) -> bool:
    pairs = (line.partition("=") for line in lines(text))
    keys = {key.strip(WHITE): value.strip(WHITE) for key, _, value in pairs}
    if keys.get("type") not in ("ethernet", "802-3-ethernet"):
        return False
    return keys.get("interface-name") in (None, *names) and keys.get("mac-address", mac).lower() == mac


def prepare(host: Host, link: Link) -> None:
    """Do nothing: the agent's profiles have a higher priority."""


def reload(host: Host, links: Iterable[Link]) -> None:
    """Make a running NetworkManager read its files again and activate the changed profiles."""
    touched = list(links)
    if touched and units.is_active(host, NETWORKMANAGER_UNIT):
        activate(host, [f"{_PREFIX}{link.key}" for link in touched])


def activate(host: Host, names: Iterable[str]) -> None:
    """Activate the profiles with those ids again. NetworkManager must be running, and so D-Bus is.

    Raise HostError if nmcli cannot make it read its files.
    """
    host.run(("nmcli", "connection", "reload"), timeout=_TIMEOUT)
    for name in names:
        # A NIC without carrier cannot be activated now; NetworkManager does so as soon as it has one.
        host.run(("nmcli", "--wait", "0", "connection", "up", "id", name), timeout=_TIMEOUT, check=False)
