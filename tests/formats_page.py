"""The tables of docs/formats.md, made from what the readers declare.

``python -m tests.formats_page`` writes the tables again: a line for each key of a part, with what becomes of
it. Reasons are the code's; a note beside a handled key is kept. Tables of parts that the page does not have
are added at its end, to be moved to where they belong. All other text is by hand.

A table belongs to the part that the comment before it names. The comment ``documented: NAME`` begins the
tables in which the keys of that name in tests/documented_keys.yaml are; one without a part is by hand.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from agent.lib.records import dataclass, fields
from agent.reader import dialects, formats
from agent.reader.common import lenient

PROJECT = Path(__file__).parents[1]
PAGE = PROJECT / "docs/formats.md"
DOCUMENTED: dict[str, list[str]] = yaml.safe_load((PROJECT / "tests/documented_keys.yaml").read_bytes())
#: What may become of a key.
HANDLED, HARMLESS, UNSUPPORTED, REFUSED = "handled", "harmless", "unsupported", "refused"
#: Parts and keys that are declared only so that each of their entries is reported.
BY_HAND = {
    *(("Plan", name) for name in ("vrfs", "tunnels", "wifis", "modems", "nm_devices")),
    *(("Plan", name) for name in ("dummy_devices", "virtual_ethernets", "xfrm_interfaces")),
}
#: Stands for the keys that a part does not declare, and what becomes of them.
ANY_OTHER = "any other key"
_UNKNOWN = {lenient.ITEM: REFUSED, lenient.ITSELF: UNSUPPORTED, lenient.NOTHING: HARMLESS}
#: The beginnings of documented names with keys that are spelled so.
_HYPHENS = ("netplan", "interfaces", "nocloud")
_HEAD = "| key | what becomes of it | note |\n|---|---|---|\n"
_BLOCK = re.compile(
    r"<!-- (?P<kind>part|documented): (?P<name>[^>]+?) -->\n(?:\n(?P<rows>(?:\|[^\n]*\n)+))?"
)
_ROW = re.compile(rf"^\| (`[^`]+`|{ANY_OTHER}) \| (\w+) \|(.*)\|$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Row:
    """One key of a table: what becomes of it, and the note."""

    key: str
    becomes: str
    note: str = ""

    def __str__(self) -> str:
        key = self.key if self.key == ANY_OTHER else f"`{self.key}`"
        return f"| {key} | {self.becomes} |{f' {self.note} ' if self.note else ' '}|\n"


@dataclass(frozen=True, slots=True)
class Block:
    """A comment of the page and the table after it; ``documented`` is the name of its documented keys."""

    kind: str
    name: str
    rows: tuple[Row, ...]
    documented: str


def plain(key: str) -> str:
    """Return a key as parts declare it."""
    return key.lower().replace("-", "_").rstrip("_")


def parts() -> dict[str, type]:
    """Return the parts of all documents by their names: records with fields that a document may have."""
    found: dict[str, type] = {}
    for package in (formats, dialects):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            for name, one in vars(importlib.import_module(module.name)).items():
                is_own = isinstance(one, type) and one.__module__ == module.name and one.__name__ == name
                if is_own and hasattr(one, "__dataclass_fields__") and _declared(one):
                    found[f"{module.name}.{name}"] = one
    return found


def _declared(part: Any) -> list[str]:
    return [one.name for one in fields(part) if "schema" in one.metadata]


def _inner(core: Any) -> Iterator[type]:
    """Yield the parts in a field's schema, without theirs."""
    if core.get("type") == "dataclass":
        yield core["cls"]
        return
    for inner in ("schema", "items_schema", "values_schema"):
        if isinstance(core.get(inner), dict):
            yield from _inner(core[inner])


def is_whole(part: type) -> bool:
    """Return whether a part is a document, not an item of one: a refused key costs only itself there."""
    every = [one for found in parts().values() for one in fields(found) if "schema" in one.metadata]
    return part not in {inner for one in every for inner in _inner(one.metadata["schema"])}


def rows(part: type, documented: str, given: dict[str, Row]) -> list[Row]:
    """Return the rows of a part, without those of the part that it extends, spelled as documented. ``given``
    are the page's rows: a note beside a key that is handled is kept, and a row of ``BY_HAND``.
    """
    base = part.__base__
    inherited = _declared(base) if base is not None and hasattr(base, "__dataclass_fields__") else []
    spelled = {plain(key): key for key in DOCUMENTED.get(documented, ())}
    mark = "-" if documented.startswith(_HYPHENS) else "_"
    found = {}
    for name in [plain(name) for name in _declared(part) if name not in inherited]:
        row = given.get(name, Row(name, HANDLED))
        by_hand = (part.__name__, name) in BY_HAND
        note = row.note if by_hand or row.becomes == HANDLED else ""
        key = spelled.get(name, name.replace("_", mark))
        found[name] = Row(key, row.becomes if by_hand else HANDLED, note)
    unhandled = lenient.UNUSED.get(part, lenient.Unused())
    costs_itself = is_whole(part) or getattr(unhandled, "section", False)
    refused = UNSUPPORTED if costs_itself else REFUSED
    for becomes, reasons in (
        (HARMLESS, unhandled.harmless),
        (UNSUPPORTED, unhandled.unsupported),
        (refused, unhandled.refused),
    ):
        for name in sorted(reasons):
            key = spelled.get(plain(name), name.replace("_", mark))
            found[plain(name)] = Row(key, becomes, reasons[name])
    if not part.__subclasses__():
        unknown = _UNKNOWN[unhandled.unknown]
        found[ANY_OTHER] = Row(ANY_OTHER, refused if unknown == REFUSED else unknown)
    return list(found.values())


def blocks(page: str) -> Iterator[tuple[re.Match[str], Block]]:
    """Yield each comment of the page with its table."""
    documented = ""
    for match in _BLOCK.finditer(page):
        if match["kind"] == "documented":
            documented = match["name"]
        found = _ROW.findall(match["rows"] or "")
        read = [Row(key.strip("`"), becomes, note.strip()) for key, becomes, note in found]
        yield match, Block(match["kind"], match["name"], tuple(read), documented)


def written(page: str, only: str = "") -> str:
    """Return the page with its tables made again; ``only``: those of parts with names that begin so."""
    known = {name: part for name, part in parts().items() if name.startswith(only)}
    made, end, missing = "", 0, dict(known)
    for match, block in blocks(page):
        made += page[end : match.start()]
        end = match.end()
        if block.kind == "part" and block.name in known:
            made += _table(known[block.name], block)
            missing.pop(block.name, None)
        else:
            made += match[0]
    made += page[end:]
    new = [(part, Block("part", name, (), "")) for name, part in missing.items()]
    return made + "".join(f"\n{_table(part, block)}" for part, block in new)


def _table(part: type, block: Block) -> str:
    given = {plain(row.key): row for row in block.rows}
    body = "".join(str(row) for row in rows(part, block.documented, given))
    return f"<!-- part: {block.name} -->\n\n{_HEAD}{body}"


def main() -> None:
    """Write the page; arguments are beginnings of names of parts."""
    for only in sys.argv[1:] or [""]:
        PAGE.write_text(written(PAGE.read_text(), only))


if __name__ == "__main__":
    main()
