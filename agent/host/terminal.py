"""Print for people: no other module prints.

Labels, file names, process names, a command's error output and the texts of exceptions come from others.
Each argument becomes one line of printable characters, whatever it contains: no text can send control
sequences to a terminal, or add a line that looks like the agent's.
"""

from __future__ import annotations

import os
import sys

from agent.lib.text import lines as split
from agent.lib.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO


def print_lines(*lines: object) -> None:
    """Print each argument as one line on standard output, and flush it."""
    _write(sys.stdout, block(*lines))


def print_error(*lines: object) -> None:
    """Print each argument as one line on standard error."""
    _write(sys.stderr, block(*lines))


def debug(line: str) -> None:
    """Print one line on standard error; if that is the journal, as an entry of priority debug."""
    print_error(f"<7>{line}" if _is_journal() else line)


def block(*lines: object) -> str:
    """Return the lines with only printable characters, each with its end of line."""
    return "".join(f"{printable(str(line))}\n" for line in lines)


def print_json(value: object, *, head: str = "", sort_keys: bool = False) -> None:
    """Print ``head`` and ``value`` as JSON, with all characters beyond ASCII escaped."""
    import json

    print_lines(*split(head + json.dumps(value, indent=1, sort_keys=sort_keys)))


def print_bytes(value: bytes) -> None:
    """Write bytes to standard output: to a terminal as printable lines, otherwise unchanged."""
    if sys.stdout.isatty():
        print_lines(*split(value.decode("utf-8", "surrogateescape")))
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(value)
    sys.stdout.flush()


def traceback_lines(error: BaseException) -> list[str]:
    """Return the traceback of an exception as lines, without its text, which may contain a secret."""
    import traceback

    return split("".join(traceback.format_tb(error.__traceback__)))


def discard_output() -> None:
    """Discard all further standard output: its reader (head, less) has closed the pipe."""
    from agent.host.host import Host

    with Host().opened(os.devnull, os.O_WRONLY) as nowhere:
        os.dup2(nowhere, sys.stdout.fileno())


def _is_journal() -> bool:
    """Return whether standard error goes to the journal, which takes a priority from a line's beginning
    (sd-daemon(3)); systemd names the stream of it in the environment (systemd.exec(5)).
    """
    try:
        info = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{info.st_dev}:{info.st_ino}"


def _write(stream: TextIO | None, text: str) -> None:
    """Write text; characters that the stream's encoding lacks become escapes."""
    if stream is None:  # closed by the program that started this one
        return
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()
