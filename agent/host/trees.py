"""Folders with all that is in them, made and removed through Host."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.host.host import Host


def make(host: Host, folder: str, files: Mapping[str, bytes]) -> None:
    """The folder with these files, by their paths below it; what they hold is for root alone."""
    host.mkdir(folder, mode=0o700)
    for name, content in files.items():
        host.write(f"{folder}/{name}", content, mode=0o600)


def remove(host: Host, folder: str) -> list[str]:
    """Remove a folder (no link is followed) and what is in it; the names of what was removed."""
    inside = [gone for child in sorted(host.names(folder)) for gone in remove(host, f"{folder}/{child}")]
    return [*inside, folder] if host.remove(folder) else inside
