"""Which configuration is in force: this boot's medium, or the stored one.

Resumable at each point: nothing on the medium is touched here, so until the swap step runs, the next boot
finds it again and does all of this once more. A new instance's configuration is stored under its name
first, and only then does the machine become that instance: a power cut leaves it whole, the old one or the
new one.
"""

from __future__ import annotations

import os

from agent import sources
from agent.config import model
from agent.config.model import Identity
from agent.host import machine_uuid
from agent.host.sysfs import devnode, listed
from agent.lib.errors import AgentError, HostError
from agent.lib.records import replace
from agent.report import NEW_INSTANCE, Item, Outcome, changed, failed, skipped, unchanged
from agent.state import adopted, regenerate, settled
from agent.state.json_file import Damaged
from agent.state.store import FOLDER
from agent.systemd.journal import Journal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config.model import InstanceConfig
    from agent.context import Context
    from agent.reader.client import Parsed
    from agent.reader.common.problem import Problem
    from agent.sources import Findings, Found

#: Where the customer's scripts read the document, spelled as it came.
DOCUMENT = "/gandi/config"


def apply(ctx: Context) -> Iterator[Item]:
    """Find, have read, store and adopt; leaves the configuration in ``ctx.config``, plain passwords in
    ``ctx.secrets``, and what to do with the medium in ``ctx.medium``.
    """
    ctx.config, ctx.medium, ctx.files, ctx.secrets = None, None, {}, {}
    if why := sources.off(ctx):
        yield skipped("source", why)
        return
    yield from _mended(ctx)
    stored, broken = _stored(ctx)
    if broken:
        yield broken
    # A disk under another UUID is a clone more often than not: its own medium may still be on its way.
    patient = (stored is None and not _set_up_before_us(ctx)) or _elsewhere(ctx)
    # The drive of a machine that came from one may be another machine's by now: only a boot can tell.
    drivers = stored is not None and stored.identity.source != sources.ARCHIVE
    try:
        findings = sources.find(ctx, known(ctx) if stored else "", patient=patient, drivers=drivers)
    except AgentError as error:
        yield failed("source", error.message, error.hint)
        yield from _from_store(ctx, stored, None, "no medium that can be used")
        return
    yield from noted(ctx, findings)
    found = findings.found
    if found is None or found.parsed is None:
        yield from _from_store(ctx, stored, found)
    else:
        yield from take(ctx, found, found.parsed, stored)


def noted(ctx: Context, findings: Findings) -> Iterator[Item]:
    """What is to be said of media that do not count, also in the journal."""
    for item in findings.notes:
        Journal(ctx.host).medium(item)
        yield item


def take(ctx: Context, found: Found, parsed: Parsed, stored: InstanceConfig | None) -> Iterator[Item]:
    """Make what the reader made of a medium the configuration in force, as far as it can be."""
    yield from _told(parsed.problems)
    if parsed.same:
        ctx.config, ctx.medium = stored, found.medium
        yield unchanged("source", f"{_place(found)}, delivered again")
    elif parsed.config is None:
        ctx.medium = replace(found.medium, left="its configuration cannot be read")
        yield from _from_store(ctx, stored, None, "nothing usable on the medium")
    else:
        ctx.secrets = parsed.secrets
        yield from _adopt(ctx, found, parsed, parsed.config, stored)
    if ctx.medium and not parsed.whole:
        ctx.medium = replace(ctx.medium, left=ctx.medium.left or "its archive is damaged")


def _from_store(
    ctx: Context, stored: InstanceConfig | None, found: Found | None, want: str = "no medium"
) -> Iterator[Item]:
    """No medium, or none that can be used: the same instance as before."""
    ctx.config = stored
    if found is not None:
        ctx.medium = found.medium if stored else replace(found.medium, left="nothing is stored")
    if stored is None and _set_up_before_us(ctx):
        yield skipped("source", f"{want}: this machine stays as it was before the agent")
        return
    if stored is None:
        want = want if ctx.medium is None else "nothing usable on the medium"
        yield skipped("source", f"{want}, nothing stored: no configuration")
        return
    yield unchanged("source", f"the stored configuration ({stored.identity.source})")
    if _elsewhere(ctx):
        what = "the machine's UUID has changed and no medium names it: taken for the same instance"
        yield Item("instance", Outcome.KEPT, what, "before cloning a machine, run: gandi-agent clean")


