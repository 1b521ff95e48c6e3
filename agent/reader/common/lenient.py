"""Validate a document, leave out each invalid item by its path, and validate again until it is valid.

pydantic reports all errors of a document at once with their paths. So a document is declared strictly, in
one place, and its valid items are applied all the same. Each part of a document is a frozen dataclass with
fields made by ``value``, ``part``, ``parts`` and ``named``.

What a part does not declare is not ignored: ``unused`` names its keys that are documented and not handled,
as harmless or as refused. A refused key, and an unknown one, costs the item that has it, which would mean
something else without the key. The spelling of a key is free where it can only mean one thing: ``-`` for
``_``, upper case, blanks around it; so is one value in place of a list of one.

Only pydantic's core is used, with schemas that are plain dicts, as pydantic_core.core_schema describes them:
importing pydantic and making five models from annotations costs three times as much at each first boot.
"""

from __future__ import annotations

import re

from agent.lib import records
from agent.lib.records import dataclass, field
from agent.lib.text import WHITE, nearest
from agent.reader.common.bounds import MAX_ITEMS, Unreadable
from agent.reader.common.compiled_core import SchemaValidator, ValidationError
from agent.reader.common.left_out import leave_out
from agent.reader.common.problem import HARMLESS, MAX_PROBLEMS, UNSUPPORTED, Problem, bounded, path
from agent.reader.common.values import is_false

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, TypeAlias, TypeVar

    from pydantic_core import CoreSchema, ErrorDetails

    Part = TypeVar("Part")
    Location: TypeAlias = tuple[int | str, ...]

#: Maximum rounds. Each leaves out at least one item on each invalid path, so nesting limits their number.
_ROUNDS = 20

#: Marks a field without a default: if it is missing, the item that contains it is left out.
REQUIRED: Any = object()
#: What an unknown key costs: the item that has it, only itself, or nothing.
ITEM, ITSELF, NOTHING = "item", "itself", "nothing"
#: Metadata of a field. _EXACT: an invalid value leaves out the item around it.
_SCHEMA, _EXACT, _SPLIT = "schema", "exact", "split"
_DEFECT = "deliver less of it, to find out which item it is"
#: Message and hint for the validator's own errors.
_SHAPES = {
    "list_type": ("not a list", "write it in brackets: [...]"),
    "dict_type": ("not a dictionary", "write it in braces: {...}"),
    "dataclass_type": ("not a dictionary", "write it in braces: {...}"),
}
#: Between values that are written as one string.
_SEPARATORS = re.compile(r"[ \t\n\r,]+")
_CORRECT = "correct it in the document and deliver it again"
_SEALED = ("a sealed value is not taken here", "only a plain_password and a file's content can be sealed")
_LOST = "the item around it is left out"
_KINDS = {str: "a string", int: "a number", float: "a number", list: "a list", dict: "a dictionary"}


@dataclass(frozen=True, slots=True)
class Unused:
    """The keys of a part that are documented and not handled, each with the reason; spelled with ``_``.

    ``harmless`` keys have no effect here. A key of ``refused`` costs the item that has it. One of
    ``unsupported`` costs itself, as its item means the same without it; and so does a refused one at the top
    of a document, or of a ``section`` of independent keys. Both ask for nothing if they are empty, and those
    of ``off`` also if they are false or have no keys. ``unknown``: what any other key costs. With
    ``is_quiet``, harmless keys are not reported: a platform writes them in each document.
    """

    harmless: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    unsupported: Mapping[str, str] = field(default_factory=dict)
    off: tuple[str, ...] = ()
    unknown: str = ITSELF
    section: bool = False
    is_quiet: bool = False


UNUSED: dict[type, Unused] = {}
_NONE = Unused()
_ANY: Any = {"type": "any"}


def unused(
    of: type,
    *,
    harmless: Mapping[str, str] | None = None,
    refused: Mapping[str, str] | None = None,
    unsupported: Mapping[str, str] | None = None,
    off: tuple[str, ...] = (),
    unknown: str = ITEM,
    section: bool = False,
    is_quiet: bool = False,
) -> None:
    """Declare the keys of a part that it does not handle (see ``Unused``)."""
    unknown = ITSELF if section else unknown
    UNUSED[of] = Unused(harmless or {}, refused or {}, unsupported or {}, off, unknown, section, is_quiet)


