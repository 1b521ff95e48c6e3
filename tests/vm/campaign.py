"""Randomised campaigns: few rounds in ``make test``, all of them in ``make soak``. The seed is printed, and
can be given again (``GANDI_SEED=… make test-vm``).
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator

import pytest

#: Environment variables of a soak: that it is one, its seed, and its end (time.monotonic() seconds), if any.
SOAK, SEED, UNTIL = "GANDI_SOAK", "GANDI_SEED", "GANDI_SOAK_UNTIL"
#: Of one that goes on where another has ended: the number of the first round, and the rows of its table.
FIRST, ROWS = "GANDI_SOAK_FIRST", "GANDI_SOAK_ROWS"


class Rounds:
    """The rounds of one test: `for number in rounds(short, full)`. At least one is played, then as many as
    there is time for; ``done`` counts those that ended, with those of the soak that this one continues.
    """

    def __init__(self) -> None:
        self.done = self.wanted = 0

    def __call__(self, short: int, full: int) -> Iterator[int]:
        """Yield the rounds' numbers: ``full`` of them in a soak, else ``short``."""
        self.wanted = full if os.environ.get(SOAK) else short
        self.done = begin = first()
        for number in range(begin, self.wanted):
            if number > begin and over():
                return
            yield number
            self.done += 1

    def __str__(self) -> str:
        return f"{self.done} of {self.wanted}"


def over() -> bool:
    """Return whether a soak with a time limit has reached it."""
    until = os.environ.get(UNTIL)
    return until is not None and time.monotonic() > float(until)


def first() -> int:
    """Return the number of the first round: not 0 in a soak that continues another."""
    return int(os.environ.get(FIRST, "0"))


def former_rows() -> list[str]:
    """Return the rows of the part's own table that the soak which this one continues has left."""
    return os.environ.get(ROWS, "").splitlines()


def dice(name: str) -> random.Random:
    """Return the campaign's random numbers. The seed is printed: pytest shows it when a test fails."""
    seed = os.environ.get(SEED) or str(random.SystemRandom().getrandbits(32))
    begin = f" from {first()}" if first() else ""
    print(f"{name}{begin}: seed {seed} (once more with: {SEED}={seed})")
    return random.Random(f"{name} {seed}{begin}")


@pytest.fixture(scope="session", autouse=True)
def collected(
    request: pytest.FixtureRequest, record_testsuite_property: Callable[[str, object], None]
) -> None:
    """Record the number of tests, so that a soak that ends before the last one is noticed."""
    record_testsuite_property("collected", len(request.session.items))


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End a soak with a time limit after the test in progress."""
    if nextitem is not None and over():
        item.session.shouldstop = "the time of this soak is over"


@pytest.fixture
def rounds(record_property: Callable[[str, object], None]) -> Iterator[Rounds]:
    """A campaign's rounds; in a soak, the number of those that ended is recorded."""
    played = Rounds()
    yield played
    record_property("rounds", str(played))
