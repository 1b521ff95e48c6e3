"""The verbs about documents and media: print metadata, check a document, make a medium."""

from __future__ import annotations

from agent.host import terminal
from agent.lib.errors import ConfigError
from agent.reader.common import problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.host.host import Host
    from agent.reader.client import Parsed


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


#: The exit status of ``validate`` if something well-formed will not happen. 2 is that of wrong arguments.
UNSUPPORTED = 3
_WORDS = {problem.ERROR: "error", problem.UNSUPPORTED: "unsupported", problem.HARMLESS: "ignored"}


def validate(host: Host, path: str, *, as_json: bool = False) -> int:
    """Print each problem of a document or medium with place and remedy. Return 0 if everything delivered
    will happen, 1 if there are errors, UNSUPPORTED if something will not happen although it is well-formed.
    """
    from agent.image import delivery

    parsed = delivery.read(host, path)
    status, text = judged(path, parsed)
    if as_json:
        found = [
            {"path": one.path, "message": one.message, "hint": one.hint, "severity": _WORDS[one.severity]}
            for one in parsed.problems
        ]
        source = parsed.config.identity.source if parsed.config else None
        terminal.print_json({"source": source, "valid": status != 1, "status": status, "problems": found})
        return status
    terminal.print_lines(*text)
    return status


def judged(path: str, parsed: Parsed) -> tuple[int, list[str]]:
    """Return the exit status of ``validate``, and what it prints."""
    text = list[str]()
    for one in parsed.problems:
        text.append(f"{path}: {_WORDS[one.severity]}: {one.path}: {one.message}")
        text += [f"  try: {one.hint}"] if one.hint else []
    errors, unsupported = (
        sum(one.severity == severity for one in parsed.problems)
        for severity in (problem.ERROR, problem.UNSUPPORTED)
    )
    if errors or parsed.config is None:
        return 1, [*text, f"{path}: {errors} error{'' if errors == 1 else 's'}"]
    left = f", but {unsupported} of it not supported" if unsupported else ""
    valid = f"{path}: valid ({parsed.config.identity.source}){left}"
    return UNSUPPORTED if unsupported else 0, [*text, valid]


def schema() -> int:
    """Print the JSON Schema of the native document."""
    from agent.reader import json_schema

    terminal.print_json(json_schema.of_native(), sort_keys=True)
    return 0


def seed(
    host: Host, kind: str, config: str, script: str | None, out: str, size: int, *, sign: str | None = None
) -> int:
    """Make a medium that the agent reads, of a document without errors. ``size``: bytes of a swap image;
    ``sign``: the key's path. Print what ``validate`` does of a document with problems; if there are errors,
    make nothing and return 1, else 0.
    """
    from agent.image import delivery
    from agent.image import seed as media

    files = {"config": _content(host, config)}
    status, text = judged(config, delivery.document(files["config"]))
    if status:
        terminal.print_error(*text)
    if status == 1:
        return 1
    if script:
        files["script"] = _content(host, script)
    if kind == "swap":
        if sign:
            raise ConfigError("an archive on a swap disk cannot be signed", hint="make a drive: iso or dir")
        media.swap(host, out, media.archive(files), size=size)
    else:
        drive = media.signed_drive(host, key=sign, **files) if sign else media.drive(**files)
        (media.iso if kind == "iso" else media.folder)(host, out, drive)
    terminal.print_lines(f"made {out}")
    return 0


def _content(host: Host, name: str) -> bytes:
    data = host.read_bytes(name)
    if data is None:
        raise ConfigError(f"{name}: no such file", hint="name the file that holds it")
    return data
