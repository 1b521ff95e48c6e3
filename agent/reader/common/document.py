"""A delivered document's bytes as JSON or text: what is wrong with the whole of it, told under its name."""

from __future__ import annotations

import json

from agent.reader.common import bounds
from agent.reader.common.problem import Problem
from agent.reader.common.result import Reading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_REMEDY = "the platform has to deliver a correct document"


def read_json(name: str, raw: bytes, problems: list[Problem]) -> dict[str, Any] | None:
    """The document; None, with the reason among the problems, where it is no JSON object. What is not taken
    of it is named (``agent.reader.common.bounds``), also a text that is no UTF-8.
    """
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    what = "not a JSON object"
    try:
        document = bounds.load(raw.decode("utf-8", "surrogateescape"), name, problems)
        if isinstance(document, dict):
            return document
    except json.JSONDecodeError as error:
        what = _not_utf8(raw) or f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
    except (RecursionError, MemoryError):
        what = "nested too deeply, or too large to be held in memory"
    problems.append(Problem(name, what, _REMEDY))
    return None


def _not_utf8(raw: bytes) -> str:
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return f"not UTF-8 at byte {error.start}"
    return ""


def read_text(raw: bytes) -> str:
    """The text without a byte order mark and carriage returns. Bytes that are no UTF-8 stay, as surrogates:
    what they are in is judged by itself.
    """
    return raw.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape").replace("\r\n", "\n")


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
