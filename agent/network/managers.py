"""Which network manager is in charge of a system: from files alone, so that it is true of an image that
does not run, and before anything can be asked.
"""

from __future__ import annotations

from agent.host.sysfs import listed
from agent.lib.records import dataclass
from agent.systemd import units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.host.host import Host

NETWORKD_UNIT = "systemd-networkd.service"
NETWORKMANAGER_UNIT = "NetworkManager.service"
#: netplan's, in descending order of precedence (netplan-generate(8)).
_NETPLAN_FOLDERS = ("/run/netplan", "/etc/netplan", "/usr/lib/netplan")


@dataclass(frozen=True, slots=True)
class Manager:
    """A network manager. ``name`` is as CONFIG_RENDERER spells it; ``ours`` begins the path of each file
    that its renderer writes for a NIC.
    """

    name: str
    ours: str
    #: Whether it is in charge here.
    manages: Callable[[Host], bool]


def _netplan(host: Host) -> bool:
    return bool(host.which("netplan")) and any(
        name.endswith(".yaml") for folder in _NETPLAN_FOLDERS for name in listed(host, folder)
    )


def _networkd(host: Host) -> bool:
    return units.enabled(host, NETWORKD_UNIT)


def _networkmanager(host: Host) -> bool:
    return units.enabled(host, NETWORKMANAGER_UNIT)


def _ifupdown(host: Host) -> bool:
    return bool(host.which("ifup")) and units.enabled(host, "networking.service")


#: In the order in which they are asked: netplan drives the two that follow, where it has something to say;
#: networkd is enabled on purpose only; ifupdown is in many images anyway.
MANAGERS = (
    Manager("netplan", "/etc/netplan/90-gandi-", _netplan),
    Manager("networkd", "/etc/systemd/network/10-gandi-", _networkd),
    Manager("networkmanager", "/etc/NetworkManager/system-connections/gandi-", _networkmanager),
    Manager("ifupdown", "/etc/network/interfaces.d/gandi-", _ifupdown),
)


def in_charge(host: Host, setting: str) -> str:
    """The manager that CONFIG_RENDERER names, or with ``auto`` the one that is in charge; "" if none is."""
    for manager in MANAGERS:
        if setting == manager.name or (setting == "auto" and manager.manages(host)):
            return manager.name
    # An image made for netplan that nothing has been written for yet.
    return "netplan" if setting == "auto" and host.which("netplan") else ""


def left_over(host: Host, current: str) -> list[str]:
    """The other managers for which there are files of ours."""
    return [one.name for one in MANAGERS if one.name != current and keys(host, one.name)]


def keys(host: Host, name: str) -> list[str]:
    """The keys of the NICs for which there are files of ours for that manager."""
    folder, prefix = next(_place(one.ours) for one in MANAGERS if one.name == name)
    found = (file for file in listed(host, folder) if file.startswith(prefix))
    return [file.removeprefix(prefix).partition(".")[0] for file in found]


def _place(ours: str) -> tuple[str, str]:
    folder, _, prefix = ours.rpartition("/")
    return folder, prefix
