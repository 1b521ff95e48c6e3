"""The services that a disk names as its users (.gandi/services) are stopped before it is detached.

The list is the disk's, and a disk may come from anywhere, so it is not believed: only a unit that says that
it needs the mountpoint, and that has processes of its own with files there, is stopped. A process that
belongs to a login is not the unit's own: a job of a user's crontab runs in the control group of cron.
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
#: What the kernel says of a process that comes from no login (proc_pid_loginuid(5)).
_NO_LOGIN = "4294967295"


def stop(host: Host, services: Sequence[str], places: Sequence[str]) -> list[str]:
    """Stop those of ``services`` that run, and need and use one of the mountpoints; return the names of what
    was stopped. One that does not stop keeps the disk busy, and is named then.
    """
    if not services or not places:
        return []
    used = {place: _groups(host, place) for place in places}
    mount_units = {place: _unit(host, place) for place in places}
    stopped = []
    for unit in _asked(host, services):
        # The name that was asked for may be another name of a unit that is never stopped.
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
    """Return whether a unit, as PID 1 shows it, says that it needs a mountpoint."""
    if mount_unit in (*words(unit.get("Requires", "")), *words(unit.get("BindsTo", ""))):
        return True
    return any(_below(path, place) for path in words(unit.get("RequiresMountsFor", "")))


def start(host: Host, services: Sequence[str]) -> None:
    """Start them again: the disk stays."""
    if services:
        host.run(("systemctl", "start", *services), timeout=_TIMEOUT, check=False)


def _asked(host: Host, services: Sequence[str]) -> list[Mapping[str, str]]:
    """What PID 1 knows of each."""
    answer = host.run(
        ("systemctl", "show", f"--property={_ASKED}", "--", *services), changes=False, check=False
    )
    blocks = (lines(block) for block in answer.stdout.split("\n\n"))
    found = [dict(line.split("=", 1) for line in block if "=" in line) for block in blocks]
    return [unit for unit in found if unit.get("Id")]


def _unit(host: Host, place: str) -> str:
    """The name of the mount unit of a place (systemd.unit(5))."""
    asked = ("systemd-escape", "--path", "--suffix=mount", "--", place)
    return host.run(asked, changes=False).stdout.strip(WHITE)


def _groups(host: Host, place: str) -> set[str]:
    """Return the control groups of the processes that hold something there and come from no login."""
    found = (_group(host, holder.pid) for holder in holders.of(host, (place,)).found if holder.pid)
    return {group for group in found if group}


def _group(host: Host, pid: int) -> str:
    """Return the control group of a process (cgroups(7)), "" for one that has ended or is of a login."""
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


def _below(path: str, place: str) -> bool:
    return _within(path.rstrip("/"), place.rstrip("/"))
