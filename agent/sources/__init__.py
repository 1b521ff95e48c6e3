"""The sources of a configuration, their order, and how long to wait for one.

A source finds a medium and passes its bytes to the reader; it changes nothing. To add one: a module here
with a function ``look``, and a line in ``SOURCES``. Another platform's drive is a row in reader/dialects.
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
#: What "auto" stands for: the swap archive first, then all kinds of drives, with equal precedence.
_AUTO = ((ARCHIVE,), DRIVES)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a module has to look for: ``sources``, those of its sources that are wanted; ``known``, the
    digest of the last delivery; ``label``, the setting CONFIG_CONFIGDRIVE_LABEL.
    """

    host: Host
    sources: tuple[str, ...]
    known: str = ""
    label: str = "config"


@dataclass(frozen=True, slots=True)
class Found:
    """A medium and what the reader made of it. ``parsed`` is None for an archive that was applied and is
    only to be overwritten further.
    """

    medium: Medium
    parsed: Parsed | None


@dataclass(frozen=True, slots=True)
class Findings:
    """The result of a look: the medium to use, None without one, and notes on others."""

    found: Found | None = None
    notes: tuple[Item, ...] = ()


def off(ctx: Context) -> str:
    """Return why the agent does not configure this machine, "" if it does.

    Either CONFIG_DATASOURCE is none, or it is auto and another tool configures the machine.
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
    """Return the sources of CONFIG_DATASOURCE in groups; a group is searched only if those before it have
    found nothing. Raise ConfigError for an unknown name.
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
    """Return the medium to use. ``known`` is the digest of the last delivery.

    ``patient``: the machine has no configuration of its own, so wait for a medium until all disks have
    appeared, at most CONFIG_SOURCE_TIMEOUT seconds. A drive does not end the wait: another medium may take
    precedence, or contradict it. ``drivers``: wait only for disks that are seen already and have no driver
    yet. Raise ConfigError for a wrong setting or contradicting media, HostError if the reader failed.
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
    """Return whether no medium that appears later could take precedence, or contradict it."""
    return findings.found is not None and findings.found.medium.source == ARCHIVE


def find_drive(ctx: Context, known: str) -> Findings:
    """Return the drive to use on a running machine; a swap archive is read at boot only."""
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
            ctx.host.debug(f"source: searched {', '.join(turn)}: {medium.disk if medium else 'no medium'}")
        if looked.found:
            return Findings(looked.found, tuple(notes))
    return Findings(None, tuple(notes))


def _silent(ctx: Context, known: str) -> Iterator[Item]:
    """Yield a note on each of the platform's disks that does not answer; such a disk is not opened here.

    It is a failure if the machine has no configuration yet, since that may be on the disk.
    """
    host = ctx.host
    platform = [name for name in storage.names(host) if not undelivered(host, storage.devpath(host, name))]
    for name in sorted(unresponsive.find(host, platform)):
        why = "does not answer: not searched for a configuration"
        if known:
            yield skipped(devnode(name), why)
        else:
            yield failed(devnode(name), why, "see: journalctl -k; reboot when it answers")
