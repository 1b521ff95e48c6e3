"""The model's record of a delivered program, with a digest that identifies it."""

from __future__ import annotations

from agent.config.model import Script
from agent.lib.canonical_json import canonical
from agent.lib.digest import sha256


def program(name: str, content: bytes, arguments: tuple[str, ...] = ()) -> Script:
    """Return the record of a program; its digest covers its name, content and arguments."""
    parts = [name, sha256(content).hexdigest(), *arguments]
    return Script(name, sha256(canonical(parts)).hexdigest(), arguments)
