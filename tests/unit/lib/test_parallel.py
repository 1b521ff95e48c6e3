"""Work on several devices: one wait for all, bounded, and no result is lost."""

from __future__ import annotations

import threading
import time
from functools import partial

from agent.lib.parallel import run_parallel


def raised(name: str, error: Exception) -> str:
    return f"{name}: {type(error).__name__}"


def test_all_results_are_there_and_the_work_overlaps() -> None:
    meet = threading.Barrier(3)

    def work(name: str) -> str:
        meet.wait(10)  # returns only when all three run at the same time
        return name.upper()

    done, late = run_parallel({name: partial(work, name) for name in "abc"}, 10, raised)
    assert done == {"a": "A", "b": "B", "c": "C"}
    assert late == set()


def test_the_late_are_named_and_their_results_come_later() -> None:
    go, arrived = threading.Event(), threading.Event()
    told: list[tuple[str, str]] = []

    def slow() -> str:
        go.wait(10)
        return "slow"

    def take(name: str, result: str) -> None:
        told.append((name, result))
        arrived.set()

    begun = time.monotonic()
    done, late = run_parallel({"s": slow, "q": lambda: "quick"}, 0.2, raised, take)
    assert time.monotonic() - begun < 5
    assert (done, late) == ({"q": "quick"}, {"s"})
    go.set()
    assert arrived.wait(10)
    assert told == [("s", "slow")]


def test_nothing_to_do() -> None:
    assert run_parallel({}, 0, raised) == ({}, set())


def test_what_raises_has_answered() -> None:
    """It counts as ended at once, not as late, and does not affect the others."""
    begun = time.monotonic()
    done, late = run_parallel({"a": lambda: str(int("x")), "b": lambda: "fine"}, 60, raised)
    assert time.monotonic() - begun < 10
    assert (done, late) == ({"a": "a: ValueError", "b": "fine"}, set())


def test_what_raises_late_is_told_as_well() -> None:
    go, arrived = threading.Event(), threading.Event()
    told: list[tuple[str, str]] = []

    def slow() -> str:
        go.wait(10)
        raise OSError

    def take(name: str, result: str) -> None:
        told.append((name, result))
        arrived.set()

    assert run_parallel({"s": slow}, 0.1, raised, take) == ({}, {"s"})
    go.set()
    assert arrived.wait(10)
    assert told == [("s", "s: OSError")]
