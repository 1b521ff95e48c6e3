"""Which network manager is in charge of a system, judged by files alone: this also works for an image that
does not run, and before any manager has started.
"""

from __future__ import annotations

import re
from functools import partial

from agent.host.sysfs import listed
from agent.lib.records import dataclass
from agent.lib.text import lines
from agent.systemd import units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.host.host import Host

NETWORKD_UNIT = "systemd-networkd.service"
NETWORKMANAGER_UNIT = "NetworkManager.service"
#: netplan's, in descending order of precedence (netplan-generate(8)).
_NETPLAN_FOLDERS = ("/run/netplan", "/etc/netplan", "/usr/lib/netplan")
#: A key of a mapping in block style, with what stands before and after it.
_KEY = r"( *)[\"']?([A-Za-z0-9_-]+)[\"']? *:(.*)"
#: The network's mapping in flow style; a mapping without others in it; the renderer's entry.
_FLOW = r"""(?s)(?:^|[{,\n])[ \t\n]*["']?network["']?[ \t\n]*:[ \t\n]*\{(.*)\}"""
_INNERMOST = r"\{[^{}]*\}"
_FLOW_RENDERER = r"""renderer["']?[ \t\n]*:[ \t\n]*["']?([A-Za-z]+)"""


@dataclass(frozen=True, slots=True)
class Manager:
    """A network manager. ``name`` is its name in CONFIG_RENDERER; ``path_prefix`` is that of each path that
    its renderer writes for a NIC.
    """

    name: str
    path_prefix: str
    #: Returns whether it is in charge.
    is_active: Callable[[Host], bool]


def _netplan(host: Host) -> bool:
    return bool(host.which("netplan")) and any(
        name.endswith(".yaml") for folder in _NETPLAN_FOLDERS for name in listed(host, folder)
    )


def _ifupdown(host: Host) -> bool:
    return bool(host.which("ifup")) and units.is_enabled(host, "networking.service")


#: In order of precedence. netplan, where it has files, configures the next two; networkd is only enabled on
#: purpose; ifupdown is in many images whether it is used or not.
MANAGERS = (
    Manager("netplan", "/etc/netplan/90-gandi-", _netplan),
    Manager("networkd", "/etc/systemd/network/10-gandi-", partial(units.is_enabled, unit=NETWORKD_UNIT)),
    Manager(
        "networkmanager",
        "/etc/NetworkManager/system-connections/gandi-",
        partial(units.is_enabled, unit=NETWORKMANAGER_UNIT),
    ),
    Manager("ifupdown", "/etc/network/interfaces.d/gandi-", _ifupdown),
)


def active_manager(host: Host, setting: str) -> str:
    """Return the manager that CONFIG_RENDERER (``setting``) names, or with ``auto`` the one in charge; "" if
    there is none.
    """
    for manager in MANAGERS:
        if setting == manager.name or (setting == "auto" and manager.is_active(host)):
            return manager.name
    # An image made for netplan may have no netplan file yet.
    return "netplan" if setting == "auto" and host.which("netplan") else ""


def is_netplan_for_networkmanager(host: Host) -> bool:
    """Return whether netplan's backend is NetworkManager for NICs without a renderer of their own: the last
    file with a renderer for the network decides. Without one it is networkd, whatever is installed.
    """
    paths: dict[str, str] = {}
    for folder in reversed(_NETPLAN_FOLDERS):
        paths |= {name: f"{folder}/{name}" for name in listed(host, folder) if name.endswith(".yaml")}
    texts = (host.read(path) or "" for _, path in sorted(paths.items()))
    found = [one for text in texts if (one := _renderer(text))]
    return found[-1:] == ["NetworkManager"]


def _renderer(text: str) -> str:
    """Return the renderer of a file's ``network``, not of a part of it; "" if it has none."""
    if flow := re.search(_FLOW, text):
        inner, count = flow[1], 1
        while count:
            inner, count = re.subn(_INNERMOST, "", inner)
        found = re.search(_FLOW_RENDERER, inner)
        return found[1] if found else ""
    inside, indent = False, ""
    for line in lines(text):
        if not (entry := re.match(_KEY, line)):
            continue
        space, key, value = entry.groups()
        if not space:
            inside, indent = key == "network", ""
        elif inside and space == (indent := indent or space) and key == "renderer":
            return value.partition("#")[0].strip(" \t\r\"'")
    return ""


def inactive_with_files(host: Host, current: str) -> list[str]:
    """Return the managers other than ``current`` for which files of the agent exist."""
    names = [manager.name for manager in MANAGERS]
    return [name for name in names if name != current and keys(host, name)]


def keys(host: Host, name: str) -> list[str]:
    """Return the keys of the NICs for which files of the agent exist for that manager."""
    path_prefix = next(manager.path_prefix for manager in MANAGERS if manager.name == name)
    folder, _, prefix = path_prefix.rpartition("/")
    files = (file for file in listed(host, folder) if file.startswith(prefix))
    return [file.removeprefix(prefix).partition(".")[0] for file in files]
