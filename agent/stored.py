"""The versioned JSON files below /var/lib/gandi: for root alone, replaced whole, damage told from absence.

What they mean is in agent/state.py.
"""

from __future__ import annotations

import json

from agent.errors import HostError
from agent.model import canonical

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from agent.host import Host

FOLDER = "/var/lib/gandi"
#: Of every file; a newer one is not read (the message says so).
VERSION = 1
#: Bytes of a file at the most.
_LIMIT = 16 << 20


class Damaged(HostError):
    """A file holds something that no agent wrote."""


def load(host: Host, name: str) -> dict[str, Any] | None:
    """What the file holds; None where there is none. Raises Damaged, or HostError for a newer
    agent's.
    """
    data = host.read_bytes(name, limit=_LIMIT)
    if data is None:
        return None
    try:
        found = json.loads(data)
    except ValueError as error:
        raise Damaged(f"{name}: damaged: {error}", hint="remove it to start afresh") from error
    if not isinstance(found, dict):
        raise Damaged(f"{name}: damaged: no object", hint="remove it to start afresh")
    if found.get("version", 0) > VERSION:
        raise HostError(f"{name}: written by a newer agent", hint="upgrade gandi-agent, or remove it")
    return found


def store(host: Host, name: str, value: Mapping[str, object], *, sync: bool = True) -> None:
    """Make the file hold the value; its folder is made. ``sync`` makes it survive a power cut."""
    folder(host, name.rpartition("/")[0])
    host.write(name, canonical({**value, "version": VERSION}), mode=0o600, sync=sync)


def folder(host: Host, name: str) -> None:
    """Make a folder at or below FOLDER, and those above it, for root alone."""
    if name.startswith(FOLDER + "/"):
        folder(host, name.rpartition("/")[0])
    host.mkdir(name, mode=0o700)
