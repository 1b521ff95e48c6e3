"""Templates (``## template: jinja``): names of metadata in double braces are replaced with plain text.

Format: cloud-init's instance data. Nothing is evaluated: any other expression, a filter, a statement or a
comment costs the part. A shell's ``${#name}`` is such a comment, as it is for Jinja.
"""

from __future__ import annotations

import re

from agent.lib.text import WHITE, is_text
from agent.reader.common.problem import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: The first line of a template, with the name of its language.
HEAD = re.compile(rb"##[ \t]*template:[ \t]*([^\s]*)[^\n]*(?:\n|\Z)", re.IGNORECASE)
_TAG = re.compile(r"\{\{(.*?)\}\}|\{\{|\{%|\{#", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*", re.ASCII)
#: Maximum names, levels below ``ds.meta_data``, and characters of the result.
_NAMES, _LEVELS, _LIMIT = 1000, 4, 4 << 20
_ONLY = (
    "only names are replaced: write {{ ds.meta_data.KEY }}, {{ v1.instance_id }} or {{ v1.local_hostname }}"
)


def names(metadata: Mapping[str, object]) -> dict[str, str]:
    """Return the names that templates may use, with their text: those of ``ds.meta_data`` and ``v1``."""
    found: dict[str, str] = {}
    for place, value in _flat("ds.meta_data", metadata, 0):
        if len(found) < _NAMES:
            found.setdefault(place, value)
    for name, keys in (
        ("instance_id", ("instance_id", "uuid")),
        ("local_hostname", ("local_hostname", "hostname")),
        ("availability_zone", ("availability_zone",)),
    ):
        if text := next(filter(None, (found.get(f"ds.meta_data.{key}") for key in keys)), None):
            # As in cloud-init: the hostname without its domain.
            text = text.partition(".")[0] if name == "local_hostname" else text
            found[name] = found[f"v1.{name}"] = text
    return found


def _flat(prefix: str, values: Mapping[str, object], level: int) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        name = f"{prefix}.{key.replace('-', '_')}"
        if isinstance(value, dict) and level < _LEVELS:
            yield from _flat(name, value, level + 1)
        elif isinstance(value, str | int | float) and is_text(str(value)):
            yield name, str(value)


def rendered(content: bytes, known: Mapping[str, str]) -> bytes:
    """Return the content with each name's text. Raise ValueError for anything else in braces, and for an
    unknown name.
    """
    text, size = content.decode("utf-8", "surrogateescape"), 0

    def replaced(tag: re.Match[str]) -> str:
        nonlocal size
        name = (tag[1] or "").strip(WHITE)
        if not _NAME.fullmatch(name):
            line = text.count("\n", 0, tag.start()) + 1
            raise ValueError(
                f"an expression, statement or comment of a template (line {line} of it); {_ONLY}"
            )
        if name not in known:
            raise ValueError(f"no metadata of the name {shown(name)}; {_ONLY}")
        size += len(known[name])
        if size > _LIMIT:
            raise ValueError(f"a template that makes more than {_LIMIT} characters; repeat less")
        return known[name]

    return _TAG.sub(replaced, text).encode("utf-8", "surrogateescape")
