"""Canonical JSON: equal values have the same text (sorted keys, no spaces); and what is read from
any: objects, and records of stored documents, which may be older than their classes.
"""

from __future__ import annotations

import json
import sys
from functools import cache

from agent.lib.records import fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Set
    from typing import Any, TypeVar

    One = TypeVar("One")


def parsed(text: str | bytes, errors: str = "strict") -> Any:
    """Return the value of JSON in UTF-8. Raise ValueError or RecursionError for anything else, also for a
    lone surrogate, which JSON can escape and nothing can write again; with ``errors``, for one that this way
    to encode does not take.
    """
    text = text if isinstance(text, str) else text.decode("utf-8", errors)
    found = json.loads(text)
    text.encode("utf-8", errors)
    if "\\ud" in text or "\\uD" in text:
        json.dumps(found, ensure_ascii=False).encode("utf-8", errors)
    return found


def parsed_object(text: str | bytes) -> dict[str, Any] | None:
    """Return a JSON object, in which names may have bytes that are not UTF-8 (surrogateescape); None for
    what is damaged or something else.
    """
    try:
        found = parsed(text, "surrogateescape")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def canonical(value: object) -> bytes:
    """Return the value as canonical JSON in UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def record(of: Callable[..., One], given: Mapping[str, Any], *, may_lack: Set[str] | None = None) -> One:
    """Return the record of a stored document, the inverse of ``records.asdict``; lists become tuples. The
    records and enumerations in it are made of the classes of its own module that the types of its fields
    name.

    Raise TypeError for a field that it does not have, TypeError or ValueError for a value of another type,
    and AttributeError for what is no dictionary. What is missing has its default; raise KeyError if
    ``may_lack`` is given without it.
    """
    shapes = _shapes(of)
    if may_lack is not None and (missing := shapes.keys() - given.keys() - may_lack):
        raise KeyError(*sorted(missing))
    return of(**{name: _made(name, value, shapes.get(name)) for name, value in given.items()})


@cache
def _shapes(of: Any) -> dict[str, Any]:
    """Return the shape of each field's value, see ``_shape``."""
    own = {name: kind for name, kind in vars(sys.modules[of.__module__]).items() if isinstance(kind, type)}
    known = own | {"str": str, "int": int, "bool": bool}
    return {one.name: _shape(str(one.type), known) for one in fields(of)}


def _shape(written: str, known: Mapping[str, type]) -> tuple[Any, bool, tuple[Any, ...]] | None:
    """Return what a type allows: the class, whether it may be None, and for a tuple the shapes of its items
    (one alone for any number of them). None for a class of another module, which has made its records.
    """
    one = written.removesuffix(" | None")
    if one.startswith("tuple["):
        inside = one[len("tuple[") : -1].removesuffix(", ...")
        parts = [inside] if inside.startswith("tuple[") else inside.split(", ")
        return tuple, one != written, tuple(_shape(part, known) for part in parts)
    return (known[one], one != written, ()) if one in known else None


def _made(name: str, value: Any, shape: tuple[Any, bool, tuple[Any, ...]] | None) -> Any:
    if shape is None:
        return tuple(value) if isinstance(value, list) else value
    kind, may_lack, items = shape
    if value.__class__ is kind and not items:
        return value
    if value is None and may_lack:
        return value
    if items and isinstance(value, list | tuple) and len(items) in (1, len(value)):
        of = items if len(items) == len(value) else items * len(value)
        return tuple([_made(name, one, each) for one, each in zip(value, of, strict=True)])
    if items or kind in (int, bool) or (isinstance(value, str) is not issubclass(kind, str)):
        raise TypeError(f"{name}: a value of another type")
    return value if kind is str else kind(value) if issubclass(kind, str) else record(kind, value)
