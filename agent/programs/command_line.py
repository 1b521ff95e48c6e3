"""The command line for a program of the customer or the operator."""

from __future__ import annotations

from agent.lib.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.config.model import Script
    from agent.context import Context

#: Bytes at the beginning of a program that show how to run it.
HEAD = 4


def stored(ctx: Context, script: Script) -> tuple[str, ...]:
    """Return the argv of a program of the stored document. Raise HostError if it is missing."""
    path = ctx.state.script(script.name)
    head = ctx.host.read_bytes(path, limit=HEAD)
    if head is None:
        raise HostError(f"{path}: missing", hint="the platform must deliver its document again")
    return argv(path, head, script)


def argv(path: str, head: bytes, script: Script) -> tuple[str, ...]:
    """Return the argv of a delivered program; ``head`` is the first ``HEAD`` bytes of its file.

    The program named ``run`` is text for /bin/sh, whatever its first bytes are.
    """
    return words(path, b"" if script.name == "run" else head, script.arguments)


def words(path: str, head: bytes, arguments: Sequence[str]) -> tuple[str, ...]:
    """Return the argv of a program: with /bin/sh if it is neither ELF nor has an interpreter line."""
    executable = head.startswith((b"#!", b"\x7fELF"))
    return (path, *arguments) if executable else ("/bin/sh", path, *arguments)
