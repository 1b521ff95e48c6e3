"""Waiting for several devices: together, bounded, and nothing is lost."""

from __future__ import annotations

import threading
import time
from functools import partial

from agent.hotplug.together import together


def test_all_results_are_there_and_the_work_overlaps() -> None:
    meet = threading.Barrier(3)

    def work(name: str) -> str:
        meet.wait(10)  # returns only when all three run at the same time
        return name.upper()

    done, late = together({name: partial(work, name) for name in "abc"}, 10)
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
    done, late = together({"s": slow, "q": lambda: "quick"}, 0.2, take)
    assert time.monotonic() - begun < 5
    assert (done, late) == ({"q": "quick"}, {"s"})
    go.set()
    assert arrived.wait(10)
    assert told == [("s", "slow")]


def test_nothing_to_do() -> None:
    assert together({}, 0) == ({}, set())
