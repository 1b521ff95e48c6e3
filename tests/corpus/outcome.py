"""What the reader makes of a document, in few lines: the model without its defaults, and the problems."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from agent.lib.records import fields
from agent.reader.common.merge import USER_DATA
from agent.reader.formats import user_data, yaml_events

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.reader.common.result import Reading

#: Maximum characters of content that are shown.
_SHOWN = 100
#: What is shown elsewhere, or follows from it.
_LEFT_OUT = ("digest", "partial")
#: The identity of most drives, which is not shown.
_USUAL = (
    *({"source": source, "id": "i-1"} for source in ("cloudstack", "nocloud", "openstack")),
    *([key, "i-1"] for key in ("instance-id", "uuid")),
)


def read(dialect: str, files: Mapping[str, bytes]) -> Reading:
    """Return the reading of a drive, in this process."""
    yaml_events.load()
    user_data.load()
    reading: Reading = importlib.import_module(f"agent.reader.dialects.{dialect}").parse_files(files)
    return reading


def lines(reading: Reading) -> Iterator[str]:
    """Yield a line for each item of the model, each stored content and each password."""
    if reading.config is None:
        yield "nothing"
        return
    for name, given in plain(reading.config).items():
        for one in given if isinstance(given, list) else [given]:
            if one not in _USUAL:
                yield f"{name}: {_line(one)}"
    for name, content in stored(reading).items():
        text = content.decode("utf-8", "backslashreplace")
        yield f"{name}: {json.dumps(text[:_SHOWN], ensure_ascii=False)}{'…' if len(text) > _SHOWN else ''}"
    for account, password in sorted(reading.secrets.items()):
        yield f"password of {account or 'the default user'}: {json.dumps(password)}"


def stored(reading: Reading) -> dict[str, bytes]:
    """Return the stored content, without the unchanged user data."""
    return {name: content for name, content in sorted(reading.files.items()) if name != USER_DATA}


def plain(record: Any) -> Any:
    """Return a record as JSON's types, without fields that have their default."""
    if hasattr(record, "__dataclass_fields__"):
        found = {one.name: (getattr(record, one.name), one.default) for one in fields(record)}
        return {
            name: plain(given)
            for name, (given, default) in found.items()
            if name not in _LEFT_OUT and (given != default or type(given) is not type(default))
        }
    if isinstance(record, list | tuple):
        return [plain(one) for one in record]
    if isinstance(record, dict):
        return {str(key): plain(one) for key, one in record.items()}
    return record if isinstance(record, bool | int | float | None) else str(record)


def _line(given: Any) -> str:
    """Return an item in one line: a record's fields as NAME=VALUE."""
    if isinstance(given, dict):
        return " ".join(f"{name}={json.dumps(one, ensure_ascii=False)}" for name, one in given.items())
    return json.dumps(given, ensure_ascii=False)
