"""Renderer for NetworkManager: one keyfile (nm-settings-keyfile(5)) for each NIC."""

from __future__ import annotations

from agent.config.nics import Bond, Bridge, Kind
from agent.host.sysfs import listed
from agent.lib.records import asdict, replace
from agent.lib.text import WHITE, lines
from agent.network import networkmanager_ip
from agent.network.interfaces import FALLBACK, ConfigFile, bond_miimon
from agent.network.managers import NETWORKMANAGER_UNIT
from agent.systemd import units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

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
_TYPES = {Kind.PHYSICAL: "ethernet"}
#: wake-on-lan: by nothing, or by a magic packet.
_WAKE = {False: 0, True: 64}
#: The modes in which an option of a bond is allowed; all where it is not listed.
_WITHOUT_LACP = ("balance-rr", "active-backup", "balance-xor", "broadcast")
_MODES = {
    "lacp_rate": ("802.3ad",),
    "packets_per_slave": ("balance-rr",),
    "primary": ("active-backup", "balance-tlb", "balance-alb"),
    **dict.fromkeys(("arp_interval", "arp_ip_target", "arp_validate", "arp_all_targets"), _WITHOUT_LACP),
}
#: Options of a bridge that are in the profiles of its ports.
_OF_PORTS = ("port_priority", "path_cost")
#: The limits of a bridge's times in seconds.
_LIMITS = {"forward_delay": (2, 30), "hello_time": (1, 10), "max_age": (6, 40)}


def paths(key: str) -> tuple[str, ...]:
    """Return the NIC's keyfile."""
    return (f"{_FOLDER}/{_PREFIX}{key}.nmconnection",)


def render(link: Link) -> tuple[ConfigFile, ...]:
    """Return the keyfile, mode 0600: NetworkManager ignores one that other users can read."""
    hardware = "loopback" if link.nic.loopback else "ethernet"
    groups = [("connection", _connection(link)), (hardware, _ethernet(link)), *_made(link)]
    if link.master:
        groups.append(("bridge-port", _bridge_port(link, link.master)))
    else:
        ip = networkmanager_ip
        groups += [("ipv4", ip.ipv4(link)), ("ipv6", ip.ipv6(link)), ("hostname", ip.hostname(link))]
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
        "type": "loopback" if link.nic.loopback else _TYPES.get(link.nic.kind, str(link.nic.kind)),
        "autoconnect-priority": _PRIORITY,
    }
    if _mode(link):
        keys["autoconnect"] = False
    if not _by_mac(link):
        keys["interface-name"] = link.name
    if link.master:
        keys |= {"master": link.master.name, "slave-type": link.master.nic.kind}
    # A port does not bring up its master; a bond or bridge without this waits for its ports.
    return keys | ({"autoconnect-slaves": 1} if link.ports else {})


def _mode(link: Link) -> str | None:
    return link.nic.options.activation_mode if link.nic.options else None


def _by_mac(link: Link) -> bool:
    named = link.nic.name and not link.nic.mac
    return bool(link.interface.mac) and not link.is_virtual and not named


def _ethernet(link: Link) -> dict[str, object]:
    keys: dict[str, object] = {}
    if _by_mac(link):
        keys["mac-address"] = link.interface.mac.upper()
    if link.is_virtual and link.nic.mac:
        keys["cloned-mac-address"] = link.nic.mac.upper()
    if (options := link.nic.options) and not link.nic.loopback:
        keys |= {"cloned-mac-address": options.set_mac.upper()} if options.set_mac else {}
        keys |= {"wake-on-lan": _WAKE[options.wake_on_lan]} if options.wake_on_lan is not None else {}
    return keys | ({"mtu": link.nic.mtu} if link.nic.mtu else {})


def _made(link: Link) -> list[Group]:
    nic = link.nic
    if link.parent:
        return [("vlan", {"id": nic.vlan, "parent": link.parent.name})]
    if nic.kind is Kind.BRIDGE:
        return [("bridge", {"stp": False} | bridge_options(link)[0])]
    return [("bond", bond_options(link)[0])] if nic.kind is Kind.BOND else []


def bond_options(link: Link) -> tuple[dict[str, object], dict[str, str]]:
    """Return the bond's options, and why others are left out: with one that its mode lacks, NetworkManager
    refuses the whole profile.
    """
    bond, refused = link.nic.bond or Bond(), dict[str, str]()
    by_arp = bond.mode in _WITHOUT_LACP and bool(bond.options and bond.options.arp_ip_target)
    miimon = bond_miimon(bond if by_arp else replace(bond, options=None))
    given: dict[str, object] = {
        "mode": bond.mode,
        "miimon": miimon,
        "xmit_hash_policy": bond.xmit_hash_policy,
        "lacp_rate": bond.lacp_rate,
        "primary": next((p.name for p in link.ports if p.nic.number == bond.primary), None),
    }
    if bond.options:
        given |= asdict(bond.options)
        given["arp_ip_target"] = ",".join(bond.options.arp_ip_target) or None
        given["all_slaves_active"] = _number(bond.options.all_slaves_active)
    given = {key: value for key, value in given.items() if value is not None}
    for key in given:
        if bond.mode not in _MODES.get(key, (bond.mode,)):
            refused[key] = f"not in the mode {bond.mode}"
        elif key in ("updelay", "downdelay") and not miimon:
            refused[key] = "not without miimon"
        elif key.startswith("arp_") and not {"arp_interval", "arp_ip_target"} <= given.keys():
            refused[key] = "arp_interval and arp_ip_target need each other"
    return {key: value for key, value in given.items() if key not in refused}, refused


def bridge_options(link: Link) -> tuple[dict[str, object], dict[str, str]]:
    """Return the bridge's options, and why others are left out: NetworkManager ignores one that is outside
    the kernel's limits.
    """
    given = asdict(link.nic.bridge) if link.nic.bridge else {}
    given = {key: of for key, of in given.items() if of is not None and key not in _OF_PORTS}
    refused = dict[str, str]()
    for key, (least, most) in _LIMITS.items():
        if key in given and not least <= given[key] <= most:
            refused[key] = f"not from {least} to {most}"
    return {key.replace("_", "-"): of for key, of in given.items() if key not in refused}, refused


def _bridge_port(link: Link, bridge: Link) -> dict[str, object]:
    of = bridge.nic.bridge or Bridge()
    given = {"priority": dict(of.port_priority), "path-cost": dict(of.path_cost)}
    return {key: by[link.nic.number] for key, by in given.items() if link.nic.number in by}


def _number(value: bool | None) -> int | None:  # noqa: FBT001 - a value of the document
    return None if value is None else int(value)


def unsupported(link: Link) -> dict[str, str]:
    """Return which of the NIC's values are not written, by their paths, and why."""
    from agent.network import networkmanager_limits

    return networkmanager_limits.unsupported(link)


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
        activate(host, [f"{_PREFIX}{link.key}" for link in touched if not _mode(link)])


def activate(host: Host, names: Iterable[str]) -> None:
    """Activate the profiles with those ids again. NetworkManager must be running, and so D-Bus is.

    Raise HostError if nmcli cannot make it read its files.
    """
    host.run(("nmcli", "connection", "reload"), timeout=_TIMEOUT)
    for name in names:
        # A NIC without carrier cannot be activated now; NetworkManager does so as soon as it has one.
        host.run(("nmcli", "--wait", "0", "connection", "up", "id", name), timeout=_TIMEOUT, check=False)
