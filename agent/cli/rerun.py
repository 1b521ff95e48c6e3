"""``gandi-agent rerun script``: run the document's programs again, which otherwise run once per instance."""

from __future__ import annotations

from agent import stages
from agent.context import attempt, context
from agent.host import terminal
from agent.lib.errors import ConfigError
from agent.steps import script as step
from agent.systemd import transient

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.host.host import Host

#: Seconds to wait for a stage that runs.
_LOCK_TIMEOUT = 10.0


def script(host: Host) -> int:
    """Run the document's programs in order and print their results; return 1 if one failed.

    Raise ConfigError if there are none, or while they still run.
    """
    ctx = context(host)
    ctx.config = ctx.state.config()
    if ctx.config is None or not ctx.config.scripts:
        raise ConfigError(
            "rerun: this machine's document has no script", hint="see: gandi-agent config show"
        )
    with stages.stage_lock(host, "rerun script", _LOCK_TIMEOUT):
        if transient.is_running(host, step.UNIT):
            raise ConfigError(
                f"rerun: {step.UNIT}.service still runs", hint=f"wait for it, or: systemctl kill {step.UNIT}"
            )
        if host.exists(f"/run/systemd/transient/{step.UNIT}.service"):
            # systemd keeps the unit until the last of its processes has ended.
            raise ConfigError(
                f"rerun: processes of the last run are still running in {step.UNIT}.service",
                hint=f"end it: systemctl kill {step.UNIT}",
            )
        step.forget(ctx)
        report = attempt(ctx, "scripts", lambda: step.apply(ctx))
    terminal.print_lines(*report.lines())
    return int(report.failed)
