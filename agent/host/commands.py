"""Run commands with a timeout and without a shell, and capture their output. Only for Host.

A program of an image is not trusted: ``image-exec`` runs it, and limits what it gets of this machine.

This is a module of its own because a boot with nothing new runs no command, and need not import subprocess.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess

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
    if limit is None:
        process = _start(argv, environment, subprocess.PIPE, subprocess.PIPE)
        out, err = (text.decode("utf-8", "replace") for text in _ended(process, argv, stdin, timeout))
        return process.returncode, out, err
    with _bounded(limit) as output, _bounded(limit) as errors:
        process = _start(argv, environment, output, errors)
        _ended(process, argv, stdin, timeout)
        return process.returncode, _text(output), _text(errors)


def _ended(
    process: subprocess.Popen[bytes],
    argv: Sequence[str],
    stdin: bytes,
    timeout: float,
    status: int | None = None,
) -> tuple[bytes, bytes]:
    """Wait for the end of the process; return what it wrote to pipes. ``status``: it runs within an image,
    and says there what ends with it.
    """
    try:
        return process.communicate(stdin, timeout=timeout)
    except BaseException as error:
        # Not subprocess.run, which waits without a bound after the kill.
        if status is None:
            _end(process)
        else:
            _end_within(process, status)
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        raise HostError(f"{' '.join(argv)}: still running after {timeout:g} s, killed") from error


def execute_within(
    root: str, argv: Sequence[str], *, stdin: bytes, timeout: float, environment: Mapping[str, str]
) -> tuple[int, str, str]:
    """Do the same with a program of the image at ``root``; none of its processes runs on when this returns.
    Raise HostError also if the image cannot be isolated from this machine.
    """
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as status, _bounded() as out, _bounded() as err:
        try:
            words = ("sh", _IMAGE_EXEC, root, "--json-status-fd", str(writing), "--", *argv)
            process = _start(words, environment, out, err, (writing,))
        finally:
            os.close(writing)
        _ended(process, argv, stdin, timeout, status.fileno())
        errors = _text(err)
        if b'"exit-code"' not in (status.read(_STATUS) or b""):  # bwrap's own failure
            raise _not_run(argv[0], root, errors.strip(WHITE))
        return process.returncode, _text(out), errors


def _start(
    argv: Sequence[str],
    environment: Mapping[str, str],
    out: int,
    err: int,
    kept: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=out, stderr=err, cwd="/", env=environment, pass_fds=kept
        )
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


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GONE)


def _end_within(process: subprocess.Popen[bytes], status: int) -> None:
    """Kill process 1 of the image's PID namespace, and so all its processes; bwrap then ends too.

    To kill bwrap would not be enough: a program can reset its parent-death signal (prctl(2)).
    """
    os.set_blocking(status, False)
    with contextlib.suppress(BlockingIOError, ValueError, KeyError, ProcessLookupError):
        first, _, _ = os.read(status, _STATUS).partition(b"\n")
        os.kill(json.loads(first)["child-pid"], signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GONE)
    _end(process)


@contextlib.contextmanager
def _bounded(size: int = _OUTPUT) -> Iterator[int]:
    """Yield a memory file for a program's output that cannot grow beyond ``size`` bytes."""
    descriptor = os.memfd_create("output", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.pwrite(descriptor, b"\0", size - 1)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
        yield descriptor
    finally:
        os.close(descriptor)


def _text(descriptor: int) -> str:
    """Return what was written to such a file: up to the offset, which the program's descriptor shares."""
    size = min(os.lseek(descriptor, 0, os.SEEK_CUR), os.fstat(descriptor).st_size)
    return os.pread(descriptor, size, 0).decode("utf-8", "replace")
