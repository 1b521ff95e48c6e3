"""What a dialect makes of its input: the one thing that all of them give the reader."""

from __future__ import annotations

import json
from base64 import b64encode

from agent.model import dump
from agent.plain import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agent.model import InstanceConfig
    from agent.parse.problem import Problem


@dataclass(frozen=True, slots=True)
class Reading:
    """``config`` is None where the document as a whole is none; ``files`` are bytes by their names there."""

    config: InstanceConfig | None
    files: dict[str, bytes]
    problems: list[Problem]
    #: Plain passwords by account: never part of the model, never stored.
    secrets: dict[str, str] = field(default_factory=dict)
    #: The dialect that the document turned out to be of, where it was read as another one.
    instead: str = ""


def told(problems: list[Problem]) -> list[list[str | bool]]:
    """The problems as they go into the answer."""
    return [[p.path, p.message, p.hint, p.harmless] for p in problems]


def encoded(reading: Reading) -> dict[str, Any]:
    """All but the problems as it goes into the answer."""
    return {
        "config": json.loads(dump(reading.config)) if reading.config else None,
        "files": {name: b64encode(content).decode() for name, content in reading.files.items()},
        "secrets": reading.secrets,
        "instead": reading.instead,
    }
