"""Paths below the root of an image: its symbolic links must not lead out of it."""

from __future__ import annotations

import os

from agent.lib.errors import HostError

_LINKS_FOLLOWED = 40  # as the kernel's MAXSYMLINKS


def resolve_in_root(root: str, name: str) -> str:
    """Return the real path of ``name`` below ``root``, with symbolic links followed as in a chroot.

    The last component may be missing; a link there is followed too. Raise HostError for a loop of links.
    """
    pending = _parts(name)
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
        if links > _LINKS_FOLLOWED:
            raise HostError(f"{name}: too many symbolic links")
        if target.startswith("/"):
            done.clear()
        pending.extend(_parts(target))
    return os.path.join(root, *done)


def _parts(name: str) -> list[str]:
    return [part for part in name.split("/") if part not in ("", ".")][::-1]
