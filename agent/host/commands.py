"""Run commands with a timeout and without a shell, and capture their output. Only for Host.

A program of an image is not trusted: ``image-exec`` runs it, and limits what it gets of this machine.

Not by subprocess: with all that it imports, it is a hundredth of a first boot's CPU, and its pipes would
wait for every process that a command leaves behind. Input and output are memory files instead.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal

from agent.host import processes
from agent.lib.errors import HostError
from agent.lib.text import WHITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

#: Seconds to wait for a killed command to end: one that waits for a hanging disk cannot be killed.
_GONE = 2.0
#: Most bytes in each output stream of an image's program; it cannot write more.
_OUTPUT = 1 << 20
#: Most bytes of bwrap's status: two short lines.
_STATUS = 1 << 16
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

    ``limit`` is the most bytes that it may write to each of the two; a write beyond it fails. Raise
    HostError if it cannot be started or does not end in time.
    """
    with _file(stdin) as given, _output(limit) as out, _output(limit) as err:
        status = _ended(_start(argv, environment, given, out, err), argv, timeout)
        return status, _text(out), _text(err)


def _ended(process: int, argv: Sequence[str], timeout: float, status: int | None = None) -> int:
    """Wait for the end of the process; return its exit status, negative for a signal. ``status``: it runs
    within an image, and says there what ends with it.
    """
    try:
        if processes.wait_for_exit(process, timeout):
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
    with (
        open(reading, "rb", buffering=0) as status,
        _file(stdin) as given,
        _output(_OUTPUT) as out,
        _output(_OUTPUT) as err,
    ):
        try:
            words = ("sh", _IMAGE_EXEC, root, "--json-status-fd", str(writing), "--", *argv)
            process = _start(words, environment, given, out, err, writing)
        finally:
            os.close(writing)
        code = _ended(process, argv, timeout, status.fileno())
        errors = _text(err)
        if b'"exit-code"' not in (status.read(_STATUS) or b""):  # bwrap's own failure
            raise _not_run(argv[0], root, errors.strip(WHITE))
        return code, _text(out), errors


def _start(argv: Sequence[str], environment: Mapping[str, str], *descriptors: int) -> int:
    """Start the program and return its process id. The descriptors are its 0, 1 and 2; a fourth is kept."""
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


@contextlib.contextmanager
def _file(content: bytes = b"") -> Iterator[int]:
    """Yield a memory file with this content."""
    descriptor = os.memfd_create("command", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.pwrite(descriptor, content, 0)
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _output(size: int | None) -> Iterator[int]:
    """Yield a memory file for a program's output, which cannot grow beyond ``size`` bytes."""
    with _file() as descriptor:
        if size is not None:
            os.pwrite(descriptor, b"\0", size - 1)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
        yield descriptor


def _text(descriptor: int) -> str:
    """Return what was written to such a file: up to the offset, which the program's descriptor shares."""
    size = min(os.lseek(descriptor, 0, os.SEEK_CUR), os.fstat(descriptor).st_size)
    return os.pread(descriptor, size, 0).decode("utf-8", "replace")
