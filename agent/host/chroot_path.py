"""Paths below the root of an image, with symbolic links that must not lead out of it; links themselves."""

from __future__ import annotations

import os

from agent.lib.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.host.host import Host

LINKS_FOLLOWED = 40  # as the kernel's MAXSYMLINKS


def resolve_in_root(root: str, name: str) -> str:
    """Return the real path of ``name`` below ``root``, with symbolic links followed as in a chroot.

    The last component may be missing; a link there is followed too. Raise HostError for a loop of links.
    """
    pending = parts(name)
    done: list[str] = []
    links = 0
    while pending:
        part = pending.pop()
        if part == "..":
            del done[-1:]
            continue
        try:
            target = os.readlink(os.path.join(root, *done, part))
        except OSError:
            done.append(part)
            continue
        links += 1
        if links > LINKS_FOLLOWED:
            raise HostError(f"{name}: too many symbolic links")
        if target.startswith("/"):
            done.clear()
        pending.extend(parts(target))
    return os.path.join(root, *done)


def unfollowed(host: Host, name: str) -> str:
    """Return the path of a name without following it, if it is a symbolic link, but those to its folder."""
    folder, _, last = name.rpartition("/")
    return os.path.join(host.path(folder), last)


def link_target(host: Host, name: str) -> str | None:
    """Return where a symbolic link leads; None if there is no link of this name."""
    try:
        return os.readlink(unfollowed(host, name))
    except OSError:
        return None


def parts(name: str) -> list[str]:
    """Return the components of a path, the last one first."""
    return [part for part in name.split("/") if part not in ("", ".")][::-1]
