"""The one place where a command is run: bounded, without a shell, its output kept. For Host alone.

Apart from Host because a boot with nothing new starts none, and does without the library.
"""

from __future__ import annotations

import contextlib
import subprocess

from agent.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Seconds for a killed command to be gone: one that waits for a disk that hangs cannot be killed.
_GONE = 2.0


def execute(
    argv: Sequence[str],
    *,
    within: Sequence[str],
    stdin: bytes,
    timeout: float,
    environment: Mapping[str, str],
) -> tuple[int, str, str]:
    """Exit status, output and error output of the command, which is run by ``within`` (chroot and a root)
    where that is given, and killed after ``timeout`` seconds.

    Raises HostError for one that cannot be started or does not end.
    """
    try:
        process = subprocess.Popen(
            (*within, *argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env=environment,
        )
    except FileNotFoundError as error:
        raise HostError(f"{argv[0]}: not installed", hint=f"install the package with {argv[0]}") from error
    except OSError as error:
        raise HostError(f"{argv[0]}: cannot be started: {error.strerror}") from error
    try:
        output = process.communicate(stdin, timeout=timeout)
    except BaseException as error:
        # Not subprocess.run: after the kill it waits without a bound.
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GONE)
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        raise HostError(f"{' '.join(argv)}: still running after {timeout:g} s, killed") from error
    out, err = (text.decode("utf-8", "replace") for text in output)
    return process.returncode, out, err
