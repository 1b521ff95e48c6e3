"""Which configuration is in force: this boot's medium, or the stored one.

Resumable at each point: nothing on the medium is touched here, so until the swap step runs, the next boot
finds it again and does all of this once more. A new instance's configuration is stored under its name
first, and only then does the machine become that instance: a power cut leaves it whole, the old one or the
new one.
"""

from __future__ import annotations

from agent import identity, sources
from agent.errors import AgentError, HostError
from agent.model import Identity
from agent.plain import replace
from agent.report import Item, Outcome, changed, failed, skipped, unchanged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context
    from agent.model import InstanceConfig
    from agent.parse.problem import Problem
    from agent.parser import Parsed
    from agent.sources import Found

#: Where the customer's scripts read the document, spelled as it came.
DOCUMENT = "/gandi/config"


def apply(ctx: Context) -> Iterator[Item]:
    """Find, have read, store and adopt; leaves the configuration in ``ctx.config`` and what to do with the
    medium in ``ctx.medium``.
    """
    ctx.config, ctx.medium, ctx.files = None, None, {}
    if sources.NONE in ctx.settings.datasource:
        yield skipped("source", "CONFIG_DATASOURCE=none")
        return
    stored, broken = _stored(ctx)
    if broken:
        yield broken
    try:
        found = sources.find(ctx, _known(ctx) if stored else "", patient=stored is None)
    except AgentError as error:
        yield failed("source", error.message, error.hint)
        found = None
    if found is None or found.parsed is None:
        yield from _from_store(ctx, stored, found)
        return
    yield from _told(found.parsed.problems, found)
    if found.parsed.same:
        ctx.config, ctx.medium = stored, found.medium
        yield unchanged("source", f"{_place(found)}, delivered again")
    elif found.parsed.config is None:
        ctx.medium = replace(found.medium, left="its configuration cannot be read")
        yield from _from_store(ctx, stored, None)
    else:
        yield from _adopt(ctx, found, found.parsed, found.parsed.config, stored)
    if ctx.medium and not found.parsed.whole:
        ctx.medium = replace(ctx.medium, left=ctx.medium.left or "its archive is damaged")


def _from_store(ctx: Context, stored: InstanceConfig | None, found: Found | None) -> Iterator[Item]:
    """No medium, or none that can be used: the same instance as before."""
    ctx.config = stored
    if found is not None:
        ctx.medium = found.medium if stored else replace(found.medium, left="nothing is stored")
    if stored is None:
        what = "no medium" if ctx.medium is None else "nothing usable on the medium"
        yield skipped("source", f"{what}, nothing stored: no configuration")
        return
    yield unchanged("source", f"the stored configuration ({stored.identity.source})")
    now, then = identity.machine(ctx.host), ctx.state.dmi()
    if now and then and not identity.same(now, then):
        what = "the machine's UUID has changed and no medium names it: taken for the same instance"
        yield Item("instance", Outcome.KEPT, what, "before cloning a machine, run: gandi-agent clean")


def _adopt(
    ctx: Context, found: Found, parsed: Parsed, config: InstanceConfig, stored: InstanceConfig | None
) -> Iterator[Item]:
    """Store the new document, then take it over; what cannot be stored is applied from memory."""
    config = config.identified(_identity(ctx, config.identity))
    ctx.config, ctx.medium = config, found.medium
    try:
        ctx.state.assume(config.identity)
        _store(ctx, config, parsed)
        is_new = ctx.state.adopt(config.identity, dmi=identity.machine(ctx.host))
    except HostError as error:
        ctx.files = parsed.files
        ctx.medium = replace(found.medium, left="its configuration could not be stored")
        hint = "make room below /var/lib/gandi, or make / writable, and start the machine anew"
        yield failed("source", f"applied from memory, not stored: {error.message}", hint)
        return
    what = "a new instance" if is_new else "a changed document" if config != stored else "as stored"
    yield (unchanged if config == stored and not is_new else changed)("source", f"{_place(found)}, {what}")


def _store(ctx: Context, config: InstanceConfig, parsed: Parsed) -> None:
    """The digest goes before, and comes after, what it stands for: it never names something that is not
    stored.
    """
    delivered = f"{ctx.state.folder()}/delivered"
    if ctx.state.config() != config:
        ctx.host.remove(delivered)
    ctx.state.store_config(config, parsed.files)
    if parsed.raw is not None:
        ctx.host.mkdir("/gandi", mode=0o700)
        ctx.host.write(DOCUMENT, parsed.raw, mode=0o600, sync=True)
    if parsed.whole and not any(not problem.harmless for problem in parsed.problems):
        ctx.host.write(delivered, parsed.digest, mode=0o600)
    else:
        # Read anew at each delivery, so that what is wrong is told each time.
        ctx.host.remove(delivered)


def _identity(ctx: Context, given: Identity) -> Identity:
    """The medium's own id, else the machine's UUID, else its machine-id; in the spelling that is stored."""
    if given.id:
        return given
    uuid, known = identity.machine(ctx.host), ctx.state.identity()
    ours = known is not None and known.source == given.source
    # A machine that has lost its UUID names no other id: it is the same instance.
    if known is not None and ours and (not uuid or identity.same(known.id, uuid)):
        return known
    return Identity(given.source, uuid or identity.fallback(ctx.host) or "unnamed")


def _known(ctx: Context) -> str:
    """The digest of the last delivery, if it was for this machine."""
    known = ctx.state.identity()
    if known is None or _identity(ctx, Identity(known.source, "")) != known:
        return ""
    return ctx.host.read(f"{ctx.state.folder()}/delivered") or ""


def _stored(ctx: Context) -> tuple[InstanceConfig | None, Item | None]:
    try:
        return ctx.state.config(), None
    except HostError as error:
        return None, failed("stored configuration", error.message, error.hint)


def _told(problems: tuple[Problem, ...], found: Found) -> Iterator[Item]:
    for problem in problems:
        if problem.harmless:
            yield Item(problem.path, Outcome.SKIPPED, problem.message, problem.hint)
        else:
            yield failed(problem.path, problem.message, problem.hint)
    for other in found.others:
        yield skipped(other, f"carries an archive as well; {_place(found)} counts")


def _place(found: Found) -> str:
    return f"/dev/{found.medium.disk.replace('!', '/')}"
