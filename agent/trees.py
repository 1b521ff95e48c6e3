"""Folders with all that is in them, made and removed through Host."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.host import Host


def make(host: Host, folder: str, files: Mapping[str, bytes]) -> None:
    """The folder with these files, by their paths below it; what they hold is for root alone."""
    host.mkdir(folder, mode=0o700)
    for name, content in files.items():
        host.write(f"{folder}/{name}", content, mode=0o600)


def remove(host: Host, folder: str) -> list[str]:
    """Remove a folder (no link is followed) and what is in it; the names of what was removed."""
    above, _, name = folder.rpartition("/")
    path = os.path.join(host.path(above), name)  # not host.path(folder): that follows a link in last place
    if os.path.islink(path) or not os.path.isdir(path):
        return [folder] if host.remove(folder) else []
    inside = [gone for child in sorted(os.listdir(path)) for gone in remove(host, f"{folder}/{child}")]
    return [*inside, folder] if host.remove(folder) else inside
