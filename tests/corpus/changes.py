"""A document with one thing changed at a time: a value removed, a value replaced, a key added.

A document is taken as the reader takes it (text, lists and dictionaries) and written again as JSON, which
every reader of YAML reads too. interfaces(5) is changed line by line. What is neither is not changed:
scripts, messages, and what cannot be read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from agent.lib.records import dataclass
from agent.reader.common.document import read_text
from agent.reader.formats import yaml_events
from tests.corpus import Document, Drive

Place = tuple[int | str, ...]
#: The lines before YAML in user data.
_MARKS = re.compile(r"(?:## template: jinja\n)?#cloud-config(?:-archive)?[ \t]*\n")
_MADE_OF_YAML = ("network/netplan_", "network/v1", "network/network_data", "userdata/")
#: What no value may be, and a key that no format has.
WRONG: Any = [{"a": [[{"b": "c"}]]}]
UNKNOWN = "unknown_key_of_the_test"
_YES = {"true": "false", "yes": "no", "on": "off"}
_OPPOSITE = _YES | {no: yes for yes, no in _YES.items()}


@dataclass(frozen=True, slots=True)
class Tree:
    """The values of a document, and the lines before them."""

    document: Document
    head: str
    values: Any

    def drive(self, values: Any = None) -> Drive:
        """Return the drive with these values in place of the document's, or with its own."""
        text = self.head + json.dumps(self.values if values is None else values, ensure_ascii=False)
        return self.document.with_text(text.encode("utf-8", "surrogateescape"))

    def places(self) -> Iterator[tuple[Place, Any]]:
        """Yield the place and value of each leaf: text, null, and empty lists and dictionaries."""
        yield from (
            found
            for found in _walk(self.values, ())
            if not isinstance(found[1], dict | list) or not found[1]
        )

    def dictionaries(self) -> Iterator[Place]:
        """Yield the place of each dictionary that has keys."""
        yield from (place for place, found in _walk(self.values, ()) if isinstance(found, dict) and found)

    def without(self, place: Place) -> Drive:
        """Return the drive without the value at a place."""
        values = deepcopy(self.values)
        *above, last = place
        del _at(values, above)[last]
        return self.drive(values)

    def with_value(self, place: Place, value: Any) -> Drive:
        """Return the drive with another value at a place."""
        values = deepcopy(self.values)
        *above, last = place
        _at(values, above)[last] = value
        return self.drive(values)


def tree(document: Document) -> Tree | None:
    """Return the values of a document, None if it has none, or is not written as YAML or JSON."""
    if not document.place or not document.group.startswith(_MADE_OF_YAML):
        return None
    text, head = read_text(document.files[document.place]), ""
    if document.group.startswith("userdata/"):
        marks = _MARKS.match(text)
        if marks is None:
            return None
        head, text = marks[0], text[marks.end() :]
        if "{{" in text or "{%" in text:
            return None
    yaml_events.load()
    values = yaml_events.read("", text, [])
    return Tree(document, head, values) if isinstance(values, dict | list) and _is_text(values) else None


def opposite(value: Any) -> Any:
    """Return false for true and true for false, as written in YAML; None for anything else."""
    return _OPPOSITE.get(value.lower()) if isinstance(value, str) else None


def _is_text(values: Any) -> bool:
    """Return whether JSON can hold the values: not bytes, or what is beyond a limit."""
    return all(isinstance(found, str | dict | list | None) for _, found in _walk(values, ()))


def _walk(values: Any, place: Place) -> Iterator[tuple[Place, Any]]:
    """Yield the place of each value, with the value."""
    yield place, values
    inner: Any = (
        values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    )
    for key, found in inner:
        yield from _walk(found, (*place, key))


def _at(values: Any, place: list[int | str]) -> Any:
    for step in place:
        values = values[step]
    return values