def value(reader: Callable[[object], Any], default: Any = REQUIRED, *, exact: bool = False) -> Any:
    """Declare a field for one value, read by ``reader``. With ``exact`` an invalid value leaves out the item
    around it, since the default would change its meaning.
    """
    return _field(_read_by(reader), default, exact=exact)


def part(of: type, *, exact: bool = False) -> Any:
    """Declare a field for a part of the document, or None. With ``exact``, what leaves out the part leaves
    out the item around it too.
    """
    return _field(_nullable(schema(of)), None, exact=exact)


def parts(of: type | Callable[[object], Any], *, split: bool = False, exact: bool = False) -> Any:
    """Declare a field for a list of parts or values; None without a list, and for each invalid item. A
    single one may be written without the list; with ``split``, several may be written in one string, with
    blanks or commas between them. ``exact`` is about what is no list.
    """
    one = schema(of) if isinstance(of, type) else _read_by(of)
    many: CoreSchema = {"type": "list", "items_schema": _nullable(one), "metadata": {_SPLIT: split}}
    return _field(_nullable(many), None, exact=exact)


def _read_by(reader: Callable[[object], Any]) -> CoreSchema:
    return {"type": "function-plain", "function": {"type": "no-info", "function": reader}}


def _nullable(of: CoreSchema) -> CoreSchema:
    return {"type": "nullable", "schema": of}


def named(of: type | Callable[[object], Any]) -> Any:
    """Declare a field for a dictionary of parts or values with any keys; invalid ones are left out."""
    one = schema(of) if isinstance(of, type) else _read_by(of)
    many: CoreSchema = {"type": "dict", "keys_schema": {"type": "str"}, "values_schema": _nullable(one)}
    return _field(_nullable(many), None)


def _field(of: CoreSchema, default: Any, *, exact: bool = False) -> Any:
    if default is REQUIRED:
        return records.field(metadata={_SCHEMA: of})
    with_default = {"type": "default", "schema": of, "default": default, "metadata": {_EXACT: exact}}
    return records.field(default=default, metadata={_SCHEMA: with_default})


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
    return {"type": "dataclass-field", "name": one.name, "schema": one.metadata[_SCHEMA]}


def validate(of: type[Part], document: dict[str, Any]) -> tuple[Part, list[Problem]]:
    """Return the valid part of the document, and a problem for each item that was left out.

    Every field of ``of`` needs a default, or must be in a list with items that may be None: a list item that
    is invalid as a whole becomes None. ``document`` is modified.
    """
    whole = schema(of)
    validator = SchemaValidator(whole, {"hide_input_in_errors": True})
    problems = _many_unknown(document, of)
    reading = _Reading(whole, problems)
    reading.normalise(whole, document, ())
    for _ in range(_ROUNDS):
        try:
            return validator.validate_python(document), bounded(problems)
        except ValidationError as error:
            for wrong in error.errors(include_url=False, include_context=False):
                if not wrong["loc"]:
                    what = f"not taken as a whole: {wrong['type']}"
                    return of(), bounded([*problems, Problem("the document", what, _DEFECT)])
                reading.leave_out(document, wrong)
    return of(), [*bounded(problems), Problem("the document", "wrong throughout", "see the format")]


def _many_unknown(document: dict[str, Any], of: type) -> list[Problem]:
    """Remove the unknown keys of a document with so many keys that reporting each would take long."""
    if len(document) <= MAX_ITEMS:
        return []
    known = {one.name for one in records.fields(of)}
    unknown = [key for key in document if plain(key) not in known]
    for key in unknown:
        del document[key]
    return [Problem("the document", f"{len(unknown)} unknown keys", "they have no effect", UNSUPPORTED)]


def plain(key: str) -> str:
    """Return a key as parts declare it: ``from``, which Python reserves, as ``from_``."""
    name = key.strip(WHITE).lower().replace("-", "_")
    return "from_" if name == "from" else name


