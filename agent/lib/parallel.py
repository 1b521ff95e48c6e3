"""Work on several devices at the same time, with one timeout for all."""

from __future__ import annotations

import threading
import time

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
    done: dict[str, Result] = {}
    is_over, ended = False, threading.Condition()

    def do(name: str, function: Callable[[], Result]) -> None:
        try:
            result = function()
        except Exception as error:
            result = on_error(name, error)
        with ended:
            if not is_over:
                done[name] = result
                ended.notify()
                return
        on_late(name, result)

    for name, function in work.items():
        threading.Thread(target=do, args=(name, function), name=name, daemon=True).start()
    deadline, is_stopped = time.monotonic() + timeout, False
    while True:
        with ended:
            left = max(deadline - time.monotonic(), 0.0)
            pause = min(left, POLL_INTERVAL) if should_stop else left
            ended.wait_for(lambda: len(done) == len(work), 0.0 if is_stopped else pause)
            late = set(work) - set(done)
            if is_stopped or not late or pause == left:
                is_over = True
                return done, late
        is_stopped = should_stop is not None and should_stop(late)
