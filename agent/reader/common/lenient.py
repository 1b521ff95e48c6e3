"""Validate a document, leave out each invalid item by its path, and validate again until it is valid.

pydantic reports all errors of a document at once with their paths. So a document is declared strictly, in
one place, and its valid items are applied all the same. Each part of a document is a frozen dataclass with
fields made by ``value``, ``part``, ``parts`` and ``named``.

Only pydantic's core is used, with schemas that are plain dicts, as pydantic_core.core_schema describes them.
Importing pydantic itself and making five models from annotations costs three times as much as the core and
this module, at each first boot.
"""

from __future__ import annotations

import difflib
import re

from agent.lib import records
from agent.reader.common.bounds import MAX_ITEMS, Unreadable
from agent.reader.common.compiled_core import SchemaValidator, ValidationError
from agent.reader.common.problem import MAX_PROBLEMS, Problem, bounded, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, TypeVar

    from pydantic_core import CoreSchema, ErrorDetails

    Part = TypeVar("Part")

#: Maximum rounds. Each leaves out at least one item on each invalid path, so nesting limits their number.
_ROUNDS = 20


#: Marks a field without a default: if it is missing, the item that contains it is left out.
REQUIRED: Any = object()
_SCHEMA, _ALSO, _EXACT = "schema", "also", "exact"
_DEFECT = "deliver less of it, to find out which item it is"
#: Message and hint for the validator's own errors.
_SHAPES = {
    "list_type": ("not a list", "write it in brackets: [...]"),
    "dict_type": ("not a dictionary", "write it in braces: {...}"),
    "dataclass_type": ("not a dictionary", "write it in braces: {...}"),
}
_KINDS = {str: "a string", int: "a number", float: "a number", list: "a list", dict: "a dictionary"}


def value(
    reader: Callable[[object], Any], default: Any = REQUIRED, *, also: str = "", exact: bool = False
) -> Any:
    """Declare a field for one value, read by ``reader``; ``also`` is a second spelling of its key. With
    ``exact`` an invalid value leaves out the item around it, since the default would change its meaning.
    """
    return _field(_read_by(reader), default, also, exact=exact)


def part(of: type) -> Any:
    """Declare a field for a part of the document, or None."""
    return _field(_nullable(schema(of)), None)


def parts(of: type | Callable[[object], Any]) -> Any:
    """Declare a field for a list of parts or values; None without a list, and for each invalid item."""
    one = schema(of) if isinstance(of, type) else _read_by(of)
    return _field(_nullable({"type": "list", "items_schema": _nullable(one)}), None)


def _read_by(reader: Callable[[object], Any]) -> CoreSchema:
    return {"type": "function-plain", "function": {"type": "no-info", "function": reader}}


def _nullable(of: CoreSchema) -> CoreSchema:
    return {"type": "nullable", "schema": of}


def named(of: type | Callable[[object], Any]) -> Any:
    """Declare a field for a dictionary of parts or values with any keys; invalid ones are left out."""
    one = schema(of) if isinstance(of, type) else _read_by(of)
    many: CoreSchema = {"type": "dict", "keys_schema": {"type": "str"}, "values_schema": _nullable(one)}
    return _field(_nullable(many), None)


def _field(of: CoreSchema, default: Any, also: str = "", *, exact: bool = False) -> Any:
    if default is REQUIRED:
        return records.field(metadata={_SCHEMA: of, _ALSO: also})
    with_default = {"type": "default", "schema": of, "default": default, "metadata": {_EXACT: exact}}
    return records.field(default=default, metadata={_SCHEMA: with_default, _ALSO: also})


def schema(of: type) -> CoreSchema:
    """Return the core's schema of a part; an unknown key is an error."""
    declared = records.fields(of)
    return {
        "type": "dataclass",
        "cls": of,
        "schema": {
            "type": "dataclass-args",
            "dataclass_name": of.__name__,
            "fields": [_declared(one) for one in declared],
            "extra_behavior": "forbid",
        },
        "fields": [one.name for one in declared],
        "frozen": True,
        "slots": True,
    }


def _declared(one: records.Field[Any]) -> Any:
    declared = {"type": "dataclass-field", "name": one.name, "schema": one.metadata[_SCHEMA]}
    also = one.metadata[_ALSO]
    return declared | ({"validation_alias": [[one.name], [also]]} if also else {})