class _Reading:
    """One document: its problems, the places that were reported, and the keys as they were written."""

    def __init__(self, whole: Any, problems: list[Problem]) -> None:
        self.whole = whole
        self.problems = problems
        self._reported: set[Location] = set()
        self._written: dict[Location, str] = {}

    def normalise(self, core: Any, given: Any, at: Location) -> Any:
        """Return the value with keys as declared and a list in place of its only item; it is changed."""
        core = _bare(core)
        match core:
            case {"items_schema": inner}:
                given = _as_list(core, given)
                for place, one in enumerate(given if isinstance(given, list) else ()):
                    given[place] = self.normalise(inner, one, (*at, place))
            case {"values_schema": inner} if isinstance(given, dict):
                for key, one in given.items():
                    given[key] = self.normalise(inner, one, (*at, key))
            case {"type": "dataclass"} if isinstance(given, dict):
                self._normalise_part(core, given, at)
        return given

    def _normalise_part(self, core: Any, given: dict[str, Any], at: Location) -> None:
        declared = {one["name"]: one["schema"] for one in core["schema"]["fields"]}
        known = _names(core)
        for key in list(given):
            name = plain(key)
            if name != key and name in known:
                if name in given:
                    what = "the key appears in two spellings: this one is left out"
                    self.problems.append(Problem(path((*at, key)), what, "write one of them"))
                    del given[key]
                    continue
                given[name] = given.pop(key)
                self._written[*at, name] = key
            if name in declared and given.get(name, "") is None and _takes_null(declared[name]):
                del given[name]
            elif name in declared and name in given:
                given[name] = self.normalise(declared[name], given[name], (*at, name))

    def leave_out(self, document: dict[str, Any], wrong: ErrorDetails) -> None:
        """Report an error of the validator, and leave out the item that it costs."""
        kind, place = wrong["type"], tuple(wrong["loc"])
        if kind == "unexpected_keyword_argument":
            found, costs_item = self._unhandled(place, wrong["input"])
            lost = place[:-1] if costs_item else place
        else:
            lost = place[:-1] if kind == "missing" else place
            found = self._problem(wrong, costs_item=kind != "missing" and _is_exact(self.whole, lost))
        while len(lost) > 1 and _is_exact(self.whole, lost):
            lost = lost[:-1]
        # A required value that an earlier round left out is missing now: it is reported already.
        if found and not (kind == "missing" and place in self._reported):
            self.problems.append(found)
        self._reported.add(place)
        leave_out(document, lost)

    def _unhandled(self, place: Location, given: object) -> tuple[Problem | None, bool]:
        """Return the problem of a key that is not declared, if it is reported, and whether it costs the item
        that has it.
        """
        *above, key = place
        unhandled = UNUSED.get(_part_at(self.whole, above), _NONE)
        at = self.spelled(place)
        if why := unhandled.harmless.get(str(key)):
            said = None if unhandled.is_quiet else Problem(_any_item(at), f"no effect: {why}", "", HARMLESS)
            return said, False
        why = unhandled.refused.get(str(key))
        if (why or key in unhandled.unsupported) and _asks_nothing(given, is_off=key in unhandled.off):
            return Problem(_any_item(at), "no effect: it asks for nothing", "", HARMLESS), False
        if why and above and not unhandled.section:
            return Problem(at, f"{why}: {_LOST}", "remove the key, or deliver the item in another way"), True
        if why := why or unhandled.unsupported.get(str(key)):
            return Problem(at, f"not supported: {why}", "do it in another way", UNSUPPORTED), False
        hint = self._similar_key(str(key), place[:-1])
        if unhandled.unknown == ITEM and above:
            return Problem(at, f"unknown key: {_LOST}", hint), True
        severity = HARMLESS if unhandled.unknown == NOTHING else UNSUPPORTED
        return Problem(_any_item(at), "unknown key: it has no effect", hint, severity), False

    def _problem(self, wrong: ErrorDetails, *, costs_item: bool) -> Problem:
        """Return the problem for an invalid value, with its type, never the value."""
        kind, at = wrong["type"], self.spelled(tuple(wrong["loc"]))
        if kind == "missing":
            return Problem(at, "missing", f"without it {_LOST}")
        lost = f": {_LOST}" if costs_item else ""
        if isinstance(wrong["input"], Unreadable):
            return Problem(at, f"{wrong['input'].why}{lost}", wrong["input"].hint or _CORRECT)
        said, _, hint = wrong["msg"].removeprefix("Value error, ").partition("; ")
        said, hint = _SHAPES.get(kind, (said, hint or _CORRECT))
        if isinstance(given := wrong["input"], dict) and list(given) == ["sealed"] and said[:6] != "sealed":
            said, hint = _SEALED
        return Problem(at, f"{said} (given: {_kind(wrong['input'])}){lost}", hint)

    def spelled(self, place: Location) -> str:
        """Return the place as messages show it, with the keys as they were written."""
        return path(self._written.get(place[: n + 1], step) for n, step in enumerate(place))

    def _similar_key(self, key: str, above: Location) -> str:
        """Return the hint for an unknown key of the part at a place."""
        of = _part_at(self.whole, above)
        # A slow search: no more problems than these are shown.
        likely = [one.name for one in records.fields(of)] if of and len(self.problems) < MAX_PROBLEMS else ()
        meant = nearest(plain(key)[:80], likely).removesuffix("_")
        if not meant:
            return "remove it, or correct its name"
        return f"did you mean {meant.replace('_', '-') if '-' in key else meant}?"


