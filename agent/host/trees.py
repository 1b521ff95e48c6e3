"""Make and remove folders with their contents, through Host."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.host.host import Host


def make(host: Host, folder: str, files: Mapping[str, bytes]) -> None:
    """Make a folder (0700) with these files (0600), given by their paths below it."""
    host.mkdir(folder, mode=0o700)
    for name, content in files.items():
        host.write(f"{folder}/{name}", content, mode=0o600)


def remove(host: Host, folder: str) -> list[str]:
    """Remove a folder and its contents, without following links; return the paths that were removed."""
    inside = [path for child in sorted(host.names(folder)) for path in remove(host, f"{folder}/{child}")]
    return [*inside, folder] if host.remove(folder) else inside
