"""Read a YAML document into plain values within limits: text, lists, dictionaries with text keys, None.

The library only emits events; the values are made here. So no tag creates an object, depth and number of
values are limited as they occur (libyaml's own composer overflows the stack on deep nesting, and needs
quadratic time), and each alias is a copy that is counted. Every scalar except null stays text as written:
YAML 1.1 would read the MAC address 52:54:00:12:34:56 as a number, 0644 as 420 and a date as a date. The
readers of values convert them; where it matters, ``Typed`` shows that there were no quotes.
"""

from __future__ import annotations

import re
from copy import deepcopy

from agent.lib.text import WHITE, is_text
from agent.reader.common import bounds, fields
from agent.reader.common.bounds import Typed, Unreadable
from agent.reader.common.problem import Problem, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType
    from typing import Any

#: Maximum characters of a document, for libyaml and for the library in pure Python: both read it quickly.
LIMIT, SLOW_LIMIT = 2 << 20, 128 << 10
#: Maximum attempts to read a document, each without another key of its root that is beyond a limit.
_CUTS = 4
#: libyaml's errors about a single value, not about the syntax of the document.
_ITS_OWN = ("nesting depth", "Unicode character escape")
#: Maximum levels, and maximum values in all, including those of aliases.
_DEEPEST, _MOST = 40, 50_000
#: Characters that YAML does not allow: the library would refuse the whole text. A byte that is not UTF-8 is
#: a surrogate here.
_ODD = re.compile("[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
#: Replaces such a character. A document that contains it itself only loses that value.
_MARK = "\ufdd0"
#: What a line is indented by, dashes of lists included.
_INDENT = re.compile(r"^(?:[ \t]|-(?=[ \t]))+", re.MULTILINE)
#: Widths of tabs that people have.
_TABS = (2, 4, 8)
_NULL = ("", "~", "null", "Null", "NULL")
#: What YAML 1.1 reads as a number or as true or false.
_TYPED = re.compile(
    r"[-+]?(?:0x[0-9A-Fa-f_]+|0b[01_]+|[0-9][0-9_]*(?:\.[0-9_]*)?(?:[Ee][-+][0-9]+)?)"
    r"|(?i:true|false|yes|no|on|off)",
    re.ASCII,
)
_BINARY = "tag:yaml.org,2002:binary"
_REMEDY = "correct it and deliver it again"


class _Wrong(Exception):
    """The document is refused; the message is for people and quotes nothing of it."""


class _Beyond(_Wrong):
    """One value is beyond a limit; the others may be used."""


class _Library:
    """The YAML library, if ``load`` found it."""

    module: ModuleType | None = None


def load() -> None:
    """Import the library, while files can still be opened. Without it, ``read`` reports a problem."""
    try:
        import yaml
    except ImportError:
        return
    _Library.module = yaml


def read(name: str, text: str, problems: list[Problem]) -> Any:
    """Return the document's value, or None and a problem if it is not one YAML document."""
    library = _Library.module
    if library is None and text.startswith("#"):
        text = text.partition("\n")[2]  # JSON has no comments, but user data begins with #cloud-config.
    if text.lstrip(WHITE).startswith("{"):
        try:
            return bounds.load(text, name, problems)
        except (ValueError, RecursionError):
            pass  # Not JSON, but it may be YAML in flow style.
    if library is None:
        what = "YAML, and the library that reads it is not installed"
        problems.append(Problem(name, what, "install python3-yaml in the image, or deliver it as JSON"))
        return None
    return _read_yaml(library, name, text, problems)


def _read_yaml(yaml: Any, name: str, text: str, problems: list[Problem]) -> Any:
    """Return the value of a YAML document, without keys of its root that cannot be read; None and a problem
    if the rest cannot be read either.
    """
    fast = hasattr(yaml, "CBaseLoader")
    text = _ODD.sub(_MARK, text)
    limit = LIMIT if fast else SLOW_LIMIT
    if len(text) > limit:
        problems.append(Problem(name, f"more than {limit} characters of YAML", "deliver a smaller document"))
        return None
    loader = yaml.CBaseLoader if fast else yaml.BaseLoader
    for _ in range(_CUTS):
        builder = _Builder(name)
        try:
            builder.take_all(yaml.parse(text, Loader=loader))
        except (yaml.YAMLError, _Wrong) as error:
            what, is_one_value = _reason(yaml, error, text)
            found = None if is_one_value else _with_tabs_as_blanks(yaml, loader, name, text)
        else:
            found = builder
        if found is not None:
            problems += found.problems
            return bounds.limited(found.value)
        rest = _without_key(text, builder.at) if is_one_value else None
        if rest is None:
            break
        text = rest
        problems.append(Problem(f"{name}: {shown(builder.at[0])}", f"{what}: left out", _REMEDY))
    problems.append(Problem(name, what, _REMEDY))
    return None


def _with_tabs_as_blanks(yaml: Any, loader: Any, name: str, text: str) -> _Builder | None:
    """Return what is built from the text with blanks for the tabs that it is indented by, which YAML lacks;
    None unless it says the same whatever the width of a tab.
    """
    if not any("\t" in indent[0] for indent in _INDENT.finditer(text)):
        return None
    found: list[_Builder] = []
    for width in _TABS:
        builder = _Builder(name)
        try:
            builder.take_all(yaml.parse(_expanded(text, width), Loader=loader))
        except (yaml.YAMLError, _Wrong):
            return None
        if found and builder.value != found[0].value:
            return None
        found.append(builder)
    return found[0]


def _expanded(text: str, width: int) -> str:
    return _INDENT.sub(lambda indent: indent[0].expandtabs(width), text)


def _reason(yaml: Any, error: Exception, text: str) -> tuple[str, bool]:
    """Return what is wrong with the document, and whether only one value is."""
    if isinstance(error, _Wrong):
        return str(error), isinstance(error, _Beyond)
    if not isinstance(error, yaml.MarkedYAMLError):
        return "not YAML: a character that YAML does not allow", False
    mark, problem = error.problem_mark, error.problem or "damaged"
    place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    indent = _INDENT.match(text.split("\n")[mark.line]) if mark and mark.line <= text.count("\n") else None
    if indent and "\t" in indent[0]:
        return f"not YAML: indented by a tab, which could mean several things{place}", False
    what = f"not YAML: {shown(problem)}{place}"
    return what, any(one in what for one in _ITS_OWN)


def _without_key(text: str, at: tuple[str, int]) -> str | None:
    """Return the text without a key of the root and its value's lines; None if no line begins with it."""
    key, first = at
    lines = text.split("\n")
    if not key or first >= len(lines) or not lines[first].lstrip("\"'").startswith(key):
        return None
    ends = (n for n, line in enumerate(lines[first + 1 :], first + 1) if _begins_item(line))
    return "\n".join(lines[:first] + lines[next(ends, len(lines)) :])


def _begins_item(line: str) -> bool:
    """Return whether a new item of the root begins with the line, not a part of a value or a comment."""
    return line.startswith(("---", "...")) or (line != "" and line[0] not in " \t\r#-]}")


class _Builder:
    """Builds the value from events; ``_stack`` holds the open collections."""

    def __init__(self, name: str) -> None:
        self.value: Any = None
        self.problems: list[Problem] = []
        #: The last key of the root and its line, counted from 0.
        self.at = ("", 0)
        self._name = name
        self._documents = 0
        self._count = 0
        self._stack: list[tuple[Any, list[Any], str | None]] = []
        self._anchors: dict[str, tuple[Any, int]] = {}

    def take_all(self, events: Iterable[Any]) -> None:
        """Process the events of a text. Raise _Wrong beyond a limit."""
        for event in events:
            self._take(event)

    def _take(self, event: Any) -> None:
        match type(event).__name__:
            case "DocumentStartEvent":
                self._documents += 1
            case "ScalarEvent":
                if len(self._stack) == 1 and len(self._stack[0][1]) % 2 == 0:
                    self.at = (event.value, event.start_mark.line)
                self._put(self._scalar(event), event.anchor, 1)
            case "AliasEvent":
                lost = (Unreadable("an alias without its anchor, or within it"), 1)
                value, weight = self._anchors.get(event.anchor, lost)
                self._count_values(weight)
                self._put(deepcopy(value), None, 0)
            case "SequenceStartEvent" | "MappingStartEvent" as kind:
                if len(self._stack) >= _DEEPEST:
                    raise _Beyond(f"nested more than {_DEEPEST} deep")
                self._count_values(1)
                self._stack.append((kind, [], event.anchor))
            case "SequenceEndEvent" | "MappingEndEvent":
                kind, items, anchor = self._stack.pop()
                value = items if kind == "SequenceStartEvent" else self._mapping(items)
                self._put(value, anchor, 0)

    def _count_values(self, weight: int) -> None:
        self._count += weight
        if self._count > _MOST:
            raise _Beyond(f"more than {_MOST} values, those of its aliases included")

    def _put(self, value: Any, anchor: str | None, weight: int) -> None:
        self._count_values(weight)
        if anchor is not None:
            self._anchors[anchor] = (value, _weight(value))
        if self._stack:
            self._stack[-1][1].append(value)
        elif self._documents == 1:
            self.value = value
        elif value is not None:
            raise _Wrong("more than one YAML document")

    def _scalar(self, event: Any) -> str | bytes | Unreadable | None:
        if _MARK in event.value:
            return Unreadable("with a character that YAML does not allow, or bytes that are not UTF-8")
        if event.tag == _BINARY:
            try:
                return fields.unpacked(event.value)
            except ValueError:
                return Unreadable("a !!binary value with damaged base64")
        plain = event.implicit[0]
        if plain and event.value in _NULL:
            return None
        return Typed(event.value) if plain and _TYPED.fullmatch(event.value) else str(event.value)

    def _mapping(self, items: list[Any]) -> dict[str, Any]:
        """Return the dictionary of alternating keys and values; ``<<`` adds keys that are missing in it."""
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, value in zip(items[::2], items[1::2], strict=True):
            if key == "<<":
                for more in value if isinstance(value, list) else [value]:
                    for name, inner in more.items() if isinstance(more, dict) else ():
                        merged.setdefault(name, inner)
                continue
            if not isinstance(key, str) or not is_text(key):
                what = key if isinstance(key, str) else "a key"
                self.problems.append(bounds.odd_key(self._name, what, "write it as text"))
                continue
            if key in own:
                what = "the key appears twice; the last one is used"
                self.problems.append(Problem(f"{self._name}: {shown(key)}", what, "write it once"))
            own[str(key)] = value
        return merged | own


def _weight(value: Any) -> int:
    """Return the number of values in it."""
    match value:
        case dict():
            return 1 + sum(1 + _weight(inner) for inner in value.values())
        case list():
            return 1 + sum(map(_weight, value))
    return 1
