"""An image is made a machine without being booted: ``apply --root``.

The steps are the boot's own, those that need nothing but files and the programs of the passwd package. What
they remember lies in the image, so its first boot finds itself set up, and does the rest: NICs that only the
running machine has names for, scripts, growth. Works chrooted into the image with the image's own Python.
"""

from __future__ import annotations

from agent import stages
from agent.cli import clean
from agent.context import Medium, context
from agent.host import terminal
from agent.host.host import Host
from agent.image import delivery
from agent.lib.errors import ConfigError
from agent.report import Outcome, changed
from agent.sources import Found
from agent.state import settled
from agent.steps import source as source_step
from agent.steps.hostkeys import KEYGEN, MAKER
from agent.systemd import units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from agent.context import Context
    from agent.report import Item, StepReport


def apply(
    root: Path,
    source: str,
    chosen: Sequence[stages.Stage],
    debug: Callable[[str], None] | None = None,
) -> int:
    """Configure the system below ``root`` from ``source`` (see ``delivery``), by the steps of these stages,
    and print what each did; 1 when one failed. ``debug``: see Host.
    """
    host = Host(root.resolve(), offline=True, debug=debug)
    if not host.exists("/etc/passwd"):
        raise ConfigError(f"{root}: no system is mounted there", hint="mount the image's root filesystem")
    # Nothing is changed where the image's programs could not be run.
    host.run(("true",))
    worst = 0
    for report in steps(context(host), source, chosen):
        terminal.say(*report.lines())
        worst = max(worst, int(report.failed))
    return worst


def steps(ctx: Context, source: str, chosen: Sequence[stages.Stage]) -> Iterator[StepReport]:
    """Take the delivery over, run the steps, and leave what identifies a machine to the first boot."""
    ctx.host.sweep()
    settled.withdraw(ctx.host)
    yield stages.attempt(ctx, "source", lambda: _take(ctx, source))
    if ctx.config is None:
        return
    for stage in chosen:
        for step in stages.STAGES[stage]:
            if step.offline:
                yield stages.run_step(ctx, step)
    yield stages.attempt(ctx, "first boot", lambda: renew(ctx.host))


def _take(ctx: Context, source: str) -> Iterator[Item]:
    parsed = delivery.read(Host(), source)
    name = parsed.config.identity.source if parsed.config else ""
    found = Found(Medium(name, source, "", named=True), parsed)
    yield from source_step.take(ctx, found, parsed, ctx.state.config())


def renew(host: Host) -> Iterator[Item]:
    """Take from the image what two machines must never share: its first boot makes them anew."""
    made = next(clean.host_keys(host))
    if made.outcome is Outcome.CHANGED and not units.enabled(host, KEYGEN):
        # Nobody would make them at the first boot, and sshd does not start without.
        host.run((MAKER,))
        made = changed("host keys", f"made here, since {KEYGEN} is not enabled there")
    yield made
    yield from clean.machine_id(host)
