"""The JSON Schema of a document that is declared with ``common/lenient.py``, made of its declaration.

Format: JSON Schema 2020-12. A reader of a value is described in the table below; a new one needs a line.
"""

from __future__ import annotations

from agent.lib.text import words
from agent.reader.common import fields, network_fields, values
from agent.reader.common.lenient import schema
from agent.reader.dialects import native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_ADDRESS = {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}
_TEXT = {"type": "string"}
_SEALED = {
    "type": "object",
    "properties": {"sealed": _TEXT},
    "required": ["sealed"],
    "additionalProperties": False,
}
_REFERENCE = {"type": ["integer", "string"]}
_READERS: dict[Callable[[object], Any], dict[str, Any]] = {
    fields.address: _ADDRESS,
    fields.resolver: _ADDRESS,
    fields.optional_address: _ADDRESS,
    fields.arguments: _TEXT,
    fields.sealable: {"anyOf": [_TEXT, _SEALED]},
    values.boolean: {"type": "boolean"},
    values.group: _TEXT,
    fields.hostname: {"type": "string", "maxLength": 253},
    values.instance: {"type": "string", "maxLength": 200},
    values.key_line: _TEXT,
    values.line: {"type": "string", "maxLength": 1000},
    fields.mac: {"type": "string", "pattern": "^[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}$"},
    values.mode: {"type": "string", "pattern": "^(0o?)?[0-7]{1,4}$"},
    fields.optional_number: {"type": "integer", "minimum": 0, "maximum": 9999},
    values.owner: _TEXT,
    fields.password: _TEXT,
    values.path: {"type": "string", "pattern": "^/"},
    values.size: {"type": ["integer", "string"], "pattern": "^(auto|[0-9.]+ ?[BKMGT]?(i?B)?)$"},
    values.console: {"type": "string", "pattern": values.CONSOLE},
    values.program_name: {"type": "string", "pattern": values.PROGRAM_NAME},
    fields.text: _TEXT,
    values.timezone: _TEXT,
    values.locale: _TEXT,
    values.optional_suite: _TEXT,
    values.archive_url: {"type": "string", "pattern": "^https?://"},
    values.optional_archive_url: _TEXT,
    values.proxy_url: _TEXT,
    fields.user: {"type": "string", "maxLength": 32},
    values.word: {"type": ["string", "number", "boolean"]},
    native.reference: _REFERENCE,
    native.optional_reference: _REFERENCE,
    network_fields.bond_mode: {"enum": list(network_fields.MODES)},
    network_fields.destination: _TEXT,
    network_fields.interface: _TEXT,
    network_fields.lacp_rate: {"enum": list(network_fields.RATES)},
    network_fields.optional_name: {"type": "string", "maxLength": 15},
    network_fields.search_domain: _TEXT,
    network_fields.xmit_hash_policy: {"enum": list(network_fields.HASHES.words)},
}


def of_native() -> dict[str, Any]:
    """Return the JSON Schema of the native document."""
    title = "gandi-agent: the native document, version 1"
    return describe(native.Document, title=title, required=("version",))


def describe(document: type, *, title: str, required: tuple[str, ...]) -> dict[str, Any]:
    """Return the schema of the document and of everything within it."""
    found = _of(schema(document))
    draft = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": draft, "title": title} | found | {"required": list(required)}


def _of(core: Any) -> dict[str, Any]:
    match core:
        case {"type": "dataclass", "cls": of, "schema": {"fields": declared}}:
            inside = {
                "description": _one_line(of.__doc__),
                "type": "object",
                "properties": {field["name"]: _of(field["schema"]) for field in declared},
                "additionalProperties": False,
            }
            needed = [field["name"] for field in declared if field["schema"]["type"] != "default"]
            return inside | ({"required": needed} if needed else {})
        case {"type": "list", "items_schema": items}:
            return {"type": "array", "items": _of(items)}
        case {"type": "dict", "values_schema": values}:
            return {"type": "object", "additionalProperties": _of(values)}
        case {"type": "default", "schema": inner, "default": default}:
            described = _of(inner)
            # A file's mode is text there and a number here.
            same = described.get("type") != "string" or isinstance(default, str)
            shown = default not in (None, "") and same
            return described | ({"default": default} if shown else {})
        case {"type": "nullable", "schema": inner}:
            return _of(inner)
        case {"type": "function-plain", "function": {"function": reader}}:
            return _value(reader)
    raise TypeError(f"no JSON Schema for {core['type']}")


def _value(reader: Any) -> dict[str, Any]:
    match reader:
        case values.Choice():
            return {"enum": [str(word) for word in reader.words]}
        case values.Whole():
            return {"type": "integer", "minimum": reader.low, "maximum": reader.high}
    # Of "Return a value; a special case." the value.
    value = _one_line(reader.__doc__).removeprefix("Return ").partition(";")[0].rstrip(".")
    return {"description": value[:1].upper() + value[1:]} | _READERS[reader]


def _one_line(docstring: str | None) -> str:
    return " ".join(words((docstring or "").replace("\n", " ")))
