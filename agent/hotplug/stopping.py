"""The services that a disk names as its users (.gandi/services) are stopped before it is detached.

The list is the disk's, and a disk may come from anywhere, so it is not believed: only a unit that needs the
mountpoint or has a file open there is stopped. Which names may be in a list at all is decided when it is
read.
"""

from __future__ import annotations

from agent.errors import HostError
from agent.hotplug import holders
from agent.text import WHITE, lines, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.host import Host

#: Seconds for one service to stop or start.
_TIMEOUT = 120.0
_ASKED = "Id,ActiveState,Requires,BindsTo,ControlGroup"
_RUNNING = frozenset({"active", "activating", "reloading"})


def stop(host: Host, services: Sequence[str], places: Sequence[str]) -> list[str]:
    """Stop those of ``services`` that run and use one of the mountpoints; the names of what was stopped.
    One that does not stop keeps the disk busy, and is named then.
    """
    if not services or not places:
        return []
    needed = {_unit(host, place) for place in places}
    groups = {
        _group(host, holder.pid)
        for place in places
        for holder in holders.of(host, place).found
        if holder.pid
    }
    stopped = []
    for unit in _asked(host, services):
        requires = {*words(unit.get("Requires", "")), *words(unit.get("BindsTo", ""))}
        group = unit.get("ControlGroup", "")
        uses = requires & needed or any(group and _within(each, group) for each in groups)
        if unit.get("ActiveState") in _RUNNING and uses:
            host.run(("systemctl", "stop", unit["Id"]), timeout=_TIMEOUT, check=False)
            stopped.append(unit["Id"])
    return stopped


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


def _group(host: Host, pid: int) -> str:
    """The control group of a process, "" when it has ended (cgroups(7))."""
    try:
        entries = lines(host.read(f"/proc/{pid}/cgroup") or "")
    except HostError:
        return ""
    return next((line[3:] for line in entries if line.startswith("0::")), "")


def _within(group: str, outer: str) -> bool:
    return group == outer or group.startswith(f"{outer}/")
