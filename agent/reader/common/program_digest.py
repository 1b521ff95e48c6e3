"""A customer's program as the model knows it: by a digest of all that makes it the same program."""

from __future__ import annotations

from agent.config.model import Script
from agent.lib.canonical_json import canonical
from agent.lib.digest import sha256


def program(name: str, content: bytes, arguments: tuple[str, ...] = ()) -> Script:
    """The record of a program; its digest changes with its name, its bytes or its arguments."""
    parts = [name, sha256(content).hexdigest(), *arguments]
    return Script(name, sha256(canonical(parts)).hexdigest(), arguments)
