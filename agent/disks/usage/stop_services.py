"""Stop the services that a disk names as its users (.gandi/services) before it is detached.

A disk may come from anywhere, so its list is not trusted: a unit is stopped only if its own settings require
the mountpoint and its own processes have files there. A process of a login session is not the unit's own: a
job of a user's crontab runs in the control group of cron.
"""

from __future__ import annotations

from agent.disks.usage import holders
from agent.disks.usage.services_file import names
from agent.lib.errors import HostError
from agent.lib.text import WHITE, lines, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.host.host import Host

#: Seconds for one service to stop or start.
_TIMEOUT = 120.0
_ASKED = "Id,ActiveState,Requires,BindsTo,RequiresMountsFor,ControlGroup"
_RUNNING = frozenset({"active", "activating", "reloading"})
#: The login UID of a process of no login session (proc_pid_loginuid(5)).
_NO_LOGIN = "4294967295"


def stop(host: Host, services: Sequence[str], places: Sequence[str]) -> list[str]:
    """Stop those of ``services`` that run, and require and use one of the mountpoints (``places``). Return
    the names of those. One that does not stop keeps the disk busy: the caller finds it among the users.
    """
    if not services or not places:
        return []
    used = {place: _groups(host, place) for place in places}
    mount_units = {place: _unit(host, place) for place in places}
    stopped = []
    for unit in _asked(host, services):
        # The listed name may be an alias of a unit that is never stopped.
        if unit.get("ActiveState") not in _RUNNING or not names(unit["Id"].encode()):
            continue
        group = unit.get("ControlGroup", "")
        if group and any(
            needs(unit, place, mount_units[place]) and any(_within(each, group) for each in used[place])
            for place in places
        ):
            host.run(("systemctl", "stop", unit["Id"]), timeout=_TIMEOUT, check=False)
            stopped.append(unit["Id"])
    return stopped


def needs(unit: Mapping[str, str], place: str, mount_unit: str) -> bool:
    """Return whether a unit's properties, as systemctl shows them, require a mountpoint."""
    if mount_unit in (*words(unit.get("Requires", "")), *words(unit.get("BindsTo", ""))):
        return True
    return any(
        _within(path.rstrip("/"), place.rstrip("/")) for path in words(unit.get("RequiresMountsFor", ""))
    )


def start(host: Host, services: Sequence[str]) -> None:
    """Start the services again, because the disk stays."""
    if services:
        host.run(("systemctl", "start", *services), timeout=_TIMEOUT, check=False)


def _asked(host: Host, services: Sequence[str]) -> list[Mapping[str, str]]:
    """Return PID 1's properties of each service that it knows."""
    result = host.run(
        ("systemctl", "show", f"--property={_ASKED}", "--", *services), changes=False, check=False
    )
    blocks = (lines(block) for block in result.stdout.split("\n\n"))
    found = [dict(line.split("=", 1) for line in block if "=" in line) for block in blocks]
    return [unit for unit in found if unit.get("Id")]


def _unit(host: Host, place: str) -> str:
    """Return the name of the mount unit of a mountpoint (systemd.unit(5))."""
    command = ("systemd-escape", "--path", "--suffix=mount", "--", place)
    return host.run(command, changes=False).stdout.strip(WHITE)


def _groups(host: Host, place: str) -> set[str]:
    """Return the control groups of the processes of no login session that use the mountpoint."""
    found = (
        _group(host, holder.pid) for holder in holders.find_by_mountpoint(host, (place,)).found if holder.pid
    )
    return {group for group in found if group}


def _group(host: Host, pid: int) -> str:
    """Return the control group of a process (cgroups(7)), or "" if it has ended or is of a login session."""
    try:
        login = (host.read(f"/proc/{pid}/loginuid") or _NO_LOGIN).strip(WHITE)
        entries = lines(host.read(f"/proc/{pid}/cgroup") or "")
    except HostError:
        return ""
    if login != _NO_LOGIN:
        return ""
    return next((line[3:] for line in entries if line.startswith("0::")), "")


def _within(group: str, outer: str) -> bool:
    return group == outer or group.startswith(f"{outer}/")
