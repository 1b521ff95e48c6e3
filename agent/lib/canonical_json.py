"""JSON in the one spelling that equal values share: sorted keys, no spaces."""

from __future__ import annotations

import json


def canonical(value: object) -> bytes:
    """The value in that spelling, as UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
