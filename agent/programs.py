"""How a program of the customer's is run."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.model import Script

#: Bytes of a program that are looked at to tell what runs it.
HEAD = 4


def command(path: str, head: bytes, script: Script) -> tuple[str, ...]:
    """How a program is run, from the first bytes of its file.

    ``run`` is text for ``sh`` whatever it begins with, and so is a program without an interpreter line.
    """
    executable = script.name != "run" and head.startswith((b"#!", b"\x7fELF"))
    return (path, *script.arguments) if executable else ("/bin/sh", path, *script.arguments)
