"""One bad item does not spoil the rest: validate, leave out what is wrong by its path, validate again.

pydantic tells all errors of a document at once with their paths, so a document is declared strictly, in one
place, and still applied as far as it is good. A part of a document is a frozen dataclass whose fields are
made by ``value``, ``part``, ``parts`` and ``named``.

pydantic's core validates, without its upper layer: that makes such schemas of annotations, and importing it
and making five models costs three times what the core and this module do, at each first boot.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic_core import SchemaValidator, ValidationError, core_schema

from agent.parse.problem import TOLD, Problem, bounded, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pydantic_core import CoreSchema

#: Each round leaves out at least one item on each path that was wrong; nesting bounds their number.
_ROUNDS = 20


#: Of a field that has no default: without it the item around it is left out.
REQUIRED: Any = object()
_SCHEMA, _ALSO = "schema", "also"

Part = TypeVar("Part")


def value(reader: Callable[[object], Any], default: Any = REQUIRED, *, also: str = "") -> Any:
    """A field that holds one value, made by a reader; ``also`` is a second spelling of its key."""
    return _field(core_schema.no_info_plain_validator_function(reader), default, also)


def part(of: type) -> Any:
    """A field that holds a part of the document, or None."""
    return _field(core_schema.nullable_schema(schema(of)), None)


def parts(of: type | Callable[[object], Any]) -> Any:
    """A field that holds a list of parts or of values; None where there is no list, and for a wrong item."""
    one = schema(of) if isinstance(of, type) else core_schema.no_info_plain_validator_function(of)
    many = core_schema.list_schema(core_schema.nullable_schema(one))
    return _field(core_schema.nullable_schema(many), None)


def named(of: type | Callable[[object], Any]) -> Any:
    """A field that holds parts or values by names of the document's own; a wrong one is missing there."""
    one = schema(of) if isinstance(of, type) else core_schema.no_info_plain_validator_function(of)
    many = core_schema.dict_schema(core_schema.str_schema(), core_schema.nullable_schema(one))
    return _field(core_schema.nullable_schema(many), None)


def _field(of: CoreSchema, default: Any, also: str = "") -> Any:
    if default is REQUIRED:
        return dataclasses.field(metadata={_SCHEMA: of, _ALSO: also})
    with_default = core_schema.with_default_schema(of, default=default)
    return dataclasses.field(default=default, metadata={_SCHEMA: with_default, _ALSO: also})


def schema(of: type) -> CoreSchema:
    """How the core validates a part; an unknown key is an error there."""
    declared = dataclasses.fields(of)
    arguments = [
        core_schema.dataclass_field(
            f.name,
            f.metadata[_SCHEMA],
            validation_alias=[[f.name], [f.metadata[_ALSO]]] if f.metadata[_ALSO] else None,
        )
        for f in declared
    ]
    known = core_schema.dataclass_args_schema(of.__name__, arguments, extra_behavior="forbid")
    return core_schema.dataclass_schema(of, known, [f.name for f in declared], frozen=True, slots=True)


def validate(
    of: type[Part], document: dict[str, Any], *, partly: bool = False
) -> tuple[Part, list[Problem]]:
    """The document as far as it is good, and each item that had to be left out.

    ``partly``: only a part of the format is known here. A key beside it is no mistake, and is named once
    however many items have it.

    Every field of ``of`` needs a default, or lies in a list whose items may be None: that is what a list
    item becomes that is wrong as a whole. ``document`` is changed.
    """
    whole = schema(of)
    validator = SchemaValidator(whole, core_schema.CoreConfig(hide_input_in_errors=True))
    known = frozenset(_keys(whole))
    problems: list[Problem] = []
    told: set[tuple[int | str, ...]] = set()
    for _ in range(_ROUNDS):
        try:
            told_once = _unhandled(problems) if partly else problems
            return validator.validate_python(document), bounded(told_once)
        except ValidationError as error:
            for wrong in error.errors(include_url=False, include_context=False, include_input=False):
                missing = wrong["type"] == "missing"
                # What was left out a round ago may be missing now: the item around it goes, told already.
                if not (missing and wrong["loc"] in told):
                    # Looking for a likely key takes long, and no more than these are told.
                    likely = known if len(problems) < TOLD else frozenset[str]()
                    problems.append(_problem(wrong["type"], wrong["loc"], wrong["msg"], likely))
                told.add(wrong["loc"])
                _leave_out(document, wrong["loc"][:-1] if missing else wrong["loc"])
    return of(), [*bounded(problems), Problem("the document", "wrong throughout", "see the format")]


def _unhandled(problems: Iterable[Problem]) -> list[Problem]:
    told = []
    for problem in problems:
        if problem.harmless:
            key = re.sub(r"\[[0-9]+\]", "[]", problem.path)
            problem = Problem(key, "this key is not handled", "it has no effect", harmless=True)
        told.append(problem)
    return list(dict.fromkeys(told))


def path(location: Iterable[int | str]) -> str:
    """A place in a document as people write it: ``vif[0].pna[1].pna_address``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{shown(step)}" for step in location)
    return text.removeprefix(".")


def _problem(kind: str, location: tuple[int | str, ...], message: str, known: frozenset[str]) -> Problem:
    if kind == "unexpected_keyword_argument":
        return Problem(path(location), "unknown key", _near(str(location[-1]), known), harmless=True)
    if kind == "missing":
        return Problem(path(location), "missing", "without it the item around it is left out")
    said = message.removeprefix("Value error, ")
    said, _, hint = said.partition("; ")
    return Problem(path(location), said, hint or "correct it in the document and deliver it again")


def _near(key: str, known: frozenset[str]) -> str:
    near = difflib.get_close_matches(key[:80], known, n=1)
    return f"did you mean {near[0]}?" if near else "it has no effect"


def _leave_out(document: Any, location: tuple[int | str, ...]) -> None:
    """Remove the item; one of a list becomes None, so that the others keep their numbers."""
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
    """Every key of a schema and of those within it."""
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
