"""Work on several devices at the same time, waited for together and no longer than a bound."""

from __future__ import annotations

import threading
import time
from queue import Empty, SimpleQueue

#: Seconds between two questions to ``stopped``.
GLANCE = 0.25

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import TypeVar

    Result = TypeVar("Result")


def together(
    work: Mapping[str, Callable[[], Result]],
    timeout: float,
    broken: Callable[[str, Exception], Result],
    late: Callable[[str, Result], None] = lambda _name, _result: None,
    *,
    stopped: Callable[[Collection[str]], bool] | None = None,
) -> tuple[dict[str, Result], set[str]]:
    """Do all of ``work`` in threads; the results by name, and the names of what was not done in
    ``timeout`` seconds.

    What is late goes on, and its result is given to ``late`` in its own thread. Of a function that raises,
    the result is what ``broken`` makes of its name and the exception: it has answered, and costs the others
    nothing. ``stopped`` is asked every GLANCE seconds about those that are not done: where it says so, they
    are late before the time. The threads do not keep the process alive: what must outlive it runs in a unit
    of its own.
    """
    answers: SimpleQueue[tuple[str, Result]] = SimpleQueue()
    over, turn = threading.Event(), threading.Lock()

    def do(name: str, function: Callable[[], Result]) -> None:
        try:
            result = function()
        except Exception as error:
            result = broken(name, error)
        with turn:
            if not over.is_set():
                answers.put((name, result))
                return
        late(name, result)

    for name, function in work.items():
        threading.Thread(target=do, args=(name, function), name=name, daemon=True).start()
    done: dict[str, Result] = {}
    deadline = time.monotonic() + timeout
    while len(done) < len(work):
        left = max(deadline - time.monotonic(), 0.0)
        try:
            name, result = answers.get(timeout=min(left, GLANCE) if stopped else left)
        except Empty:
            if stopped and left > GLANCE and not stopped(set(work) - set(done)):
                continue
            break
        done[name] = result
    with turn:
        over.set()
        while not answers.empty():
            name, result = answers.get()
            done[name] = result
    return done, set(work) - set(done)
