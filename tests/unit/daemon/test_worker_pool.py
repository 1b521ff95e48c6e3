"""The pool: order within a key, no delay by another key, no thread left over."""

from __future__ import annotations

import threading
from functools import partial

from agent.daemon.worker_pool import Workers


def _hang(release: threading.Event) -> None:
    release.wait(10)


def test_jobs_of_one_key_keep_their_order_and_never_overlap() -> None:
    workers, seen = Workers(4, lambda *_: None), list[int]()
    for number in range(50):
        workers.submit("vda", partial(seen.append, number))
    assert workers.settle(10)
    assert seen == list(range(50))


def test_what_is_wanted_once_joins_the_job_that_waits_but_not_the_one_at_work() -> None:
    workers, begun, release, seen = Workers(1, lambda *_: None), threading.Event(), threading.Event(), []

    def job() -> None:
        seen.append(1)
        begun.set()
        _hang(release)

    workers.submit("SCSI", job, once=True)
    assert begun.wait(5)
    for _ in range(5):
        workers.submit("SCSI", job, once=True)
    release.set()
    assert workers.settle(5)
    assert len(seen) == 2


def test_a_key_that_hangs_holds_up_no_other() -> None:
    workers, release, done = Workers(2, lambda *_: None), threading.Event(), threading.Event()
    workers.submit("hangs", lambda: _hang(release))
    for number in range(5):
        workers.submit(f"vd{number}", lambda: None)
    workers.submit("last", done.set)
    assert done.wait(5)
    assert workers.busy() == ("hangs",)
    assert not workers.settle(0.01)
    release.set()
    assert workers.settle(5)


def test_never_more_threads_than_allowed_and_none_when_idle() -> None:
    workers, barrier = Workers(3, lambda *_: None), threading.Barrier(3)
    before, most = threading.active_count(), [0]

    def job() -> None:
        barrier.wait(5)
        most[0] = max(most[0], threading.active_count() - before)

    for number in range(9):
        workers.submit(str(number), job)
    assert workers.settle(10)
    assert most == [3]


def test_a_job_that_raises_is_told_and_costs_nothing_else() -> None:
    broken, seen = list[tuple[str, str]](), list[str]()
    workers = Workers(1, lambda key, error: broken.append((key, type(error).__name__)))
    workers.submit("a", lambda: [][0])
    workers.submit("a", lambda: seen.append("next"))
    assert workers.settle(5)
    assert (broken, seen) == ([("a", "IndexError")], ["next"])


def test_a_closed_pool_starts_nothing() -> None:
    workers, release, seen = Workers(1, lambda *_: None), threading.Event(), list[str]()
    workers.submit("a", lambda: _hang(release))
    workers.submit("a", lambda: seen.append("queued"))
    workers.close()
    workers.submit("b", lambda: seen.append("late"))
    release.set()
    assert workers.settle(5)
    assert seen == []
