"""The verb ``ganeti``: what the OS scripts and the hook of Ganeti do by their environment variables."""

from __future__ import annotations

import os

from agent.host import terminal
from agent.image import ganeti, ganeti_variables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def run(what: str, debug: Callable[[str], None] | None = None) -> int:
    """Run one of: ``document``, print the native document of the instance; ``verify``, print what is wrong
    with the OS parameters; ``rename``, give the instance below / its new name. Return the exit status. Raise
    ConfigError that names a variable. ``debug``: see Host.
    """
    if what == "verify":
        return _verify()
    if what == "rename":
        from agent.cli import apply, ganeti_rename
        from agent.context import context
        from agent.host.host import Host
        from agent.image import delivery

        ctx = context(Host("/", offline=True, debug=debug))
        return apply.print_steps(ganeti_rename.steps(ctx, os.environ, delivery.standard_input()))
    terminal.print_json(ganeti.document(os.environ))
    return 0


def _verify() -> int:
    """Print a line for each parameter that is wrong; return 1 if there is one, else 0."""
    wrong = list(ganeti_variables.Variables(os.environ).wrong_parameters())
    for error in wrong:
        terminal.print_error(f"{error.message}: {error.hint}" if error.hint else error.message)
    return int(bool(wrong))
