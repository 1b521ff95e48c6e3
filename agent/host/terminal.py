"""What people read of this package: the one place that prints.

Labels, file names, names of processes, a command's error output and the texts of exceptions were written by
others. Each line is made harmless here, and each argument is one line whatever is in it: no text can send
anything to a terminal but letters, or add a line that looks like the agent's.
"""

from __future__ import annotations

import os
import sys

from agent.lib.text import lines as split
from agent.lib.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO


def say(*lines: object) -> None:
    """Print each argument as one line on standard output, at once."""
    _write(sys.stdout, block(*lines))


def complain(*lines: object) -> None:
    """Print each argument as one line on standard error."""
    _write(sys.stderr, block(*lines))


def block(*lines: object) -> str:
    """Return the lines as a terminal may get them, each with its end of line."""
    return "".join(f"{printable(str(line))}\n" for line in lines)


def document(value: object, *, head: str = "", sort_keys: bool = False) -> None:
    """Print ``head`` and ``value`` as JSON, in which all that is not ASCII is escaped."""
    import json

    say(*split(head + json.dumps(value, indent=1, sort_keys=sort_keys)))


def raw(value: bytes) -> None:
    """Write bytes to standard output as they are, for a file or a program; a terminal gets them as lines."""
    if sys.stdout.isatty():
        say(*split(value.decode("utf-8", "surrogateescape")))
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(value)
    sys.stdout.flush()


def trace(error: BaseException) -> list[str]:
    """Return where an exception was raised, line by line; never its text, which can hold a secret."""
    import traceback

    return split("".join(traceback.format_tb(error.__traceback__)))


def discard() -> None:
    """Send nowhere what is still to be written: the reader of standard output (head, less) has left."""
    from agent.host.host import Host

    with Host().opened(os.devnull, os.O_WRONLY) as nowhere:
        os.dup2(nowhere, sys.stdout.fileno())


def _write(stream: TextIO | None, text: str) -> None:
    """Write text of which the stream's character set may lack characters: these are spelled out."""
    if stream is None:  # closed by the program that started this one
        return
    known = stream.encoding or "utf-8"
    stream.write(text.encode(known, "backslashreplace").decode(known))
    stream.flush()
