"""Randomised campaigns: few rounds in ``make test``, all of them in ``make soak``, each with a seed that is
printed and can be given again (``GANDI_SEED=… make test-vm``).
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator

import pytest

#: In the environment of a soak: that it is one, its seed, and when it is over (of time.monotonic), if ever.
SOAK, SEED, UNTIL = "GANDI_SOAK", "GANDI_SEED", "GANDI_SOAK_UNTIL"


class Rounds:
    """The rounds of one test: `for number in rounds(short, full)`. One is played in any case, then those for
    which there is time; ``done`` are those that came to their end.
    """

    def __init__(self) -> None:
        self.done = self.wanted = 0

    def __call__(self, short: int, full: int) -> Iterator[int]:
        """Their numbers; ``full`` are played in a soak."""
        self.wanted = full if os.environ.get(SOAK) else short
        for number in range(self.wanted):
            if number and over():
                return
            yield number
            self.done += 1

    def __str__(self) -> str:
        return f"{self.done} of {self.wanted}"


def over() -> bool:
    """Whether a bounded soak has no more time."""
    until = os.environ.get(UNTIL)
    return until is not None and time.monotonic() > float(until)


def dice(name: str) -> random.Random:
    """The campaign's source of chance. Its seed is printed, which a test that fails shows."""
    seed = os.environ.get(SEED) or str(random.SystemRandom().getrandbits(32))
    print(f"{name}: seed {seed} (once more with: {SEED}={seed})")
    return random.Random(f"{name} {seed}")


@pytest.fixture(scope="session", autouse=True)
def collected(
    request: pytest.FixtureRequest, record_testsuite_property: Callable[[str, object], None]
) -> None:
    """A soak that ends before its last test says so."""
    record_testsuite_property("collected", len(request.session.items))


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """A bounded soak ends after the test in progress."""
    if nextitem is not None and over():
        item.session.shouldstop = "the time of this soak is over"


@pytest.fixture
def rounds(record_property: Callable[[str, object], None]) -> Iterator[Rounds]:
    """A campaign's rounds; how many were done is told to a soak."""
    played = Rounds()
    yield played
    record_property("rounds", str(played))
