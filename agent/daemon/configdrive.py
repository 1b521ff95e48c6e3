"""Configuration drives on a running machine: attached late, inserted or changed.

Without a configuration, a late drive is applied in full: the steps of all stages that have ended, including
the customer's programs; later stages use the stored configuration. With one, a drive of the same identity
updates what can change at runtime. A drive of another identity is left for the next boot: only a boot can
begin a new instance.
"""

from __future__ import annotations

from agent import sources, stages
from agent.block import storage
from agent.report import Outcome, skipped
from agent.sources import config_drives
from agent.stages import Stage
from agent.steps import source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config.model import InstanceConfig
    from agent.context import Context
    from agent.reader.client import Parsed
    from agent.report import Item
    from agent.sources import FoundMedium

#: The steps that apply what can change while the machine runs.
LIVE = ("hostname", "network", "resolver", "users", "metadata", "ssh", "timezone")
#: Seconds to wait for stages that still run.
_PATIENCE = 300.0


def present(ctx: Context) -> list[str]:
    """Return the disks that are configuration drives."""
    label = ctx.settings.configdrive_label
    disks = () if sources.why_disabled(ctx) else storage.names(ctx.host)
    return [disk for disk in disks if config_drives.may_have_drive(ctx.host, disk, label)]


def handle(ctx: Context, disk: str) -> Iterator[Item]:
    """If the disk is a configuration drive, choose among all drives and apply what is new on the chosen."""
    if sources.why_disabled(ctx) or not config_drives.may_have_drive(
        ctx.host, disk, ctx.settings.configdrive_label
    ):
        return
    stored = ctx.state.config()
    if stored is not None and not ctx.settings.reload:
        yield skipped("configuration drive", "not read while the machine runs: CONFIG_RELOAD=0")
        return
    findings = sources.find_drive(ctx, source.last_digest(ctx) if stored else "")
    yield from source.report_notes(ctx, findings)
    found = findings.found
    if found is None or found.parsed is None or found.parsed.is_unchanged:
        return
    if why := _another(ctx, found.parsed, stored):
        item = skipped(found.medium.place, why)
        yield from source.report_notes(ctx, sources.SearchResult(None, (item,)))
        return
    with stages.stage_lock(ctx.host, f"the drive {found.medium.disk}", _PATIENCE):
        yield from _apply(ctx, found, found.parsed)


def strays(ctx: Context) -> Iterator[Item]:
    """Report the devices that look like a configuration drive but are not."""
    found = tuple(config_drives.excluded_drives(ctx.host, ctx.settings.configdrive_label))
    yield from source.report_notes(ctx, sources.SearchResult(None, found))


def _another(ctx: Context, parsed: Parsed, stored: InstanceConfig | None) -> str:
    """Return why the drive is left for the next boot (it has another identity), or ""."""
    if stored is None or parsed.config is None:
        return ""
    named, running = source.complete_identity(ctx, parsed.config.identity), stored.identity
    if config_drives.same_identity(named, running):
        return ""
    return f"describes another machine ({named.source} {named.id}) than this one: it waits for a boot"


def _apply(ctx: Context, found: FoundMedium, parsed: Parsed) -> Iterator[Item]:
    # Read again: a stage that ran in between may have stored it.
    stored = ctx.state.config()
    new = stored is None
    if parsed.config is not None and not new and not parsed.secrets:
        # A drive may omit its id, or spell it differently.
        named = source.complete_identity(ctx, parsed.config.identity)
        if parsed.config.with_identity(named) == stored:
            return
    yield from source.put_in_force(ctx, found, parsed, stored)
    if parsed.config is None:
        return
    if new and ctx.config is not None and ctx.state.identity() == ctx.config.identity:
        from agent.network import rollback

        rollback.note(ctx, None, ctx.config)
    for step in _late(ctx) if new else _live():
        report = stages.run_step(ctx, step)
        yield from (item for item in report.items if item.outcome is not Outcome.UNCHANGED)


def _live() -> Iterator[stages.Step]:
    return (step for steps in stages.STAGES.values() for step in steps if step.name in LIVE)


def _late(ctx: Context) -> Iterator[stages.Step]:
    """Yield the configuration's steps of the stages that have ended; later stages run their own."""
    over = {Stage.BOOTSTRAP} | {
        stage
        for stage, entry in ctx.status.read()["stages"].items()
        if entry.get("state") in ("done", "failed")
    }
    for stage, steps in stages.STAGES.items():
        if stage in over:
            yield from (
                step for step in steps if step.needs_config or step.config_field or step.name in LIVE
            )
