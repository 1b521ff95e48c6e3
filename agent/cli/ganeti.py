"""The verb ``ganeti``: what the OS scripts and the hook of Ganeti do by their environment variables."""

from __future__ import annotations

import os

from agent.host import terminal
from agent.image import ganeti, ganeti_variables


def run(what: str) -> int:
    """Run one of: ``document``, print the native document of the instance; ``verify``, print what is wrong
    with the OS parameters. Return the exit status. Raise ConfigError that names a variable.
    """
    if what == "verify":
        return _verify()
    terminal.print_json(ganeti.document(os.environ))
    return 0


def _verify() -> int:
    """Print a line for each parameter that is wrong; return 1 if there is one, else 0."""
    wrong = list(ganeti_variables.Variables(os.environ).wrong_parameters())
    for error in wrong:
        terminal.print_error(f"{error.message}: {error.hint}" if error.hint else error.message)
    return int(bool(wrong))
