"""Renderer for NetworkManager: one keyfile (nm-settings-keyfile(5)) for each NIC."""

from __future__ import annotations

from agent.config.nics import Kind
from agent.host.sysfs import listed
from agent.lib.text import HEADER, WHITE, lines
from agent.network import networkmanager_ip, networkmanager_virtual
from agent.network.interfaces import FALLBACK, ConfigFile
from agent.network.managers import NETWORKMANAGER_UNIT
from agent.systemd import units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.host.host import Host
    from agent.network.interfaces import Link


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


def paths(key: str) -> tuple[str, ...]:
    """Return the NIC's keyfile."""
    return (f"{_FOLDER}/{_PREFIX}{key}.nmconnection",)


def render(link: Link) -> tuple[ConfigFile, ...]:
    """Return the keyfile, mode 0600: NetworkManager ignores one that other users can read."""
    hardware = "loopback" if link.nic.loopback else "ethernet"
    groups = [
        ("connection", _connection(link)),
        (hardware, _ethernet(link)),
        *networkmanager_virtual.groups(link),
    ]
    if link.master:
        groups.append(("bridge-port", networkmanager_virtual.bridge_port(link, link.master)))
    else:
        ip = networkmanager_ip
        groups += [("ipv4", ip.ipv4(link)), ("ipv6", ip.ipv6(link)), ("hostname", ip.hostname(link))]
    text = HEADER + "\n".join(
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
    if link.activation_mode:
        keys["autoconnect"] = False
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
    if (options := link.nic.options) and not link.nic.loopback:
        keys |= {"cloned-mac-address": options.set_mac.upper()} if options.set_mac else {}
        keys |= {"wake-on-lan": _WAKE[options.wake_on_lan]} if options.wake_on_lan is not None else {}
    return keys | ({"mtu": link.nic.mtu} if link.nic.mtu else {})


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


def possible(_host: Host, link: Link) -> tuple[Link, dict[str, str]]:
    """Return the link: the manager itself does everything."""
    return link, {}


def prepare(host: Host, link: Link) -> None:
    """Do nothing: the agent's profiles have a higher priority."""


def reload(host: Host, links: Iterable[Link]) -> None:
    """Make a running NetworkManager read its files again and activate the changed profiles."""
    touched = list(links)
    if touched and units.is_active(host, NETWORKMANAGER_UNIT):
        activate(host, [f"{_PREFIX}{link.key}" for link in touched if not link.activation_mode])


def activate(host: Host, names: Iterable[str]) -> None:
    """Activate the profiles with those ids again. NetworkManager must be running, and so D-Bus is.

    Raise HostError if nmcli cannot make it read its files.
    """
    host.run(("nmcli", "connection", "reload"), timeout=_TIMEOUT)
    for name in names:
        # A NIC without carrier cannot be activated now; NetworkManager does so as soon as it has one.
        host.run(("nmcli", "--wait", "0", "connection", "up", "id", name), timeout=_TIMEOUT, check=False)
