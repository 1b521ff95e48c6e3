"""Where a configuration can come from: the sources in their order, and how long to wait for one.

A source finds a medium and hands its bytes to the reader; it changes nothing. Adding one: a module here
with a ``look``, and its line in ``SOURCES``; one more platform's drive is a row of reader/dialects.
"""

from __future__ import annotations

import importlib
import time

from agent.block import storage, unresponsive
from agent.block.transport import undelivered
from agent.host.sysfs import devnode
from agent.lib.errors import ConfigError
from agent.lib.records import dataclass
from agent.reader.dialects import DRIVES
from agent.report import failed, skipped
from agent.sources import provisioners

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context, Medium
    from agent.host.host import Host
    from agent.reader.client import Parsed
    from agent.report import Item

#: Name in CONFIG_DATASOURCE -> module. The order is that of precedence for "auto".
ARCHIVE = "gandi"
SOURCES = {ARCHIVE: "agent.sources.swap_archive"} | dict.fromkeys(DRIVES, "agent.sources.config_drives")
AUTO, NONE = "auto", "none"
#: What "auto" stands for: the swap archive; then all drives at once, of which none comes before another.
_AUTO = ((ARCHIVE,), DRIVES)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a module is to look for: which of its sources. ``known`` is the digest of the last delivery,
    ``label`` the setting CONFIG_CONFIGDRIVE_LABEL.
    """

    host: Host
    sources: tuple[str, ...]
    known: str = ""
    label: str = "config"


@dataclass(frozen=True, slots=True)
class Found:
    """A medium, and what the reader made of it. ``parsed`` is None for one that was used up and needs only
    the rest of its bytes overwritten.
    """

    medium: Medium
    parsed: Parsed | None


@dataclass(frozen=True, slots=True)
class Findings:
    """What a look has found: the medium that counts, if there is one, and what is to be said of others."""

    found: Found | None = None
    notes: tuple[Item, ...] = ()


def off(ctx: Context) -> str:
    """Why this machine is not set up by us at all, "" where it is: by the administrator's setting, or since
    another tool does it and the administrator has not said which of the two.
    """
    if NONE in ctx.settings.datasource:
        return "CONFIG_DATASOURCE=none"
    other = provisioners.active(ctx.host) if ctx.settings.datasource == (AUTO,) else ""
    return (
        f"network, users and user data are left to {other} (set CONFIG_DATASOURCE to use the agent for them)"
        if other
        else ""
    )


def turns(names: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """What CONFIG_DATASOURCE asks for, one turn after the other; a turn is asked only where those before it
    have found nothing. Raises ConfigError for an unknown name.
    """
    if NONE in names:
        return ()
    asked, seen = list[tuple[str, ...]](), set[str]()
    for name in names:
        if name not in (AUTO, *SOURCES):
            known = ", ".join((AUTO, NONE, *SOURCES))
            raise ConfigError(f"CONFIG_DATASOURCE: {name!r} is not a source", hint=f"write one of: {known}")
        for turn in _AUTO if name == AUTO else ((name,),):
            asked += [left] if (left := tuple(one for one in turn if one not in seen)) else []
            seen.update(turn)
    return tuple(asked)


def find(ctx: Context, known: str, *, patient: bool, drivers: bool = False) -> Findings:
    """The first medium that is there. ``known`` is the digest of the last delivery.

    ``patient``: the machine has no configuration of its own, so a medium may still be on its way; then it is
    waited for until CONFIG_SOURCE_TIMEOUT, or until every disk of the machine is there. So is another one
    where a drive was found: it may come before that one, or contradict it. Raises ConfigError for a setting
    or media that contradict each other, HostError when the reader failed.
    """
    asked, seen = turns(ctx.settings.datasource), storage.names(ctx.host)
    findings = _first(ctx, asked, known)
    drivers = drivers and not patient and findings.found is None
    if not asked or not (patient or drivers) or _comes_first(findings):
        return findings
    from agent.sources.arrivals import Arrivals

    deadline = time.monotonic() + ctx.settings.source_timeout
    with Arrivals(ctx.host) as arrivals:
        ctx.waiting("all disks to appear" if findings.found else "a configuration medium")
        more = True
        while more and not _comes_first(findings):
            more = arrivals.wait(deadline, drivers_only=drivers)
            there = storage.names(ctx.host)
            if (findings.found is None and not drivers) or (there != seen and (drivers or not more)):
                findings, seen = _first(ctx, asked, known), there
        ctx.waiting("")
    return findings


def _comes_first(findings: Findings) -> bool:
    """Whether nothing that may still come would count before it, or against it."""
    return findings.found is not None and findings.found.medium.source == ARCHIVE


def find_drive(ctx: Context, known: str) -> Findings:
    """The drive that counts now, while the machine runs: a swap archive is read at boot only."""
    drives = (tuple(one for one in turn if one != ARCHIVE) for turn in turns(ctx.settings.datasource))
    return _first(ctx, tuple(turn for turn in drives if turn), known)


def _first(ctx: Context, asked: tuple[tuple[str, ...], ...], known: str) -> Findings:
    notes: dict[Item, None] = dict.fromkeys(_silent(ctx, known))
    for turn in asked:
        module = importlib.import_module(SOURCES[turn[0]])
        looked: Findings = module.look(Asked(ctx.host, turn, known, ctx.settings.configdrive_label))
        notes |= dict.fromkeys(looked.notes)
        if ctx.host.debug:
            medium = looked.found.medium if looked.found else None
            ctx.host.debug(f"source: asked for {', '.join(turn)}: {medium.disk if medium else 'no medium'}")
        if looked.found:
            return Findings(looked.found, tuple(notes))
    return Findings(None, tuple(notes))


def _silent(ctx: Context, known: str) -> Iterator[Item]:
    """Find out which of the platform's disks do not answer: none of them is opened here. A failure where the
    machine has no configuration yet, which may be on one of them.
    """
    host = ctx.host
    platform = [name for name in storage.names(host) if not undelivered(host, storage.devpath(host, name))]
    for name in sorted(unresponsive.find(host, platform)):
        why = "does not answer: not searched for a configuration"
        if known:
            yield skipped(devnode(name), why)
        else:
            yield failed(devnode(name), why, "see: journalctl -k; reboot when it answers")
