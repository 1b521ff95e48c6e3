"""The result of reading a delivery, for every dialect, and its form in the parser child's answer."""

from __future__ import annotations

from binascii import b2a_base64

from agent.config.model import InstanceConfig, to_dict
from agent.lib.canonical_json import canonical
from agent.lib.records import asdict, dataclass, field, fields
from agent.reader.common.problem import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


#: Maximum bytes of a configuration in the answer. NICs depend on each other: their maximum fits into it.
MAX_SIZE = 4 << 20


@dataclass(frozen=True, slots=True)
class Reading:
    """``config`` is None if the document as a whole is invalid; ``files`` maps names in it to content."""

    config: InstanceConfig | None
    files: dict[str, bytes]
    problems: list[Problem]
    #: Plain passwords by account: never part of the model, never stored.
    secrets: dict[str, str] = field(default_factory=dict)
    #: The dialect of the document if it is another one: the medium is to be read again as that.
    dialect: str = ""


def problem_rows(problems: list[Problem]) -> list[list[str]]:
    """Return the problems as the answer contains them."""
    return [[p.path, p.message, p.hint, p.severity] for p in problems]


def encoded(reading: Reading) -> dict[str, Any]:
    """Return everything but the problems as the answer contains it; add a problem for what does not fit."""
    return {
        "config": _fitting(reading.config, reading.problems) if reading.config else None,
        "files": {
            name: b2a_base64(content, newline=False).decode() for name, content in reading.files.items()
        },
        "secrets": reading.secrets,
        "dialect": reading.dialect,
    }


def _fitting(config: InstanceConfig, problems: list[Problem]) -> dict[str, Any]:
    """Return the configuration for the answer; if it is too large, without the last of its largest items."""
    try:
        document = to_dict(config)
        size = len(canonical(document))
    except MemoryError:
        return to_dict(_trimmed(config, problems))
    return document if size <= MAX_SIZE else to_dict(_trimmed(config, problems))


def _trimmed(config: InstanceConfig, problems: list[Problem]) -> InstanceConfig:
    every: dict[str, Any] = {one.name: getattr(config, one.name) for one in fields(config)}
    many = {name: value for name, value in every.items() if isinstance(value, tuple)}
    sizes = {key: [_size(item) for item in items] for key, items in many.items()}
    over = sum(map(sum, sizes.values())) - MAX_SIZE
    del sizes["nics"]
    for key in sorted(sizes, key=lambda one: sum(sizes[one]), reverse=True):
        while over > 0 and sizes[key]:
            over -= sizes[key].pop()
        gone = len(many[key]) - len(sizes[key])
        if gone:
            what = f"the last {gone} of {len(many[key])} are left out: more than {MAX_SIZE} bytes in all"
            problems.append(Problem(key, what, "deliver less"))
            many[key] = many[key][: len(sizes[key])]
    return InstanceConfig(**every | many | {"partial": True})


def _size(item: Any) -> int:
    return len(canonical(item if isinstance(item, str | tuple) else asdict(item)))
