"""Whether the network is online already, so that no wait for it is needed."""

from __future__ import annotations

from agent.host.sysfs import listed
from agent.lib.text import lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.host.host import Host

TARGET = "network-online.target"
_UNITS = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
)
_WAIT = "systemd-networkd-wait-online.service"
#: networkd's state of all links together (sd-network's state file, shown by networkctl(1)).
_STATE = "/run/systemd/netif/state"


def is_online(host: Host) -> bool:
    """Return whether network-online.target would be reached at once: networkd's wait is the only one in it,
    and networkd reports all required links online. False if another unit waits too, or the target was
    changed.
    """
    changed = (f"{folder}/{TARGET}{kind}" for folder in _UNITS for kind in (".d", ".requires"))
    waits = {name for folder in _UNITS for name in listed(host, f"{folder}/{TARGET}.wants")}
    if waits != {_WAIT} or any(map(host.exists, changed)):
        return False
    return "ONLINE_STATE=online" in lines(host.read(_STATE) or "")
