"""Run a program of the system that writes below /usr, where the daemon may not write."""

from __future__ import annotations

from agent.lib.errors import ConfigError
from agent.systemd import transient

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.context import Context


def run(ctx: Context, unit: str, argv: Sequence[str], *, timeout: float, hint: str = "") -> None:
    """Run the program to its end, at most ``timeout`` seconds: in a transient unit, or in an image's root.

    Raise ConfigError with the remedy if it is not installed, HostError if it fails.
    """
    if not ctx.host.which(argv[0]):
        raise ConfigError(f"{argv[0]} is not installed", hint=hint)
    if not ctx.host.live:
        ctx.host.run(argv, timeout=timeout)
        return
    with ctx.waiting(f"{argv[0]} (at most {timeout:g} s)"):
        transient.run(ctx.host, unit, argv, timeout=timeout, description=f"{argv[0]}, run by gandi-agent")
