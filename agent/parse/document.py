"""A delivered document's bytes as JSON or text: what is wrong with the whole of it, told under its name."""

from __future__ import annotations

import json

from agent.parse.problem import Problem, shown
from agent.parse.reading import Reading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Commas in a document: more values than that is no machine, and each that is wrong costs time to tell.
MOST = 30_000
_REMEDY = "the platform has to deliver a correct document"


def read_json(name: str, raw: bytes, problems: list[Problem]) -> dict[str, Any] | None:
    """The document; None, with the reason among the problems, where it is no JSON object."""
    twice: set[str] = set()

    def noted(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        document = dict(pairs)
        if len(document) < len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                (twice if key in seen else seen).add(key)
        return document

    if raw.count(b",") > MOST:
        what = f"too large: more than {MOST} commas"
        problems.append(Problem(name, what, "deliver less, and long content in base64"))
        return None
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
    problems.append(Problem(name, what, _REMEDY))
    return None


def read_text(name: str, raw: bytes, problems: list[Problem]) -> str:
    """The text without a byte order mark and carriage returns; "", and told, where it is none."""
    try:
        return raw.removeprefix(b"\xef\xbb\xbf").decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        problems.append(Problem(name, f"not UTF-8 at byte {error.start}", "deliver it as UTF-8"))
        return ""


def small(name: str, raw: bytes, limit: int, problems: list[Problem]) -> bytes | None:
    """The bytes; None, and told, where they are more than ``limit``."""
    if len(raw) <= limit:
        return raw
    problems.append(
        Problem(name, f"{len(raw)} bytes; at most {limit} are read", "deliver a smaller document")
    )
    return None


def too_large(name: str) -> Reading:
    """What is left of input that filled the reader's memory."""
    what = "too large to be held in memory"
    return Reading(None, {}, [Problem(name, what, "the platform has to deliver less")])


def _twice(names: set[str]) -> list[Problem]:
    return [
        Problem(shown(name), "the key is there twice; the last one counts", "write it once")
        for name in sorted(names)[:10]
    ]
