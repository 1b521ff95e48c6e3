"""Bounds of a delivered document, held before anything is made of its values: what is beyond costs itself.

In place of a value that is not taken stands an ``Unreadable``. No reader of values takes one, so it is named
by its path like any other wrong value, and the rest of the document is applied.
"""

from __future__ import annotations

import json
import re

from agent.lib.records import dataclass
from agent.reader.common.problem import Problem, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Values of a document in all, and items of one list or dictionary: more is no machine, and each that is
#: wrong costs time to name.
MOST, ITEMS = 30_000, 5000
#: Levels of lists and dictionaries.
DEEPEST = 40
#: Characters of a number: int() refuses more than 4300 digits, and float() is slow with a million.
_DIGITS = 400
#: Characters of a document in which parts that are nested too deeply are looked for.
_SEARCHED = 2 << 20
#: Stands in the text for such a part. Who writes it there only loses that value.
_CUT, _CUT_KEY = '{"\\u0000cut": 0}', "\0cut"
_BRACKETS = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]+|[\]}]+', re.DOTALL)


@dataclass(slots=True)
class Unreadable:
    """A value that is not taken; ``why`` goes into the message, and quotes nothing of the document."""

    why: str


_DEEP = Unreadable(f"nested more than {DEEPEST} deep")
_NUMBER = Unreadable("a number that is too large, or not one of JSON")


def load(text: str, name: str, problems: list[Problem]) -> Any:
    """Return the JSON value of the document ``name``. Raises ValueError where it is no JSON, RecursionError
    where it is nested too deeply for the part that is to be found.
    """
    hooks = _Hooks()
    try:
        value = hooks.load(text)
    except RecursionError:
        value = hooks.load(_without_depths(text))
    hint = "write it as UTF-8"
    problems.extend(odd_key(name, key, hint) for key in sorted(hooks.odd)[:10])
    problems.extend(
        Problem(shown(key), "the key appears twice; the last one is used", "write it once")
        for key in sorted(hooks.twice - hooks.odd)[:10]
    )
    return held(value)


def held(document: Any) -> Any:
    """Return the document with no more items, values and levels than the bounds; the root is not bounded."""
    holder: list[Any] = [document]
    level: list[tuple[Any, Any]] = [(holder, 0)] if isinstance(document, list | dict) else []
    count = 0
    for depth in range(DEEPEST + 1):
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


def is_text(key: str) -> bool:
    """Whether it can be written as UTF-8."""
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


def odd_key(name: str, key: str, hint: str) -> Problem:
    """Return what is said of a key that is no text."""
    return Problem(f"{name}: {shown(key)}", "a key that is not text: left out", hint)


def _beyond(value: list[Any] | dict[str, Any], depth: int, count: int) -> Unreadable | None:
    """Return what takes the place of a list or dictionary, None where it stays."""
    if depth and len(value) > ITEMS:
        return Unreadable(f"{len(value)} items; at most {ITEMS} are read")
    if depth and count + len(value) >= MOST:
        return Unreadable(f"more than {MOST} values, with those before it")
    return _DEEP if depth == DEEPEST else None


class _Hooks:
    """What json.loads calls for each value that may be odd."""

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
    """Return the JSON text with a mark in place of each part below the deepest level."""
    if len(text) > _SEARCHED:
        raise RecursionError
    pieces: list[str] = []
    depth = kept = begun = 0
    for found in _BRACKETS.finditer(text):
        first, size = found[0][0], len(found[0])
        if first in "[{":
            if depth <= DEEPEST < depth + size:
                begun = found.start() + DEEPEST - depth
            depth += size
        elif first in "]}":
            if depth - size <= DEEPEST < depth:
                pieces += [text[kept:begun], _CUT]
                kept = found.start() + depth - DEEPEST
            depth -= size
    return "".join([*pieces, text[kept:]])
