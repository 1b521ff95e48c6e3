"""Step: choose the configuration in force: that of this boot's medium, or the stored one.

It can be cut short at any point. It changes nothing on the medium, so until the swap step runs, the next
boot finds the medium again and repeats this step. A new instance's configuration is stored under its own
name before the machine becomes that instance: after a power cut the machine is the old one or the new one.
"""

from __future__ import annotations

import os

from agent import sources
from agent.config import model
from agent.config.model import Identity
from agent.host import machine_uuid
from agent.host.sysfs import listed
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
    from agent.sources import FoundMedium, SearchResult

#: A copy of the document as it was delivered, for the customer's scripts.
DOCUMENT = "/gandi/config"


def apply(ctx: Context) -> Iterator[Item]:
    """Find a medium, have it read, store its document and make it the one in force.

    Set ``ctx.config``, ``ctx.secrets`` (plain passwords) and ``ctx.medium`` (for the steps that use it).
    """
    ctx.config, ctx.medium, ctx.files, ctx.secrets = None, None, {}, {}
    if why := sources.why_disabled(ctx):
        yield skipped("source", why)
        return
    yield from _restore_identity(ctx)
    stored, broken = _stored(ctx)
    if broken:
        yield broken
    # With another UUID this is most likely a clone: its own medium may still have to appear.
    patient = (stored is None and not _is_adopted(ctx)) or _has_another_uuid(ctx)
    # Where a drive configured this machine, wait for disks without a driver: what that drive says now may be
    # for another machine.
    drivers = stored is not None and stored.identity.source != sources.ARCHIVE
    try:
        findings = sources.find(
            ctx, last_digest(ctx) if stored else "", wait_for_medium=patient, wait_for_drivers=drivers
        )
    except AgentError as error:
        yield failed("source", error.message, error.hint)
        yield from _from_store(ctx, stored, None, "no medium that can be used")
        return
    yield from _compare_uuid(ctx)
    yield from report_notes(ctx, findings)
    found = findings.found
    if found is None or found.parsed is None:
        yield from _from_store(ctx, stored, found)
    else:
        yield from put_in_force(ctx, found, found.parsed, stored)


def report_notes(ctx: Context, findings: SearchResult) -> Iterator[Item]:
    """Yield the notes on media that are not used, and log each to the journal."""
    for item in findings.notes:
        Journal(ctx.host).medium(item)
        yield item


def put_in_force(
    ctx: Context, found: FoundMedium, parsed: Parsed, stored: InstanceConfig | None
) -> Iterator[Item]:
    """Put what the reader made of a medium in force; if that is not usable, the stored configuration."""
    yield from _problem_items(parsed.problems)
    if parsed.is_unchanged:
        ctx.config, ctx.medium = stored, found.medium
        yield unchanged("source", f"{found.medium.place}, delivered again")
    elif parsed.config is None:
        ctx.medium = replace(found.medium, not_swap_reason="its configuration cannot be read")
        yield from _from_store(ctx, stored, None, "nothing usable on the medium")
    elif unrecorded := _record_signed(ctx, parsed):
        yield unrecorded
        yield from _from_store(ctx, stored, None, "no medium that can be used")
    else:
        ctx.secrets = parsed.secrets
        yield from _store_and_apply(ctx, found, parsed, parsed.config, stored)
    if ctx.medium and not parsed.is_complete:
        ctx.medium = replace(
            ctx.medium, not_swap_reason=ctx.medium.not_swap_reason or "its archive is damaged"
        )


def _record_signed(ctx: Context, parsed: Parsed) -> Item | None:
    """Record the counter of a signed document before the document has any effect. Return a failure if that
    cannot be recorded: it must not be applied then, since an older one could replace it.
    """
    if not parsed.signed_digest or parsed.config is None:
        return None
    from agent.sources import signed

    try:
        signed.record(ctx.host, parsed.config, parsed.signed_digest)
    except HostError as error:
        what = f"not applied: the counter of a signed document cannot be recorded: {error.message}"
        return failed("source", what, "free space below /var/lib/gandi, or make / writable, then reboot")
    return None


