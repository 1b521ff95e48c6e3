"""How a program of the customer's is run."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.config.model import Script

#: Bytes of a program that are looked at to tell what runs it.
HEAD = 4


def command(path: str, head: bytes, script: Script) -> tuple[str, ...]:
    """How a program is run, from the first bytes of its file.

    ``run`` is text for ``sh`` whatever it begins with, and so is a program without an interpreter line.
    """
    return words(path, b"" if script.name == "run" else head, script.arguments)


def words(path: str, head: bytes, arguments: Sequence[str]) -> tuple[str, ...]:
    """The argv of a program: without an interpreter line it is run by /bin/sh."""
    executable = head.startswith((b"#!", b"\x7fELF"))
    return (path, *arguments) if executable else ("/bin/sh", path, *arguments)
