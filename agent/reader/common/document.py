"""Decode delivered text, and refuse what is too large; JSON is read in bounds.py."""

from __future__ import annotations

from agent.reader.common.problem import Problem
from agent.reader.common.result import Reading


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
