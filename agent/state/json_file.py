"""Read and write the versioned JSON files below /var/lib/gandi: mode 0600, replaced atomically.

A missing file reads as None, a damaged one raises Damaged. What each file means is in agent/state/store.py.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache

from agent.lib.canonical_json import canonical
from agent.lib.digest import sha256
from agent.lib.errors import HostError
from agent.lib.text import is_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from agent.host.host import Host

FOLDER = "/var/lib/gandi"
#: Version of every file; one with a newer version is refused.
VERSION = 1
#: Bytes at most in a file.
_LIMIT = 16 << 20
_UNSAFE = r"[^A-Za-z0-9._-]"
#: Characters at most in a folder's name, so that an id of any length gives a valid one.
_LONGEST = 128


def digest(value: str | bytes) -> str:
    """Return a SHA-256 digest, in hex, of a value that must be recognised again but not stored."""
    data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    return sha256(data).hexdigest()


class Damaged(HostError):
    """A file is no JSON object, so the agent did not write it."""


def load(host: Host, name: str) -> dict[str, Any] | None:
    """Return the object in a file, None if there is no file.

    Raise Damaged if it is not a JSON object, HostError if a newer agent wrote it.
    """
    data = host.read_bytes(name, limit=_LIMIT)
    return None if data is None else _object(name, data)


def _object(name: str, data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data.decode())
        if b"\\u" in data:
            canonical(found)  # raises for a lone surrogate, as ``canonical_json.parsed`` does
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{name}: damaged: {error}", hint="remove it to start afresh") from error
    if not isinstance(found, dict):
        raise Damaged(f"{name}: damaged: not a JSON object", hint="remove it to start afresh")
    version = found.get("version", 0)
    if not isinstance(version, int):
        raise Damaged(f"{name}: damaged: no version", hint="remove it to start afresh")
    if version > VERSION:
        raise HostError(f"{name}: written by a newer agent", hint="upgrade gandi-agent, or remove it")
    return found


def with_texts(host: Host, name: str, *keys: str) -> dict[str, Any] | None:
    """Return the object in a file, with text at these keys; None without a file. Raise as ``load``."""
    found = load(host, name)
    values = [found.get(key) for key in keys] if found is not None else []
    if not all(isinstance(one, str) and is_text(one) for one in values):
        raise Damaged(f"{name}: damaged: {' or '.join(keys)}", hint="remove it to start afresh")
    return found


def section(
    host: Host, name: str, key: str, kind: type[Any], *, texts: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return the object at a key of a file, empty without one. Each of its values is of that type, and has
    these ``texts``. Raise as ``load``.
    """
    data = host.read_bytes(name, limit=_LIMIT)
    return {} if data is None else dict(_section(name, data, key, kind, texts))  # type: ignore[arg-type]  # a type


@lru_cache(maxsize=2)
def _section(name: str, data: bytes, key: str, kind: type[Any], texts: tuple[str, ...]) -> dict[str, Any]:
    """Cached: each event of a disk reads the same facts about all disks several times. No caller may change
    a value, since all share it.
    """
    found: Any = _object(name, data).get(key, {})
    if not isinstance(found, dict) or not all(_has(one, kind, texts) for one in found.values()):
        raise Damaged(f"{name}: damaged: {key}", hint="remove it to start afresh")
    return found


def _has(value: Any, kind: type[Any], texts: tuple[str, ...]) -> bool:
    return isinstance(value, kind) and all(isinstance(value.get(one), str) for one in texts)


def store(host: Host, name: str, value: Mapping[str, object], *, sync: bool = True) -> None:
    """Replace the file, with VERSION added to the value; create its folder. ``sync``: on return it survives
    a power cut.
    """
    folder(host, name.rpartition("/")[0])
    host.write(name, canonical({**value, "version": VERSION}), mode=0o600, sync=sync)


def folder(host: Host, name: str) -> None:
    """Create a folder at or below FOLDER, and those above it, with mode 0700."""
    if name.startswith(FOLDER + "/"):
        folder(host, name.rpartition("/")[0])
    host.mkdir(name, mode=0o700)


def safe_name(name: str) -> str:
    """Return the name with an underscore for each character but ASCII letters, digits, ".", "_" and "-"."""
    return re.sub(_UNSAFE, "_", name)


def instance_folder(name: str) -> str:
    """Return the path of an instance's folder, which is below FOLDER/instances for any name."""
    safe = safe_name(name)
    if safe != name or len(safe) > _LONGEST:
        safe = f"{safe[: _LONGEST // 2]}-{digest(name)[:16]}"
    return f"{FOLDER}/instances/{safe}"