def _from_store(
    ctx: Context, stored: InstanceConfig | None, found: FoundMedium | None, want: str = "no medium"
) -> Iterator[Item]:
    """Keep the stored configuration, since no medium can be used; ``want`` says why, for the report."""
    ctx.config = stored
    if found is not None:
        ctx.medium = found.medium if stored else replace(found.medium, not_swap_reason="nothing is stored")
    if stored is None and _is_adopted(ctx):
        yield skipped("source", f"{want}: this machine stays as it was before the agent")
        return
    if stored is None:
        want = want if ctx.medium is None else "nothing usable on the medium"
        yield skipped("source", f"{want}, nothing stored: no configuration")
        return
    yield unchanged("source", f"the stored configuration ({stored.identity.source})")
    if _has_another_uuid(ctx):
        what = "the machine's UUID has changed and no medium names it: taken for the same instance"
        yield Item("instance", Outcome.KEPT, what, "before cloning a machine, run: gandi-agent clean")


def _store_and_apply(
    ctx: Context, found: FoundMedium, parsed: Parsed, config: InstanceConfig, stored: InstanceConfig | None
) -> Iterator[Item]:
    """Store the new document, then put it in force; one that cannot be stored is applied from memory."""
    named = bool(config.identity.id) or found.medium.source in sources.OF_THIS_MACHINE
    config = config.with_identity(complete_identity(ctx, config.identity))
    ctx.config, ctx.medium = config, found.medium
    # A clone of an adopted machine is a new instance.
    before_us = _is_adopted(ctx) and not _has_another_uuid(ctx)
    try:
        is_another = ctx.state.identity() != config.identity
        ctx.state.use_unstored_instance(config.identity)
        if is_another and not before_us:
            regenerate.schedule(ctx)
        if stored is not None and not is_another and _network(stored) != _network(config):
            from agent.network import rollback

            rollback.note(ctx, stored, config)
        _store(ctx, config, parsed, named=named)
        if before_us:
            adopted.record_first_document(ctx.host, config)
        is_new = ctx.state.set_instance(config.identity, dmi_uuid=machine_uuid.read_uuid(ctx.host))
    except HostError as error:
        ctx.files = parsed.files
        ctx.medium = replace(found.medium, not_swap_reason="its configuration could not be stored")
        hint = "free space below /var/lib/gandi, or make / writable, then reboot"
        yield failed("source", f"applied from memory, not stored: {error.message}", hint)
        return
    if before_us:
        yield changed(
            "source",
            f"{found.medium.place}, the first document of a machine that was set up before the agent",
        )
        return
    what = NEW_INSTANCE if is_new else "a changed document" if config != stored else "as stored"
    yield (unchanged if config == stored and not is_new else changed)(
        "source", f"{found.medium.place}, {what}"
    )


def _network(config: InstanceConfig) -> object:
    return config.nics, config.network_disabled


def _store(ctx: Context, config: InstanceConfig, parsed: Parsed, *, named: bool) -> None:
    """Store the document, its programs and the digest of the delivery.

    The digest is removed before the document is replaced and written after it, so it never stands for
    something that is not stored. None is kept of a delivery with a plain password, or with problems to be
    reported each time; nor of one that does not name its machine (``named`` is false), since the next one
    like it may be another machine's.
    """
    delivered = f"{ctx.state.folder()}/delivered"
    # A damaged one reads as None, and is replaced.
    if _stored(ctx)[0] != config:
        ctx.host.remove(delivered)
        settled.forget_archive(ctx.host)
    ctx.state.store_config(config, parsed.files)
    if parsed.raw is not None:
        ctx.host.mkdir("/gandi", mode=0o700)
        ctx.host.write(DOCUMENT, parsed.raw, mode=0o600, sync=True)
    has_errors = any(problem.is_error for problem in parsed.problems)
    if parsed.is_complete and not has_errors and named and not parsed.secrets:
        ctx.host.write(delivered, parsed.digest, mode=0o600)
    else:
        # Without it the next delivery is read again, and its problems are reported again.
        ctx.host.remove(delivered)


