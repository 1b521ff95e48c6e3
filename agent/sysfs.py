"""Reads the kernel's folders while devices come and go: what has gone is empty, never an error."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.host import Host


def listed(host: Host, folder: str) -> list[str]:
    """The names in a folder, sorted; none where there is no such folder."""
    try:
        return sorted(os.listdir(host.path(folder)))
    except (FileNotFoundError, NotADirectoryError):
        return []


def attribute(host: Host, name: str) -> str:
    """A sysfs attribute, "" when it is not there or the device went away while it was read."""
    try:
        with open(host.path(name), encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
