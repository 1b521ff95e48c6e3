"""Bounds on CPU time, in a unit that is fair on a slow or busy host: a fixed piece of work."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def effort() -> float:
    """Return the CPU seconds of the fixed work: about 0.2 on a free host, more on a busy one."""
    document = {"items": [{"name": f"item{n}", "numbers": list(range(20))} for n in range(1000)]}
    began = time.process_time()
    for _ in range(15):
        json.loads(json.dumps(document, indent=1))
    return time.process_time() - began


@contextmanager
def within(efforts: float) -> Iterator[None]:
    """Fail if the body takes more of this process' CPU time than that many times the fixed work."""
    before = effort()
    began = time.process_time()
    yield
    took = time.process_time() - began
    unit = max(before, effort())
    assert took < efforts * unit, f"{took:.2f} s of CPU time, {took / unit:.1f} times the fixed work"
