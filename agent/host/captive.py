"""Run a program for as long as a block lasts, such as one that serves a filesystem."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time

from agent.host import commands, processes
from agent.host.host import ENVIRONMENT
from agent.lib.errors import HostError
from agent.lib.text import joined

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

#: Last characters of a program's output that go into an error message.
_OUTPUT_IN_ERROR = 400
_PIPE = 1 << 16
#: Seconds between SIGTERM and SIGKILL.
_GRACE = 10.0


@contextlib.contextmanager
def captive(
    argv: Callable[[int], tuple[str, ...]],
    environment: Mapping[str, str],
    *,
    stop: Callable[[], object],
    begins: float,
    ends: float,
) -> Iterator[None]:
    """Start the program of ``argv``, a function of the descriptor to which it writes a byte once it is
    ready, within ``begins`` seconds. At the end call ``stop``, by which it ends within ``ends`` seconds.

    It gets SIGTERM when this process dies. Raise HostError with its output if it ends before that, does not
    end, or fails.
    """
    ready, writing = os.pipe()
    output, said = os.pipe()
    os.set_blocking(output, False)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, ready)
        stack.callback(os.close, output)
        words = ("setpriv", "--pdeathsig", "TERM", *argv(writing))
        try:
            with open("/dev/null", "rb") as nothing:
                given = (nothing.fileno(), said, said, writing)
                process = commands.start(words, {**ENVIRONMENT, **environment}, *given)
        finally:
            os.close(writing)
            os.close(said)
        program = words[3]
        if not _is_ready(ready, begins):
            _end(process)
            raise HostError(f"{program}: {_said(output) or f'not ready after {begins:g} s'}")
        try:
            yield
        except BaseException:
            with contextlib.suppress(HostError):
                stop()
            _end(process)
            raise
        stop()
        if not processes.wait_for_exit(process, ends):
            _end(process)
            raise HostError(f"{program}: still running {ends:g} s after its end, killed")
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        if status:
            raise HostError(f"{program}: exit status {status}: {_said(output)}")


def _is_ready(ready: int, seconds: float) -> bool:
    """Wait for the byte; return False if the program ends without it, or the time is over."""
    poll = select.poll()
    poll.register(ready, select.POLLIN)
    return bool(poll.poll(seconds * 1000)) and bool(os.read(ready, 1))


def _said(output: int) -> str:
    try:
        return joined(os.read(output, _PIPE).decode("utf-8", "replace"))[-_OUTPUT_IN_ERROR:]
    except BlockingIOError:
        return ""


def _end(process: int) -> None:
    deadline = time.monotonic() + _GRACE
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGTERM)
        if not processes.wait_for_exit(process, max(0.0, deadline - time.monotonic())):
            os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
