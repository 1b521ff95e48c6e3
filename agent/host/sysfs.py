"""Read sysfs while devices are added and removed: what has gone reads as empty and is never an error."""

from __future__ import annotations

import os

from agent.lib.text import WHITE, number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.host.host import Host


def listed(host: Host, folder: str) -> list[str]:
    """Return the names in a folder, sorted; none if there is no such folder."""
    try:
        return sorted(os.listdir(host.path(folder)))
    except (FileNotFoundError, NotADirectoryError):
        return []


def numbered(host: Host, folder: str, prefix: str) -> dict[str, int]:
    """Return the devices in a folder with a name of ``prefix`` and a number, each with the inode of its own
    folder: a device that is removed and added again has another inode under the same name.
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
    """Return a sysfs attribute, "" if it is missing or the device was removed during the read."""
    try:
        with open(host.path(name), "rb", buffering=0) as file:
            return file.read().decode("ascii", "replace").strip(WHITE)
    except OSError:
        return ""


def devnode(name: str) -> str:
    """Return the path of the device node of a kernel name; sysfs spells "/" in a name as "!"."""
    return f"/dev/{name.replace('!', '/')}"


def online_cpus(host: Host) -> set[int]:
    """Return the numbers of the CPUs that are online."""
    return parse_list(attribute(host, "/sys/devices/system/cpu/online"))


def parse_list(text: str) -> set[int]:
    """Return the numbers of a list in the kernel's format: ``0-2,5`` (cpumap_print_to_pagebuf)."""
    numbers = set[int]()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        numbers.update(range(int(first), int(last or first) + 1))
    return numbers


def format_list(numbers: set[int], prefix: str = "") -> str:
    """Return the numbers as a list in the kernel's format, each after ``prefix``; see ``parse_list``."""
    parts, ordered = list[list[int]](), sorted(numbers)
    for value in ordered:
        if parts and parts[-1][-1] == value - 1:
            parts[-1][1:] = [value]
        else:
            parts.append([value])
    return ",".join("-".join(f"{prefix}{number}" for number in part) for part in parts)
