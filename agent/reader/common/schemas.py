"""Find parts in the schemas of documents, which are plain dicts (``agent.reader.common.lenient``)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

#: In the metadata of a field: an invalid value leaves out the item around it.
EXACT = "exact"
_ANY: Any = {"type": "any"}


def bare(core: Any) -> Any:
    """Return the schema within defaults and null."""
    while core["type"] in ("default", "nullable"):
        core = core["schema"]
    return core


def core_at(whole: Any, place: Iterable[int | str]) -> Any:
    """Return the schema at a place, with its default."""
    core = whole
    for step in place:
        match bare(core):
            case {"items_schema": inner} | {"values_schema": inner}:
                core = inner
            case {"type": "dataclass", "schema": {"fields": declared}}:
                core = next((one["schema"] for one in declared if one["name"] == step), _ANY)
            case _:
                return _ANY
    return core


def is_exact(whole: Any, place: Iterable[int | str]) -> bool:
    """Return whether an invalid value at a place leaves out the item around it."""
    return bool(core_at(whole, place).get("metadata", {}).get(EXACT))


def part_at(whole: Any, place: Iterable[int | str]) -> Any:
    """Return the class of the part at a place, None if it is none."""
    return bare(core_at(whole, place)).get("cls")