def _asks_nothing(given: object, *, is_off: bool) -> bool:
    """Return whether a value is empty, or false or without keys where ``is_off``."""
    return given is None or given in ("", []) or (is_off and (is_false(given) or given == {}))


def _names(core: Any) -> set[str]:
    """Return the names of all keys that are documented for a part."""
    others = UNUSED.get(core["cls"], _NONE)
    declared = (one["name"] for one in core["schema"]["fields"])
    return {*declared, *others.harmless, *others.refused, *others.unsupported}


def _takes_null(core: Any) -> bool:
    """Return whether null is the same as a missing key: where the default changes no meaning."""
    default = core.get("default", REQUIRED)
    return isinstance(default, bool) or (default is None and not core["metadata"][_EXACT])


def _as_list(core: Any, given: Any) -> Any:
    """Return a list in place of its only item, and of a string of several where the field allows that."""
    if isinstance(given, str) and core["metadata"][_SPLIT]:
        found = [one for one in _SEPARATORS.split(given) if one]
        if len(found) > MAX_ITEMS:
            return Unreadable(f"{len(found)} items; at most {MAX_ITEMS} are read")
        return found if found or not given.strip(WHITE) else given
    item = _bare(core["items_schema"])
    if item["type"] == "dataclass":
        is_one = isinstance(given, dict) and not _names(item).isdisjoint(map(plain, given))
    else:
        is_one = isinstance(given, str | int | float) and not isinstance(given, bool)
    return [given] if is_one else given


def _any_item(place: str) -> str:
    """Return the place for all items of its lists: what is not handled is reported once."""
    return re.sub(r"\[[0-9]+\]", "[]", place)


def _kind(given: object) -> str:
    """Return the type of a value, by its name in JSON."""
    if given is None or isinstance(given, bool):
        return "null" if given is None else "true or false"
    return next((name for kind, name in _KINDS.items() if isinstance(given, kind)), "something else")


def _bare(core: Any) -> Any:
    """Return the schema within defaults and null."""
    while core["type"] in ("default", "nullable"):
        core = core["schema"]
    return core


def _core_at(whole: Any, place: Iterable[int | str]) -> Any:
    """Return the schema at a place, with its default."""
    core = whole
    for step in place:
        match _bare(core):
            case {"items_schema": inner} | {"values_schema": inner}:
                core = inner
            case {"type": "dataclass", "schema": {"fields": declared}}:
                core = next((one["schema"] for one in declared if one["name"] == step), _ANY)
            case _:
                return _ANY
    return core


def _is_exact(whole: Any, place: Iterable[int | str]) -> bool:
    """Return whether an invalid value at a place leaves out the item around it."""
    return bool(_core_at(whole, place).get("metadata", {}).get(_EXACT))


def _part_at(whole: Any, place: Iterable[int | str]) -> Any:
    """Return the class of the part at a place, None if it is none."""
    return _bare(_core_at(whole, place)).get("cls")
