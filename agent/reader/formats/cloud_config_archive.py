"""``#cloud-config-archive``: a YAML list of parts, each with content, type and headers.

Format: cloud-init, doc/rtd/explanation/format.rst.
"""

from __future__ import annotations

from agent.lib.records import dataclass, replace
from agent.lib.text import WHITE
from agent.reader.common import fields, values
from agent.reader.common.lenient import parts, unused, validate, value
from agent.reader.formats import yaml_events
from agent.reader.formats.gzip_data import GZIP
from agent.reader.formats.mime import PARTS, Part
from agent.reader.formats.part_types import CONFIG, begun, mark

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.reader.common.merge import Draft


def content(written: object) -> bytes:
    """Return a part's content, given as text or as YAML's !!binary."""
    return written if isinstance(written, bytes) else fields.text(written).encode()


@dataclass(frozen=True, slots=True)
class Entry:
    """``[]``."""

    content: bytes = value(content)
    type: str = value(fields.text, "", exact=True)
    filename: str = value(fields.text, "")
    launch_index: str = value(values.word, "", exact=True)
    merge_type: str = value(fields.text, "", exact=True)
    x_merge_type: str = value(fields.text, "", exact=True)


unused(
    Entry,
    harmless=dict.fromkeys(
        ("content_disposition", "content_type", "content_transfer_encoding", "mime_version"),
        "the part has content, type and filename of its own",
    ),
)


@dataclass(frozen=True, slots=True)
class Archive:
    """The list."""

    parts: list[Entry | None] | None = parts(Entry)


def split(text: str, name: str, draft: Draft) -> list[Part]:
    """Return the parts of an archive; a part of no type is a cloud-config unless its first line differs."""
    count = len(draft.problems)
    document = yaml_events.read(name, text, draft.problems)
    if not isinstance(document, list):
        if len(draft.problems) == count:
            draft.add_problem(name, "not a list: left out", "write a list of parts, each with its content")
        return []
    entries = [{"content": one} if isinstance(one, str) else one for one in document]
    found, problems = validate(Archive, {"parts": entries})
    draft.add_problems(name, [replace(one, path=one.path.removeprefix("parts")) for one in problems])
    if len(entries) > PARTS:
        draft.add_problem(name, f"more than {PARTS} parts: the others are left out", "deliver fewer")
    return [
        _part(f"{name}[{place}]", one)
        for place, one in enumerate((found.parts or ())[:PARTS])
        if one is not None
    ]


def _part(name: str, entry: Entry) -> Part:
    is_known = entry.content.startswith(GZIP) or mark(begun(entry.content))
    return Part(
        name,
        entry.content,
        entry.type.strip(WHITE).lower() or ("" if is_known else CONFIG),
        entry.filename,
        entry.launch_index,
        entry.merge_type or entry.x_merge_type,
    )