def validate(
    of: type[Part], document: dict[str, Any], *, partly: bool = False
) -> tuple[Part, list[Problem]]:
    """Return the valid part of the document, and a problem for each item that was left out.

    ``partly``: the agent handles only a part of this format. Another key is not an error, and is reported
    once for all items that have it.

    Every field of ``of`` needs a default, or must be in a list with items that may be None: a list item that
    is invalid as a whole becomes None. ``document`` is modified.
    """
    whole = schema(of)
    validator = SchemaValidator(whole, {"hide_input_in_errors": True})
    known = frozenset(_keys(whole))
    problems = _many_unknown(document, {one["name"] for one in _declarations(whole)})
    told: set[tuple[int | str, ...]] = set()
    for _ in range(_ROUNDS):
        try:
            told_once = _unhandled(problems) if partly else problems
            return validator.validate_python(document), bounded(told_once)
        except ValidationError as error:
            for wrong in error.errors(include_url=False, include_context=False):
                if not wrong["loc"]:
                    what = f"not taken as a whole: {wrong['type']}"
                    return of(), bounded([*problems, Problem("the document", what, _DEFECT)])
                missing, exact = wrong["type"] == "missing", _is_exact(whole, wrong["loc"])
                # A required value that an earlier round left out is missing now: it is reported already.
                if not (missing and wrong["loc"] in told):
                    # Searching for a similar key is slow, and no more problems than these are shown.
                    likely = known if len(problems) < MAX_PROBLEMS else frozenset[str]()
                    problems.append(_problem(wrong, likely, exact=exact))
                told.add(wrong["loc"])
                _leave_out(document, wrong["loc"][:-1] if missing or exact else wrong["loc"])
    return of(), [*bounded(problems), Problem("the document", "wrong throughout", "see the format")]


def _many_unknown(document: dict[str, Any], known: set[str]) -> list[Problem]:
    """Remove the unknown keys of a document with so many keys that reporting each would take long."""
    if len(document) <= MAX_ITEMS:
        return []
    unknown = [key for key in document if key.replace("-", "_") not in known]
    for key in unknown:
        del document[key]
    return [Problem("the document", f"{len(unknown)} unknown keys", "they have no effect", harmless=True)]


def _declarations(whole: Any) -> list[Any]:
    declared: list[Any] = whole["schema"]["fields"]
    return declared


def _unhandled(problems: Iterable[Problem]) -> list[Problem]:
    told = []
    for problem in problems:
        if problem.harmless:
            key = re.sub(r"\[[0-9]+\]", "[]", problem.path)
            problem = Problem(key, "this key is not handled", "it has no effect", harmless=True)
        told.append(problem)
    return list(dict.fromkeys(told))


def path(location: Iterable[int | str]) -> str:
    """Return a place in a document as messages show it: ``vif[0].pna[1].pna_address``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{shown(step)}" for step in location)
    return text.removeprefix(".")


def _is_exact(core: Any, location: Iterable[int | str]) -> bool:
    """Return whether the field at that place was declared ``exact``."""
    for step in location:
        while core["type"] in ("default", "nullable"):
            core = core["schema"]
        match core:
            case {"items_schema": inner} | {"values_schema": inner}:
                core = inner
            case {"type": "dataclass", "schema": {"fields": declared}}:
                found = (one["schema"] for one in declared if one["name"] == step)
                core = next(found, {"type": "any"})
    return bool(core.get("metadata", {}).get(_EXACT))


def _problem(wrong: ErrorDetails, known: frozenset[str], *, exact: bool = False) -> Problem:
    """Return the problem for an error of the validator, with the type of the value, never the value."""
    kind, location = wrong["type"], wrong["loc"]
    if kind == "unexpected_keyword_argument":
        return Problem(path(location), "unknown key", _similar_key(str(location[-1]), known), harmless=True)
    if kind == "missing":
        return Problem(path(location), "missing", "without it the item around it is left out")
    said, _, hint = wrong["msg"].removeprefix("Value error, ").partition("; ")
    said, hint = _SHAPES.get(kind, (said, hint or "correct it in the document and deliver it again"))
    lost = ": the item around it is left out" if exact else ""
    return Problem(path(location), f"{said} (given: {_kind(wrong['input'])}){lost}", hint)


def _kind(given: object) -> str:
    """Return the type of a value, by its name in JSON."""
    if isinstance(given, Unreadable):
        return given.why
    if given is None or isinstance(given, bool):
        return "null" if given is None else "true or false"
    return next((name for kind, name in _KINDS.items() if isinstance(given, kind)), "something else")


def _similar_key(key: str, known: frozenset[str]) -> str:
    near = difflib.get_close_matches(key[:80], known, n=1)
    return f"did you mean {near[0]}?" if near else "it has no effect"


def _leave_out(document: Any, location: tuple[int | str, ...]) -> None:
    """Remove an item; in a list it becomes None, so that the others keep their numbers."""
    *above, last = location
    for step in above:
        document = document[step] if _has(document, step) else None
    if _has(document, last):
        if isinstance(last, int):
            document[last] = None
        else:
            del document[last]


def _has(container: Any, step: int | str) -> bool:
    match container, step:
        case list(), int():
            return step < len(container)
        case dict(), str():
            return step in container
    return False


def _keys(of: CoreSchema | dict[str, Any]) -> Iterable[str]:
    """Yield every key of a schema and of the schemas in it."""
    match of:
        case {"type": "dataclass-field", "name": str(name), "schema": inner}:
            yield name
            yield from _keys(inner)
        case (
            {"fields": [dict(), *_] as inner}
            | {"schema": dict() as inner}
            | {"items_schema": inner}
            | {"values_schema": inner}
        ):
            for one in inner if isinstance(inner, list) else [inner]:
                yield from _keys(one)
