"""Combine the cloud-configs of one delivery, by the rules that each of them gives for its own merging.

Format: cloud-init, doc/rtd/reference/merging.rst. The default is ``dict(replace)+list()+str()``: a later key
of the document replaces an earlier one. A document gives other rules under ``merge_how`` or ``merge_type``,
or in its part's header ``Merge-Type``.
"""

from __future__ import annotations

import re

from agent.lib.records import dataclass
from agent.lib.text import WHITE
from agent.reader.common.bounds import Typed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_RECURSE = ("recurse_dict", "recurse_list", "recurse_array", "recurse_str")
_OPTIONS = {
    "dict": ("replace", "no_replace", "allow_delete", *_RECURSE),
    "list": ("append", "prepend", "replace", "no_replace", *_RECURSE),
    "str": ("append", *_RECURSE),
}
_RULE = re.compile(r"(?:m_)?([a-z]+)\(([a-z_, \t]*)\)", re.ASCII)
_WRITE = "write for example list(append)+dict(recurse_list)+str()"


@dataclass(slots=True)
class Rules:
    """The options for values of each type, None for a type that keeps its earlier value."""

    dict: tuple[str, ...] | None = None
    list: tuple[str, ...] | None = None
    str: tuple[str, ...] | None = None
    #: Whether merging by them has left out a value for another one.
    has_lost: bool = False

    def prefer(self, value: Any, other: Any) -> Any:
        """Return the value, which is used in place of the other one."""
        self.has_lost |= value != other
        return value


def default() -> Rules:
    """Return the rules of a document that gives none."""
    return Rules(dict=("replace",), list=(), str=())


def rules(document: dict[str, Any], header: str) -> Rules:
    """Return the rules for merging the document, and remove them from it; ``header`` is its part's.

    Raise ValueError if they cannot be read: merging by other rules would give another configuration.
    """
    written: list[tuple[str, tuple[str, ...]]] = []
    keys = [key for key in document if _plain(key) in ("merge_how", "merge_type")]
    given = [document.pop(key) for key in sorted(keys, key=_plain)]
    for one in [*given[:1], header]:
        written += _of_text(one) if isinstance(one, str) else _of_list(one)
    if not written:
        return default()
    found = Rules()
    for name, options in written:
        if name not in _OPTIONS or not set(options) <= set(_OPTIONS[name]):
            raise ValueError(f"the rules for merging have an unknown type or option; {_WRITE}")
        if getattr(found, name) is None:
            setattr(found, name, options)
    if found.dict is None:
        raise ValueError(f"the rules for merging have no dict(...), so nothing would be merged; {_WRITE}")
    return found


def _plain(key: str) -> str:
    return key.strip(WHITE).lower().replace("-", "_")


def _of_text(text: str) -> list[tuple[str, tuple[str, ...]]]:
    found = []
    for one in text.split("+"):
        name = _plain(one)
        if not name:
            continue
        match = _RULE.fullmatch(name)
        if match is None:
            raise ValueError(f"the rules for merging are not TYPE(OPTION,…)+…; {_WRITE}")
        found.append((match[1], tuple(filter(None, (word.strip(WHITE) for word in match[2].split(","))))))
    return found


def _of_list(given: Any) -> list[tuple[str, tuple[str, ...]]]:
    """Return the rules of a list of ``{name, settings}``, or of lists of a name and its options."""
    if given is None:
        return []
    found = []
    for one in given if isinstance(given, list) else [given]:
        match one:
            case {"name": str(name), **more}:
                options = more.get("settings") or []
            case [str(name), *options]:
                pass
            case _:
                raise ValueError(f"the rules for merging have no name and settings; {_WRITE}")
        options = [options] if isinstance(options, str) else options
        if not isinstance(options, list) or not all(isinstance(option, str) for option in options):
            raise ValueError(f"the settings of the rules for merging are not names; {_WRITE}")
        found.append((_plain(name).removeprefix("m_"), tuple(_plain(option) for option in options)))
    return found


def merge(old: Any, new: Any, how: Rules) -> Any:
    """Return the earlier value with the later one merged into it."""
    match old:
        case dict() if how.dict is not None and isinstance(new, dict):
            return _dicts(old, new, how, how.dict)
        case list() if how.list is not None:
            return _lists(old, new, how, how.list)
        case str() if how.str is not None and not isinstance(old, Typed):
            is_more = "append" in how.str and isinstance(new, str)
            return old + new if is_more else how.prefer(new, old)
    return how.prefer(old, new)


def _dicts(old: dict[str, Any], new: dict[str, Any], how: Rules, options: tuple[str, ...]) -> dict[str, Any]:
    merged = dict(old)
    for key, value in new.items():
        if key not in merged:
            merged[key] = value
        elif value is None and "allow_delete" in options:
            del merged[key]
        elif "replace" in options:
            merged[key] = how.prefer(value, merged[key])
        elif isinstance(value, dict) or _recurses(value, options):
            merged[key] = merge(merged[key], value, how)
        else:
            how.prefer(merged[key], value)
    return merged


def _lists(old: list[Any], new: Any, how: Rules, options: tuple[str, ...]) -> Any:
    if "append" in options or "prepend" in options:
        more = new if isinstance(new, list) else [new]
        return [*old, *more] if "append" in options else [*more, *old]
    if "no_replace" in options and "replace" not in options:
        return how.prefer(old, new)
    if not isinstance(new, list):
        return how.prefer(new, old)
    # As in cloud-init, place by place; what is longer in the later list has no place.
    how.has_lost |= len(new) > len(old)
    placed = [
        merge(one, other, how) if _recurses(other, options) else how.prefer(other, one)
        for one, other in zip(old, new, strict=False)
    ]
    return [*placed, *old[len(placed) :]]


def _recurses(value: Any, options: tuple[str, ...]) -> bool:
    match value:
        case Typed():
            return False  # A number, or true or false, is no text.
        case dict():
            return "recurse_dict" in options
        case list():
            return "recurse_list" in options or "recurse_array" in options
        case str():
            return "recurse_str" in options
    return False


def combine(
    parts: list[tuple[str, dict[str, Any], Rules]],
) -> tuple[dict[str, Any], list[tuple[str, str, str]]]:
    """Return the document that the parts (name, document, rules) make, in order, and for each key of which
    something is left out in merging: the part's name, the key, and what becomes of it.
    """
    whole: dict[str, Any] = {}
    owners: dict[str, str] = {}
    lost: list[tuple[str, str, str]] = []
    for name, document, how in parts:
        # Another spelling of a key is the same key.
        spelled = {_plain(key): key for key in whole}
        for written, new in document.items():
            key = spelled.get(_plain(written), written)
            if key not in whole:
                whole[key], owners[key] = new, name
                continue
            how.has_lost, old, owner = False, whole.pop(key), owners[key]
            whole |= merge({key: old}, {key: new}, how)
            now = whole.get(key)
            owners[key] = owner if now == old else name
            if how.has_lost and now in (old, new):
                loser, winner = (owner, name) if now == new else (name, owner)
                lost.append((loser, key, f"replaced by that of {winner}"))
            elif how.has_lost:
                lost.append(
                    (name, key, f"combined with that of {owner}, by rules that leave out some of it")
                )
    return whole, sorted(lost)
