"""Step: run the document's programs for each boot, before the network is up (boothooks, cloud-config's
bootcmd). As in cloud-init they have the instance's id in INSTANCE_ID.

They run one after the other, each until it ends, in a transient unit without default dependencies: outside
the agent's cgroup and sandbox, and not ordered after basic.target, which waits for this stage
(agent/systemd/transient.py).
"""

from __future__ import annotations

from agent.programs.command_line import stored
from agent.report import changed, guarded, skipped, unchanged
from agent.state import adopted
from agent.systemd import transient

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config.model import Script
    from agent.context import Context
    from agent.report import Item

#: Seconds for one program; the boot waits for it.
TIMEOUT = 120
#: Folder of marks: a program with one was started in this boot (a stage may run more than once).
STARTED = "/run/gandi/boot"


def apply(ctx: Context) -> Iterator[Item]:
    """Run each program that has not been started in this boot."""
    programs = ctx.config.boot if ctx.config else ()
    before_us = programs and adopted.has_first_document_only(
        ctx.host, ctx.state.identity(), ctx.state.folder()
    )
    for script in programs:
        if before_us:
            yield skipped(script.name, "this machine stays as it was before the agent")
        elif not ctx.host.live:
            yield skipped(script.name, "it runs when this machine boots")
        else:
            yield from guarded(script.name, _run(ctx, script))


def _run(ctx: Context, script: Script) -> Iterator[Item]:
    mark = f"{STARTED}/{script.digest[:32]}"
    if ctx.host.exists(mark):
        yield unchanged(script.name, "already run in this boot")
        return
    command = stored(ctx, script)
    ctx.host.write(mark, b"")
    with ctx.waiting(f"{script.name} (at most {TIMEOUT} s)"):
        transient.run(
            ctx.host,
            f"gandi-boot-{script.name}",
            command,
            timeout=min(ctx.settings.script_timeout or TIMEOUT, TIMEOUT),
            description="Program of the platform's document, at each boot",
            environment={"INSTANCE_ID": identity.id} if (identity := ctx.state.identity()) else {},
        )
    yield changed(script.name, "run")
