"""Wait for the network; whether it is online already, so that no wait for it is needed."""

from __future__ import annotations

from contextlib import suppress

from agent.host.sysfs import listed
from agent.lib.errors import HostError
from agent.lib.text import lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

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
#: Seconds to wait for network-online.target, longer than the wait of any unit before it (ifupdown 300,
#: networkd 120, NetworkManager 60).
UNTIL_ONLINE = 330.0


def wait(host: Host, on_wait: Callable[[str], None] = lambda _: None) -> None:
    """Start network-online.target and wait for it; raise HostError after UNTIL_ONLINE seconds.

    ``on_wait`` is called with the reason, and with "" at the end. A dependency of the stage's unit would do
    this at each boot, also without programs; if networkd manages no link, its wait fails only after two
    minutes.
    """
    if is_online(host):
        return
    on_wait(f"{TARGET} (at most {UNTIL_ONLINE:g} s)")
    if host.allows(f"wait for {TARGET}"):
        from agent.systemd import libsystemd

        ended = "refused"
        with suppress(HostError):  # such as a masked target: nothing to wait for
            ended = libsystemd.start(TARGET, timeout=UNTIL_ONLINE)
        if not ended:
            raise HostError(
                f"{TARGET}: not reached within {UNTIL_ONLINE:g} s", hint="see: systemctl list-jobs"
            )
    on_wait("")


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
