"""Decode a delivered document as JSON or text; errors of the whole document are reported under its name."""

from __future__ import annotations

import json

from agent.reader.common import bounds
from agent.reader.common.problem import Problem
from agent.reader.common.result import Reading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_REMEDY = "the platform must deliver a correct document"


def read_json(name: str, raw: bytes, problems: list[Problem]) -> dict[str, Any] | None:
    """Return the document, or None and a problem if it is not a JSON object. Values beyond the limits, and
    text that is not UTF-8, become problems later (``agent.reader.common.bounds``).
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
    """Return the text without a byte order mark and with ``\\n`` for ``\\r\\n``. Bytes that are not UTF-8
    become surrogates, so that only the value that contains them is refused.
    """
    return raw.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape").replace("\r\n", "\n")


def small(name: str, raw: bytes, limit: int, problems: list[Problem]) -> bytes | None:
    """Return the bytes, or None and a problem if there are more than ``limit``."""
    if len(raw) <= limit:
        return raw
    problems.append(
        Problem(name, f"{len(raw)} bytes; at most {limit} are read", "deliver a smaller document")
    )
    return None


def too_large(name: str) -> Reading:
    """Return the reading of input that did not fit into the reader's memory."""
    what = "too large to be held in memory"
    return Reading(None, {}, [Problem(name, what, "the platform must deliver a smaller document")])
