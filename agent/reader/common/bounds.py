"""Decode a delivered JSON document, and enforce limits before its values are read.

An ``Unreadable`` replaces each value beyond a limit. No reader of values accepts one, so it is reported with
its path like any other invalid value, and the rest of the document is applied.
"""

from __future__ import annotations

import json
import re

from agent.lib.records import dataclass
from agent.lib.text import is_text
from agent.reader.common.problem import Problem, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Maximum values of a document, and maximum items of one list or dictionary. No machine needs more, and each
#: invalid one takes time to report.
MAX_VALUES, MAX_ITEMS = 30_000, 5000
#: Maximum levels of lists and dictionaries.
MAX_DEPTH = 40
#: Maximum characters of a number: int() refuses more than 4300 digits, and float() is slow with a million.
_DIGITS = 400
#: Maximum characters of a document that is searched for parts nested too deeply.
_SEARCHED = 2 << 20
#: Replaces such a part in the text. A document that contains it itself only loses that value.
_CUT, _CUT_KEY = '{"\\u0000cut": 0}', "\0cut"
_BRACKETS = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]+|[\]}]+', re.DOTALL)
_REMEDY = "the platform must deliver a correct document"


@dataclass(slots=True)
class Unreadable:
    """A value that no reader takes, beyond a limit or in a wrong form. ``why`` is for the message and quotes
    nothing of the document; ``hint`` is the remedy, "" for the usual one.
    """

    why: str
    hint: str = ""


class Typed(str):
    """Text that was written without quotes, and that YAML 1.1 reads as a number or as true or false."""

    __slots__ = ()


_DEEP = Unreadable(f"nested more than {MAX_DEPTH} deep")
_NUMBER = Unreadable("a number that is too large, or not one of JSON")


def read_json(
    name: str, raw: bytes, problems: list[Problem], *, is_only: bool = False
) -> dict[str, Any] | None:
    """Return the document, or None and a problem if it is not a JSON object. Values beyond the limits, and
    text that is not UTF-8, become problems later. ``is_only``: paths in it are shown without its name.
    """
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    what = "not a JSON object"
    try:
        document = load(raw.decode("utf-8", "surrogateescape"), name, problems, is_only=is_only)
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


def load(text: str, name: str, problems: list[Problem], *, is_only: bool = False) -> Any:
    """Return the JSON value of the document ``name``. Raise ValueError if it is not JSON, RecursionError if
    it is nested too deeply and too large to search for the deep part.
    """
    hooks = _Hooks()
    try:
        value = hooks.load(text)
    except RecursionError:
        value = hooks.load(_without_depths(text))
    hint, place = "write it as UTF-8", "" if is_only else f"{name}: "
    problems.extend(odd_key(name, key, hint) for key in sorted(hooks.odd)[:10])
    problems.extend(
        Problem(f"{place}{shown(key)}", "the key appears twice; the last one is used", "write it once")
        for key in sorted(hooks.twice - hooks.odd)[:10]
    )
    return limited(value)


def limited(document: Any) -> Any:
    """Return the document with Unreadable in place of what is beyond the limits; the root has no limit."""
    holder: list[Any] = [document]
    level: list[tuple[Any, Any]] = [(holder, 0)] if isinstance(document, list | dict) else []
    count = 0
    for depth in range(MAX_DEPTH + 1):
        below: list[tuple[Any, Any]] = []
        for container, key in level:
            value = container[key]
            why = _beyond(value, depth, count)
            if why:
                container[key] = why
                continue
            count += (1 + len(value)) if depth else 0
            inside = value.items() if isinstance(value, dict) else enumerate(value)
            below += [(value, step) for step, inner in inside if isinstance(inner, list | dict)]
        level = below
    return holder[0]


def odd_key(name: str, key: str, hint: str) -> Problem:
    """Return the problem for a key that is not text."""
    return Problem(f"{name}: {shown(key)}", "a key that is not text: left out", hint)


def _beyond(value: list[Any] | dict[str, Any], depth: int, count: int) -> Unreadable | None:
    """Return the replacement for a list or dictionary beyond a limit, else None."""
    if depth and len(value) > MAX_ITEMS:
        return Unreadable(f"{len(value)} items; at most {MAX_ITEMS} are read")
    if depth and count + len(value) >= MAX_VALUES:
        return Unreadable(f"more than {MAX_VALUES} values, with those before it")
    return _DEEP if depth == MAX_DEPTH else None


class _Hooks:
    """The hooks of json.loads for numbers and objects; ``twice`` and ``odd`` collect the keys to report."""

    def __init__(self) -> None:
        self.twice: set[str] = set()
        self.odd: set[str] = set()

    def load(self, text: str) -> Any:
        return json.loads(
            text,
            object_pairs_hook=self._pairs,
            parse_int=lambda digits: int(digits) if len(digits) <= _DIGITS else _NUMBER,
            parse_float=self._float,
            parse_constant=lambda _word: _NUMBER,
        )

    def _pairs(self, pairs: list[tuple[str, Any]]) -> Any:
        document = dict(pairs)
        if len(document) < len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                (self.twice if key in seen else seen).add(key)
        for key in [key for key in document if not is_text(key)]:
            self.odd.add(key)
            del document[key]
        return _DEEP if _CUT_KEY in document else document

    @staticmethod
    def _float(digits: str) -> object:
        value = float(digits) if len(digits) <= _DIGITS else float("inf")
        return _NUMBER if abs(value) == float("inf") else value


def _without_depths(text: str) -> str:
    """Return the JSON text with a marker in place of each part that is nested too deeply."""
    if len(text) > _SEARCHED:
        raise RecursionError
    pieces: list[str] = []
    depth = kept = begun = 0
    for found in _BRACKETS.finditer(text):
        first, size = found[0][0], len(found[0])
        if first in "[{":
            if depth <= MAX_DEPTH < depth + size:
                begun = found.start() + MAX_DEPTH - depth
            depth += size
        elif first in "]}":
            if depth - size <= MAX_DEPTH < depth:
                pieces += [text[kept:begun], _CUT]
                kept = found.start() + depth - MAX_DEPTH
            depth -= size
    return "".join([*pieces, text[kept:]])
