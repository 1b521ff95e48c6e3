"""Run commands with a timeout and without a shell, and capture their output. Only for Host.

A program of an image is not trusted: ``image-exec`` runs it, and limits what it gets of this machine.

Not by subprocess: with all that it imports, it is a hundredth of a first boot's CPU, and it waits for every
process that a command leaves behind with its pipes. Not with memory files: a program in a domain of its own,
by SELinux or AppArmor, may use the pipes of the process that runs it, but not its memory files.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import time
from functools import cache

from agent.host import processes
from agent.lib.errors import HostError
from agent.lib.text import WHITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Seconds to wait for a killed command to end: one that waits for a hanging disk cannot be killed.
_GONE = 2.0
#: Most bytes of each output stream of a command, and of an image's program.
_OUTPUT, _IMAGE_OUTPUT = 64 << 20, 1 << 20
#: Bytes that a pipe holds, unless its user has many.
_PIPE = 1 << 16
#: Most bytes of bwrap's status: two short lines.
_STATUS = 1 << 16
#: Descriptors that a process may have, unless its limit was raised.
_DESCRIPTORS = 1024
#: Killed processes that have not ended yet, such as one that waits for a disk.
_unreaped = set[int]()
_IMAGE_EXEC = os.path.join(os.path.dirname(os.path.dirname(__file__)), "image-exec")


def execute(
    argv: Sequence[str],
    *,
    stdin: bytes,
    timeout: float,
    environment: Mapping[str, str],
    limit: int | None = None,
) -> tuple[int, str, str]:
    """Run a command and return its exit status, output and error output; kill it after ``timeout`` seconds.

    ``limit`` is the most bytes that it may write to each of the two; a write beyond it ends it (SIGPIPE).
    Raise HostError if it cannot be started or does not end in time.
    """
    with _Streams(stdin, limit or _OUTPUT) as streams:
        status = _ended(start(argv, environment, *streams.ends), argv, timeout, streams)
        return status, streams.out.text, streams.err.text


class _Stream:
    """A pipe between this process (``here``) and a command (``there``); -1 for an end that is closed."""

    def __init__(self, here: int, there: int) -> None:
        self.here, self.there = here, there
        os.set_blocking(self.here, False)

    def close(self) -> None:
        """Close this process's end."""
        if self.here >= 0:
            os.close(self.here)
            self.here = -1


class _Input(_Stream):
    """What a command reads."""

    def __init__(self, content: bytes) -> None:
        reads, writes = os.pipe()
        super().__init__(writes, reads)
        self._left = memoryview(content)

    def go_on(self) -> bool:
        """Write what fits into the pipe; return False when all is written, or the command reads no more."""
        try:
            self._left = self._left[os.write(self.here, self._left) :]
        except BlockingIOError:
            return True
        except BrokenPipeError:
            return False
        return bool(self._left)