def complete_identity(ctx: Context, given: Identity) -> Identity:
    """Return the identity with an id: the medium's, else the machine's UUID, else its machine-id.

    One that is the stored identity in another spelling is returned as it is stored.
    """
    now = ctx.state.identity()
    ours = now if now is not None and now.source == given.source else None
    if given.id:
        return ours if ours and machine_uuid.is_same_uuid(ours.id, given.id) else given
    uuid = machine_uuid.read_uuid(ctx.host)
    # A machine without a UUID gives no other id: it stays the same instance.
    if ours and (not uuid or machine_uuid.is_same_uuid(ours.id, uuid) or _was_without_uuid(ctx, ours, uuid)):
        return ours
    return Identity(given.source, uuid or machine_uuid.fallback_id(ctx.host) or "unnamed")


def _was_without_uuid(ctx: Context, ours: Identity, uuid: str) -> bool:
    """Return whether the machine-id identifies the instance, and no other UUID is known of it: it has one
    only since a change of its kernel, its hypervisor or the agent.
    """
    known = ctx.state.dmi_uuid()
    return machine_uuid.is_machine_id(ours.id) and (not known or machine_uuid.is_same_uuid(known, uuid))


def _compare_uuid(ctx: Context) -> Iterator[Item]:
    """Say what an instance's machine cannot be recognised by, and record a UUID that is its first."""
    identity, now, then = ctx.state.identity(), machine_uuid.read_uuid(ctx.host), ctx.state.dmi_uuid()
    if identity is None or ctx.host.offline:
        return
    if then and not now:
        what = f"no UUID, and at its first boot {then}: taken for the same instance"
        yield Item("instance", Outcome.KEPT, what, "if it is a copy, run: gandi-agent clean, then reboot")
    elif now and not then and machine_uuid.is_machine_id(identity.id):
        ctx.state.record_uuid(now)
        yield changed("instance", f"its first UUID, {now}, is recorded")


def last_digest(ctx: Context) -> str:
    """Return the digest of the last delivery if that was for this machine, else "".

    A drive with a digest names its machine, and the digest of what is passed without a medium has the
    machine's UUID. An archive has neither, so the UUID decides.
    """
    now = ctx.state.identity()
    if now is None or (
        now.source == sources.ARCHIVE and complete_identity(ctx, Identity(now.source, "")) != now
    ):
        return ""
    return ctx.host.read(f"{ctx.state.folder()}/delivered") or ""


def _is_adopted(ctx: Context) -> bool:
    """Return whether the machine was adopted and has not had a document since."""
    now = ctx.state.identity()
    return now is not None and now.source == adopted.SOURCE


def _has_another_uuid(ctx: Context) -> bool:
    """Return whether the machine's UUID differs from the one at the instance's first boot."""
    now, then = machine_uuid.read_uuid(ctx.host), ctx.state.dmi_uuid()
    return bool(now and then and not machine_uuid.is_same_uuid(now, then))


def _stored(ctx: Context) -> tuple[InstanceConfig | None, Item | None]:
    try:
        return ctx.state.config(), None
    except HostError as error:
        return None, failed("stored configuration", error.message, error.hint)


def _restore_identity(ctx: Context) -> Iterator[Item]:
    """Repair a damaged instance.json from the configuration that was stored last.

    Without this the machine would be set up as a new instance. Raise Damaged if nothing is stored,
    HostError if the stored configuration cannot be read.
    """
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
        ctx.state.set_instance(name)
        yield changed("instance", f"{error.message}; restored from the stored configuration")


def _problem_items(problems: tuple[Problem, ...]) -> Iterator[Item]:
    for problem in problems:
        if problem.is_error:
            yield failed(problem.path, problem.message, problem.hint)
        else:
            yield Item(problem.path, Outcome.SKIPPED, problem.message, problem.hint)
