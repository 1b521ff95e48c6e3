"""Reads the kernel's folders while devices come and go: what has gone is empty, never an error."""

from __future__ import annotations

import os

from agent.lib.text import WHITE, number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.host.host import Host


def listed(host: Host, folder: str) -> list[str]:
    """The names in a folder, sorted; none where there is no such folder."""
    try:
        return sorted(os.listdir(host.path(folder)))
    except (FileNotFoundError, NotADirectoryError):
        return []


def numbered(host: Host, folder: str, prefix: str) -> dict[str, int]:
    """The devices of a folder that are called ``prefix`` and a number, each with the number of its own
    folder (its inode): one that goes and comes again has another, under the same name.
    """
    try:
        with os.scandir(host.path(folder)) as entries:
            return {
                entry.name: entry.inode()
                for entry in entries
                if entry.name.startswith(prefix) and number(entry.name[len(prefix) :]) is not None
            }
    except (FileNotFoundError, NotADirectoryError):
        return {}


def attribute(host: Host, name: str) -> str:
    """A sysfs attribute, "" when it is not there or the device went away while it was read."""
    try:
        with open(host.path(name), "rb", buffering=0) as file:
            return file.read().decode("ascii", "replace").strip(WHITE)
    except OSError:
        return ""


def online_cpus(host: Host) -> set[int]:
    """The numbers of the CPUs that are online."""
    return members(attribute(host, "/sys/devices/system/cpu/online"))


def members(text: str) -> set[int]:
    """The numbers in a list as the kernel spells it: ``0-2,5`` (cpumap_print_to_pagebuf)."""
    found = set[int]()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def spelled(numbers: set[int]) -> str:
    """The same, the other way round."""
    parts, ordered = list[list[int]](), sorted(numbers)
    for one in ordered:
        if parts and parts[-1][-1] == one - 1:
            parts[-1][1:] = [one]
        else:
            parts.append([one])
    return ",".join("-".join(map(str, part)) for part in parts)