class _Output(_Stream):
    """What a command writes, up to ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(*os.pipe())
        self._left, self._chunks = limit, list[bytes]()

    def go_on(self) -> bool:
        """Read what the pipe holds; return False at its end, or beyond the limit."""
        try:
            chunk = os.read(self.here, _PIPE)
        except BlockingIOError:
            return True
        self._chunks.append(chunk[: self._left])
        self._left -= len(chunk)
        return bool(chunk) and self._left >= 0

    @property
    def text(self) -> str:
        """What was read."""
        return b"".join(self._chunks).decode("utf-8", "replace")


class _Streams:
    """The three streams of a command; what is open of them is closed at the end of the block."""

    def __init__(self, stdin: bytes, limit: int) -> None:
        self.out, self.err = _Output(limit), _Output(limit)
        self._all = (_Input(stdin), self.out, self.err)
        #: The command's ends, in the order of its descriptors.
        self.ends = [one.there for one in self._all]

    def __enter__(self) -> _Streams:
        return self

    def __exit__(self, *_error: object) -> None:
        self._close_ends()
        for one in self._all:
            one.close()

    def _close_ends(self) -> None:
        while self.ends:
            os.close(self.ends.pop())

    def serve(self, process: int, timeout: float) -> bool:
        """Write and read until the process has ended, and not until the last one that has its pipes; return
        False if it still runs after ``timeout`` seconds.
        """
        self._close_ends()  # the command has its own
        deadline = time.monotonic() + timeout
        ended = os.pidfd_open(process)
        try:
            poll, in_use = select.poll(), {one.here: one for one in self._all}
            poll.register(ended, select.POLLIN)
            for number, one in in_use.items():
                poll.register(number, select.POLLIN if isinstance(one, _Output) else select.POLLOUT)
            while True:
                ready = {number for number, _ in poll.poll(max(0.0, deadline - time.monotonic()) * 1000)}
                # After its end, the pipes have no more of its own than they can hold: one more read.
                for number in (*in_use,) if ended in ready else ready:
                    if not in_use[number].go_on():
                        poll.unregister(number)
                        in_use.pop(number).close()
                if ended in ready or time.monotonic() >= deadline:
                    return ended in ready
        finally:
            os.close(ended)


def _ended(
    process: int, argv: Sequence[str], timeout: float, streams: _Streams, status: int | None = None
) -> int:
    """Wait for the end of the process; return its exit status, negative for a signal. ``status``: it runs
    within an image, and says there what ends with it.
    """
    try:
        if streams.serve(process, timeout):
            return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        raise HostError(f"{' '.join(argv)}: still running after {timeout:g} s, killed")
    except BaseException:
        if status is None:
            _end(process)
        else:
            _end_within(process, status)
        raise


def execute_within(
    root: str, argv: Sequence[str], *, stdin: bytes, timeout: float, environment: Mapping[str, str]
) -> tuple[int, str, str]:
    """Do the same with a program of the image at ``root``; none of its processes runs on when this returns.
    Raise HostError also if the image cannot be isolated from this machine.
    """
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as status, _Streams(stdin, _IMAGE_OUTPUT) as streams:
        try:
            words = ("sh", _IMAGE_EXEC, root, "--json-status-fd", str(writing), "--", *argv)
            process = start(words, environment, *streams.ends, writing)
        finally:
            os.close(writing)
        code = _ended(process, argv, timeout, streams, status.fileno())
        errors = streams.err.text
        if b'"exit-code"' not in (status.read(_STATUS) or b""):  # bwrap's own failure
            raise _not_run(argv[0], root, errors.strip(WHITE))
        return code, streams.out.text, errors


def start(argv: Sequence[str], environment: Mapping[str, str], *descriptors: int) -> int:
    """Start the program and return its process id. The descriptors are its 0, 1 and 2; a fourth is kept."""
    _keep_inherited()
    for left in tuple(_unreaped):
        _reap(left)
    program, *_ = argv
    if "/" not in program:
        paths = (f"{folder}/{program}" for folder in environment["PATH"].split(":"))
        program = next((path for path in paths if os.access(path, os.X_OK)), "")
    if not program:
        raise HostError(f"{argv[0]}: not installed", hint=f"install the package with {argv[0]}")
    actions = [
        (os.POSIX_SPAWN_DUP2, descriptor, number if number < 3 else descriptor)
        for number, descriptor in enumerate(descriptors)
    ]
    try:
        # Signals that this interpreter ignores.
        defaults = (signal.SIGPIPE, signal.SIGXFSZ)
        return os.posix_spawn(program, tuple(argv), environment, file_actions=actions, setsigdef=defaults)
    except FileNotFoundError as error:
        raise HostError(f"{argv[0]}: not installed", hint=f"install the package with {argv[0]}") from error
    except OSError as error:
        raise HostError(f"{argv[0]}: cannot be started: {error.strerror}") from error


@cache
def _keep_inherited() -> None:
    """Keep from commands what this process was started with, such as a lock of the shell's. Once: what it
    opens itself, Python opens so.
    """
    try:
        numbers = [int(name) for name in os.listdir("/proc/self/fd")]
    except FileNotFoundError:  # within an image, where image-exec mounts no /proc
        numbers = list(range(_DESCRIPTORS))
    for number in numbers:
        if number > 2:
            with contextlib.suppress(OSError):  # that of the list itself, and unused numbers
                fcntl.fcntl(number, fcntl.F_SETFD, fcntl.FD_CLOEXEC)


def _not_run(program: str, root: str, errors: str) -> HostError:
    if errors.startswith("bwrap: execvp "):
        return HostError(f"{program}: cannot be run in {root}: {errors}", hint="install it in the image")
    if errors.startswith("image-exec: /"):
        return HostError(f"{program}: not run in {root}: {errors}")
    return HostError(
        f"{program}: not run: the image cannot be isolated from this machine: {errors}",
        hint="install bubblewrap, and work where root may make namespaces and mounts: not in a container",
    )


def _end(process: int) -> None:
    os.kill(process, signal.SIGKILL)
    _unreaped.add(process)
    if processes.wait_for_exit(process, _GONE):
        _reap(process)


def _reap(process: int) -> None:
    """Take the exit status of a killed process, if it has ended."""
    with contextlib.suppress(ChildProcessError):  # another thread was first
        if not os.waitpid(process, os.WNOHANG)[0]:
            return
    _unreaped.discard(process)


def _end_within(process: int, status: int) -> None:
    """Kill process 1 of the image's PID namespace, and so all its processes; bwrap then ends too.

    To kill bwrap would not be enough: a program can reset its parent-death signal (prctl(2)).
    """
    os.set_blocking(status, False)
    with contextlib.suppress(BlockingIOError, ValueError, KeyError, ProcessLookupError):
        first, _, _ = os.read(status, _STATUS).partition(b"\n")
        os.kill(json.loads(first)["child-pid"], signal.SIGKILL)
        processes.wait_for_exit(process, _GONE)
    _end(process)
