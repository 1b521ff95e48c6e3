"""Canonical JSON: equal values have the same text (sorted keys, no spaces); and what is read from
any: objects, and records of stored documents, which may be older than their classes.
"""

from __future__ import annotations

import json
import re
import sys
from functools import cache

from agent.lib.records import fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Set
    from typing import Any, TypeVar

    One = TypeVar("One")


def parsed_object(text: str | bytes) -> dict[str, Any] | None:
    """Return a JSON object; None for what is damaged or something else."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def canonical(value: object) -> bytes:
    """Return the value as canonical JSON in UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def record(of: Callable[..., One], given: Mapping[str, Any], *, may_lack: Set[str] | None = None) -> One:
    """Return the record of a stored document, the inverse of ``records.asdict``; lists become tuples. The
    records and enumerations in it are made of the classes of its own module that the types of its fields
    name.

    Raise TypeError for a field that it does not have, and AttributeError for what is no dictionary. What is
    missing has its default; raise KeyError if ``may_lack`` is given without it.
    """
    kinds = _kinds(of)
    if may_lack is not None and (missing := kinds.keys() - given.keys() - may_lack):
        raise KeyError(*sorted(missing))
    return of(**{name: _made(value, kinds.get(name)) for name, value in given.items()})


@cache
def _kinds(of: Any) -> dict[str, Any]:
    """Return the class of each field's value, or of the items in it; None for what JSON has itself."""
    own = {name: kind for name, kind in vars(sys.modules[of.__module__]).items() if isinstance(kind, type)}
    named = {one.name: re.findall("[A-Za-z]+", str(one.type)) for one in fields(of)}
    return {name: next((own[word] for word in words if word in own), None) for name, words in named.items()}


def _made(value: Any, kind: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_made(one, kind) for one in value)
    if value is None or kind is None or isinstance(value, kind):
        return value
    return kind(value) if issubclass(kind, str) else record(kind, value)
