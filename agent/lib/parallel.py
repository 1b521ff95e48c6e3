"""Work on several devices at the same time, with one timeout for all."""

from __future__ import annotations

import threading
import time
from queue import Empty, SimpleQueue

#: Seconds between two calls of ``should_stop``.
POLL_INTERVAL = 0.25

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import TypeVar

    Result = TypeVar("Result")


def run_parallel(
    work: Mapping[str, Callable[[], Result]],
    timeout: float,
    on_error: Callable[[str, Exception], Result],
    on_late: Callable[[str, Result], None] = lambda _name, _result: None,
    *,
    should_stop: Callable[[Collection[str]], bool] | None = None,
) -> tuple[dict[str, Result], set[str]]:
    """Run all functions of ``work`` in threads; return the results by name, and the names of the functions
    that have not ended within ``timeout`` seconds.

    A late function runs on, and its thread calls ``on_late`` with its name and result. If a function raises,
    its result is that of ``on_error``, called with its name and the exception; the others are not affected.
    ``should_stop`` is called every POLL_INTERVAL seconds with the names of the functions that run: if it
    returns True, they count as late at once. The threads do not keep the process alive: work that must
    outlive it belongs in a unit of its own.
    """
    answers: SimpleQueue[tuple[str, Result]] = SimpleQueue()
    over, lock = threading.Event(), threading.Lock()

    def do(name: str, function: Callable[[], Result]) -> None:
        try:
            result = function()
        except Exception as error:
            result = on_error(name, error)
        with lock:
            if not over.is_set():
                answers.put((name, result))
                return
        on_late(name, result)

    for name, function in work.items():
        threading.Thread(target=do, args=(name, function), name=name, daemon=True).start()
    done: dict[str, Result] = {}
    deadline = time.monotonic() + timeout
    while len(done) < len(work):
        left = max(deadline - time.monotonic(), 0.0)
        try:
            name, result = answers.get(timeout=min(left, POLL_INTERVAL) if should_stop else left)
        except Empty:
            if should_stop and left > POLL_INTERVAL and not should_stop(set(work) - set(done)):
                continue
            break
        done[name] = result
    with lock:
        over.set()
        while not answers.empty():
            name, result = answers.get()
            done[name] = result
    return done, set(work) - set(done)
