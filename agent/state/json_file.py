"""The versioned JSON files below /var/lib/gandi: for root alone, replaced whole, damage told from absence.

What they mean is in agent/state/store.py.
"""

from __future__ import annotations

import json
import re

from agent.lib.canonical_json import canonical
from agent.lib.digest import sha256
from agent.lib.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from agent.host.host import Host

FOLDER = "/var/lib/gandi"
#: Of every file; a newer one is not read (the message says so).
VERSION = 1
#: Bytes of a file at the most.
_LIMIT = 16 << 20
_UNSAFE = r"[^A-Za-z0-9._-]"
#: Characters of a folder's name, so that an id of any length is a file name.
_LONGEST = 128


def digest(value: str | bytes) -> str:
    """A short name for a value that must be recognised again but not stored."""
    data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    return sha256(data).hexdigest()


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
        raise Damaged(f"{name}: damaged: not a JSON object", hint="remove it to start afresh")
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


def safe_name(name: str) -> str:
    """The name, with an underscore for each character that a file's name had better not have."""
    return re.sub(_UNSAFE, "_", name)


def instance_folder(name: str) -> str:
    """Where the files of the instance of this name are; whatever the name, a folder below FOLDER."""
    safe = safe_name(name)
    if safe != name or len(safe) > _LONGEST:
        safe = f"{safe[: _LONGEST // 2]}-{digest(name)[:16]}"
    return f"{FOLDER}/instances/{safe}"