def _adopt(
    ctx: Context, found: Found, parsed: Parsed, config: InstanceConfig, stored: InstanceConfig | None
) -> Iterator[Item]:
    """Store the new document, then take it over; what cannot be stored is applied from memory."""
    named = bool(config.identity.id) or config.identity.source == sources.ARCHIVE
    config = config.identified(identified(ctx, config.identity))
    ctx.config, ctx.medium = config, found.medium
    # A clone of such a machine is a new instance all the same.
    before_us = _set_up_before_us(ctx) and not _elsewhere(ctx)
    try:
        is_another = ctx.state.identity() != config.identity
        ctx.state.assume(config.identity)
        if is_another and not before_us:
            regenerate.expect(ctx)
        _store(ctx, config, parsed, named=named)
        if before_us:
            adopted.take(ctx.host, config)
        is_new = ctx.state.adopt(config.identity, dmi=machine_uuid.machine(ctx.host))
    except HostError as error:
        ctx.files = parsed.files
        ctx.medium = replace(found.medium, left="its configuration could not be stored")
        hint = "free space below /var/lib/gandi, or make / writable, then reboot"
        yield failed("source", f"applied from memory, not stored: {error.message}", hint)
        return
    if before_us:
        yield changed(
            "source", f"{_place(found)}, the first document of a machine that was set up before the agent"
        )
        return
    what = NEW_INSTANCE if is_new else "a changed document" if config != stored else "as stored"
    yield (unchanged if config == stored and not is_new else changed)("source", f"{_place(found)}, {what}")


def _store(ctx: Context, config: InstanceConfig, parsed: Parsed, *, named: bool) -> None:
    """The digest goes before, and comes after, what it stands for: it never names something that is not
    stored. Of a delivery with a plain password not even a digest is kept; and a drive that does not name its
    machine (``named``) may be another one's the next time.
    """
    delivered = f"{ctx.state.folder()}/delivered"
    # One that is damaged is as good as none, and replaced.
    if _stored(ctx)[0] != config:
        ctx.host.remove(delivered)
        settled.forget_archive(ctx.host)
    ctx.state.store_config(config, parsed.files)
    if parsed.raw is not None:
        ctx.host.mkdir("/gandi", mode=0o700)
        ctx.host.write(DOCUMENT, parsed.raw, mode=0o600, sync=True)
    harmless = all(problem.harmless for problem in parsed.problems)
    if parsed.whole and harmless and named and not parsed.secrets:
        ctx.host.write(delivered, parsed.digest, mode=0o600)
    else:
        # Read anew at each delivery, so that what is wrong is told each time.
        ctx.host.remove(delivered)


def identified(ctx: Context, given: Identity) -> Identity:
    """The medium's own id, else the machine's UUID, else its machine-id; in the spelling that is stored."""
    now = ctx.state.identity()
    ours = now if now is not None and now.source == given.source else None
    if given.id:
        return ours if ours and machine_uuid.same(ours.id, given.id) else given
    uuid = machine_uuid.machine(ctx.host)
    # A machine that has lost its UUID names no other id: it is the same instance.
    if ours and (not uuid or machine_uuid.same(ours.id, uuid)):
        return ours
    return Identity(given.source, uuid or machine_uuid.fallback(ctx.host) or "unnamed")


def known(ctx: Context) -> str:
    """The digest of the last delivery, if it was for this machine: an archive does not say for which, and a
    drive whose digest was kept does.
    """
    now = ctx.state.identity()
    if now is None or (now.source == sources.ARCHIVE and identified(ctx, Identity(now.source, "")) != now):
        return ""
    return ctx.host.read(f"{ctx.state.folder()}/delivered") or ""


def _set_up_before_us(ctx: Context) -> bool:
    """Whether no document has named this machine since it was adopted."""
    now = ctx.state.identity()
    return now is not None and now.source == adopted.SOURCE


def _elsewhere(ctx: Context) -> bool:
    """Whether the machine's UUID is another one than that under which the instance was first seen."""
    now, then = machine_uuid.machine(ctx.host), ctx.state.dmi()
    return bool(now and then and not machine_uuid.same(now, then))


def _stored(ctx: Context) -> tuple[InstanceConfig | None, Item | None]:
    try:
        return ctx.state.config(), None
    except HostError as error:
        return None, failed("stored configuration", error.message, error.hint)


def _mended(ctx: Context) -> Iterator[Item]:
    """A machine that has lost its name would be set up again: it is taken from what was stored last."""
    try:
        ctx.state.identity()
    except Damaged as error:
        folder = f"{FOLDER}/instances"
        configs = [f"{folder}/{name}/config.json" for name in listed(ctx.host, folder)]
        there = filter(ctx.host.exists, configs)
        last = max(there, key=lambda name: os.stat(ctx.host.path(name)).st_mtime_ns, default=None)
        if last is None:
            raise
        try:
            name = model.load(ctx.host.read_bytes(last) or b"").identity
        except ValueError as unreadable:
            raise HostError(f"{last}: {unreadable}", hint=error.hint) from error
        ctx.state.adopt(name)
        yield changed("instance", f"{error.message}; restored from the stored configuration")


def _told(problems: tuple[Problem, ...]) -> Iterator[Item]:
    for problem in problems:
        if problem.harmless:
            yield Item(problem.path, Outcome.SKIPPED, problem.message, problem.hint)
        else:
            yield failed(problem.path, problem.message, problem.hint)


def _place(found: Found) -> str:
    disk = found.medium.disk
    return disk if found.medium.named else devnode(disk)
