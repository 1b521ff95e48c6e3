"""Canonical JSON: equal values have the same text (sorted keys, no spaces); and objects of any JSON."""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def parsed_object(text: str | bytes) -> dict[str, Any] | None:
    """Return a JSON object; None for what is damaged or something else."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def canonical(value: object) -> bytes:
    """Return the value as canonical JSON in UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
