"""Bounds on CPU time, in a unit that is fair on a slow or busy host: a fixed piece of work."""

from __future__ import annotations

import functools
import re
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")
_LINE = re.compile(r"([a-z]+)(\d+): *(.*)")


def within(efforts: float, work: Callable[[], _T], clock: Callable[[], float] = time.process_time) -> _T:
    """Return what the work returns. Fail if each of four runs takes more CPU time than that many times the
    fixed work: another program on the host can only add to it. ``clock`` reads the CPU time, in seconds.

    The first run is compared with the least that the fixed work took at the first use in this process.
    Nearly all are far below their bound: timing the fixed work beside each would cost more than they do.
    """
    began = clock()
    done = work()
    taken = [(clock() - began) / _least()]
    while taken[-1] >= efforts:
        if len(taken) == 4:
            raise AssertionError(f"took {min(taken):.1f} times the fixed work; the bound is {efforts}")
        before, began = _effort(), clock()
        done = work()
        taken.append((clock() - began) / max(before, _effort()))
    return done


@functools.cache
def _least() -> float:
    """Return the least CPU seconds of the fixed work in three runs: what disturbs it can only add to it."""
    return min(_effort() for _ in range(3))


def _effort() -> float:
    """Return the CPU seconds of the fixed work: what a parser does in Python, line by line, with a text that
    is too large for a cache. Not the json module's, which is quicker by half in Debian's Python.
    """
    text = "\n".join(f"name{n}: some value  " for n in range(100_000))
    began = time.process_time()
    found = dict[str, list[str]]()
    for line in text.splitlines():
        if match := _LINE.fullmatch(line.strip()):
            found.setdefault(match[1] + match[2][:2], []).append(match[3].lower())
    return time.process_time() - began
