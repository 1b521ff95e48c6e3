"""The verbs about documents and media: print metadata, check a document, make a medium."""

from __future__ import annotations

import os

from agent.host import terminal
from agent.lib.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.host.host import Host


def get(host: Host, key: str | None) -> int:
    """Print the value of ``key`` as the platform delivered it, or all keys without one. Return 0."""
    from agent.state import instance_metadata
    from agent.state.store import State

    state = State(host)
    if key is None:
        terminal.print_lines(*instance_metadata.keys(host, state))
        return 0
    terminal.print_bytes(instance_metadata.value(host, state, key))
    return 0


def validate(host: Host, path: str) -> int:
    """Print each problem of a document or medium with place and remedy; return 1 if it is not valid."""
    from agent.image import delivery

    parsed = delivery.read(host, path)
    for problem in parsed.problems:
        word = "ignored" if problem.harmless else "error"
        terminal.print_lines(f"{path}: {word}: {problem.path}: {problem.message}")
        if problem.hint:
            terminal.print_lines(f"  try: {problem.hint}")
    errors = sum(not problem.harmless for problem in parsed.problems)
    if errors or parsed.config is None:
        terminal.print_lines(f"{path}: {errors} error{'' if errors == 1 else 's'}")
        return 1
    terminal.print_lines(f"{path}: valid ({parsed.config.identity.source})")
    return 0


def schema() -> int:
    """Print the JSON Schema of the native document."""
    from agent.reader import json_schema

    terminal.print_json(json_schema.of_native(), sort_keys=True)
    return 0


def seed(host: Host, kind: str, config: str, script: str | None, out: str, size: int) -> int:
    """Make a medium that the agent reads. ``size``: bytes of a swap image."""
    from agent.image import seed as media

    files = {"config": _content(host, config)}
    if script:
        files["script"] = _content(host, script)
    match kind:
        case "swap":
            media.swap(host, out, media.archive(files), size=size)
        case "iso":
            media.iso(host, out, media.drive(**files))
        case _:
            media.folder(host, out, media.drive(**files))
    terminal.print_lines(f"made {out}")
    return 0


def _content(host: Host, name: str) -> bytes:
    data = host.read_bytes(name)
    if data is None:
        raise ConfigError(f"{name}: no such file", hint="name the file that holds it")
    return data


def ganeti() -> int:
    """Print the native document of the instance that Ganeti creates, made from its environment variables."""
    from agent.image import ganeti as dialect

    terminal.print_json(dialect.document(os.environ))
    return 0
