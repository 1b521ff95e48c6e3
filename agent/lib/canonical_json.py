"""Canonical JSON: equal values have the same text (sorted keys, no spaces)."""

from __future__ import annotations

import json


def canonical(value: object) -> bytes:
    """Return the value as canonical JSON in UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
