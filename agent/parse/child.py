"""What the reader does: gives up its rights, reads the medium, answers with one JSON document, and ends.

All imports come before ``confine``: afterwards the process may not even be able to read its own library. So
it is told beforehand what it is for: with the digest of the last delivery it only compares, and needs no
pydantic.
"""

from __future__ import annotations

import json
import sys
from base64 import b64encode
from hashlib import sha256

from agent import __version__, model
from agent.parse import archive
from agent.parse.confine import confine
from agent.parse.problem import Problem, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from agent.model import InstanceConfig
    from agent.parse.archive import Archive

    #: A dialect's ``parse``: the document and the script become the model, the programs, the problems.
    Parse = Callable[[dict[str, Any], bytes | None], tuple[InstanceConfig, dict[str, bytes], list[Problem]]]

#: Bytes of a configuration that are handed back to be kept as it was spelled.
RAW_LIMIT = 1 << 20
_REMEDY = "the platform has to deliver a correct document"


def main(arguments: list[str]) -> None:
    """Answer on standard output for the medium on standard input; see the package for the arguments."""
    dialect, offset, *known = arguments
    parse = None if known else _dialect(dialect)
    confine()
    try:
        said = _answer(int(offset), parse, known[0] if known else "")
    except Exception as error:
        said = {"defect": _where(error)}
    sys.stdout.write(json.dumps(said))
    sys.stdout.flush()


def _dialect(name: str) -> Parse:
    """The dialect's parser. ``-S`` left the distribution's packages out; only here are they needed."""
    import site

    site.main()
    match name:
        case "gandi":
            from agent.parse import gandi

            return gandi.parse
    raise ValueError(f"no dialect {name}")


def _where(error: Exception) -> str:
    """The kind of a defect and its place in the reader; its text may quote the document."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = trace.tb_frame.f_code.co_filename.rpartition("/")[2] if trace else ""
    return f"{type(error).__name__} in {place}:{trace.tb_lineno if trace else 0}"


def _answer(offset: int, parse: Parse | None, known: str) -> dict[str, Any]:
    """What the archive at ``offset`` holds; without ``parse``, only whether it is the known one."""
    found = archive.read(0, offset)
    raw, script = (_content(found, name) for name in (archive.CONFIG, archive.SCRIPT))
    digest = _digest(found, raw, script)
    answer: dict[str, Any] = {
        "ours": found.ours and (raw is not None or any(not p.harmless for p in found.problems)),
        "extent": [found.offset, found.length],
        "modules": [
            [member.name, member.offset, member.size]
            for member in found.members.values()
            if archive.MODULES.fullmatch(member.name)
        ],
        "digest": digest,
        "same": digest == known,
    }
    if parse is not None and raw is not None:
        answer |= _document(found, parse, raw, script)
    answer["whole"] = found.whole
    answer["problems"] = [[p.path, p.message, p.hint, p.harmless] for p in found.problems]
    return answer


def _content(found: Archive, name: str) -> bytes | None:
    """A member's bytes; None where it is not there, or (told as a problem) not whole."""
    member = found.members.get(name)
    try:
        return member.read(0) if member else None
    except archive.Damaged as error:
        found.whole = False
        found.problems.append(Problem(name, str(error), _REMEDY))
        return None


def _digest(found: Archive, raw: bytes | None, script: bytes | None) -> str:
    """A name for everything that was delivered, by the version that read it; dates do not count."""
    digest = sha256(__version__.encode())
    for name, member in sorted(found.members.items()):
        digest.update(f"\0{name}\0{member.size}\0".encode())
    for content in (raw, script):
        digest.update(sha256(content or b"").digest())
    return digest.hexdigest()


def _document(found: Archive, parse: Parse, raw: bytes, script: bytes | None) -> dict[str, Any]:
    kept = b64encode(raw).decode() if len(raw) <= RAW_LIMIT else None
    if kept is None:
        what = f"{len(raw)} bytes; at most {RAW_LIMIT} are kept as /gandi/config"
        found.problems.append(Problem(archive.CONFIG, what, "deliver a smaller document"))
    document = _json(raw, found.problems)
    if document is None:
        return {"raw": kept}
    config, files, problems = parse(document, script)
    found.problems.extend(problems)
    return {
        "raw": kept,
        "config": json.loads(model.dump(config)),
        "files": {name: b64encode(content).decode() for name, content in files.items()},
    }


def _json(raw: bytes, problems: list[Problem]) -> dict[str, Any] | None:
    """The document; None, with the reason among the problems, where it is no JSON object."""
    twice: set[str] = set()

    def noted(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        document = dict(pairs)
        if len(document) < len(pairs):
            names = [name for name, _ in pairs]
            twice.update(name for name in document if names.count(name) > 1)
        return document

    try:
        text = raw.removeprefix(b"\xef\xbb\xbf").decode()
        document = json.loads(text, object_pairs_hook=noted)
    except json.JSONDecodeError as error:
        what = f"no JSON: {error.msg} at line {error.lineno}, column {error.colno}"
    except UnicodeDecodeError as error:
        what = f"not UTF-8 at byte {error.start}"
    except (RecursionError, MemoryError):
        what = "nested too deeply, or too large to be held in memory"
    except ValueError:
        what = "a number with thousands of digits"
    else:
        problems.extend(_twice(twice))
        if isinstance(document, dict):
            return document
        what = "no JSON object"
    problems.append(Problem(archive.CONFIG, what, _REMEDY))
    return None


def _twice(names: set[str]) -> list[Problem]:
    return [
        Problem(shown(name), "the key is there twice; the last one counts", "write it once")
        for name in sorted(names)[:10]
    ]
