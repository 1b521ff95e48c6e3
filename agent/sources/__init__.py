"""The sources of a configuration, their order, and how long to wait for one.

A source finds a medium and passes its bytes to the reader; it changes nothing. To add one: a module here
with a function ``search``, and a line in ``SOURCES``. Another platform's drive is a row in reader/dialects.
"""

from __future__ import annotations

import os
import sys
import time

from agent.block import storage, unresponsive
from agent.block.transport import why_not_platform_disk
from agent.host.chroot_path import unfollowed
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
#: Passed without a medium (passed.py); as sources they are drives.
PASSED = ("credential", "fw_cfg")
#: The medium's source for lines of NoCloud without a drive.
LINE = "line"
#: A document of these is this machine's also without an id: the delivery or its digest is tied to the UUID.
OF_THIS_MACHINE = (ARCHIVE, *PASSED, LINE)
SOURCES = {ARCHIVE: "agent.sources.swap_archive"} | dict.fromkeys(
    (*PASSED, *DRIVES), "agent.sources.config_drives"
)
AUTO, NONE = "auto", "none"
#: With this file only signed documents are applied (signed.py).
TRUSTED_KEYS = "/etc/gandi/trusted-keys"
#: What "auto" stands for: the swap archive first, then what is passed and all kinds of drives, with equal
#: precedence.
_AUTO = ((ARCHIVE,), (*PASSED, *DRIVES))


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """What a module has to look for: ``sources``, those of its sources that are wanted; ``known_digest``,
    the digest of the last delivery; ``label``, the setting CONFIG_CONFIGDRIVE_LABEL.
    """

    host: Host
    sources: tuple[str, ...]
    known_digest: str = ""
    label: str = "config"


@dataclass(frozen=True, slots=True)
class FoundMedium:
    """A medium and what the reader made of it. ``parsed`` is None for an archive that was applied and is
    only to be overwritten further.
    """

    medium: Medium
    parsed: Parsed | None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The result of a look: the medium to use, None without one, and notes on others."""

    found: FoundMedium | None = None
    notes: tuple[Item, ...] = ()


def why_disabled(ctx: Context) -> str:
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


def needs_signature(host: Host) -> bool:
    """Return whether only signed documents are applied: TRUSTED_KEYS is there, in whatever state."""
    try:
        os.lstat(unfollowed(host, TRUSTED_KEYS))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # there may be one
    return True


def search_groups(names: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """Return the sources of CONFIG_DATASOURCE in groups; a group is searched only if those before it have
    found nothing. Raise ConfigError for an unknown name.
    """
    if NONE in names:
        return ()
    groups, seen = list[tuple[str, ...]](), set[str]()
    for name in names:
        if name not in (AUTO, *SOURCES):
            known = ", ".join((AUTO, NONE, *SOURCES))
            raise ConfigError(f"CONFIG_DATASOURCE: {name!r} is not a source", hint=f"write one of: {known}")
        for group in _AUTO if name == AUTO else ((name,),):
            groups += [left] if (left := tuple(one for one in group if one not in seen)) else []
            seen.update(group)
    return tuple(groups)


def find(
    ctx: Context, known_digest: str, *, wait_for_medium: bool, wait_for_drivers: bool = False
) -> SearchResult:
    """Return the medium to use. ``known_digest`` is the digest of the last delivery.

    ``wait_for_medium``: the machine has no configuration of its own, so wait for a medium until all disks
    have appeared, at most CONFIG_SOURCE_TIMEOUT seconds. A drive does not end the wait: another medium may
    take precedence, or contradict it. ``wait_for_drivers``: wait only for disks that are seen already and
    have no driver yet. Raise ConfigError for a wrong setting or contradicting media, HostError if the
    reader failed.
    """
    groups, seen = search_groups(ctx.settings.datasource), storage.names(ctx.host)
    findings = _search(ctx, groups, known_digest)
    wait_for_drivers = wait_for_drivers and not wait_for_medium and findings.found is None
    if not groups or not (wait_for_medium or wait_for_drivers) or _is_final(findings):
        return findings
    from agent.sources.arrivals import Arrivals

    deadline = time.monotonic() + ctx.settings.source_timeout
    awaited = "all disks to appear" if findings.found else "a configuration medium"
    with Arrivals(ctx.host) as arrivals, ctx.waiting(awaited):
        more = True
        while more and not _is_final(findings):
            more = arrivals.wait(deadline, drivers_only=wait_for_drivers)
            there = storage.names(ctx.host)
            if (findings.found is None and not wait_for_drivers) or (
                there != seen and (wait_for_drivers or not more)
            ):
                findings, seen = _search(ctx, groups, known_digest), there
    return findings


def _is_final(findings: SearchResult) -> bool:
    """Return whether no medium that appears later could take precedence, or contradict it."""
    return findings.found is not None and findings.found.medium.source == ARCHIVE


def find_drive(ctx: Context, known_digest: str) -> SearchResult:
    """Return the drive to use on a running machine; a swap archive is read at boot only."""
    drives = (
        tuple(one for one in group if one != ARCHIVE) for group in search_groups(ctx.settings.datasource)
    )
    return _search(ctx, tuple(group for group in drives if group), known_digest)


def _search(ctx: Context, groups: tuple[tuple[str, ...], ...], known_digest: str) -> SearchResult:
    notes: dict[Item, None] = dict.fromkeys(_unresponsive_disks(ctx, known_digest))
    for group in groups:
        name = SOURCES[group[0]]
        __import__(name)  # importlib would be one library more before ssh
        request = SearchRequest(ctx.host, group, known_digest, ctx.settings.configdrive_label)
        result: SearchResult = sys.modules[name].search(request)
        notes |= dict.fromkeys(result.notes)
        if ctx.host.debug:
            medium = result.found.medium if result.found else None
            ctx.host.debug(f"source: searched {', '.join(group)}: {medium.place if medium else 'no medium'}")
        if result.found:
            return SearchResult(result.found, tuple(notes))
    return SearchResult(None, tuple(notes))


def _unresponsive_disks(ctx: Context, known_digest: str) -> Iterator[Item]:
    """Yield a note on each of the platform's disks that does not answer; such a disk is not opened here.

    It is a failure if the machine has no configuration yet, since that may be on the disk.
    """
    host = ctx.host
    platform = [
        name for name in storage.names(host) if not why_not_platform_disk(host, storage.devpath(host, name))
    ]
    for name in sorted(unresponsive.find_unresponsive(host, platform)):
        why = "does not answer: not searched for a configuration"
        if known_digest:
            yield skipped(devnode(name), why)
        else:
            yield failed(devnode(name), why, "see: journalctl -k; reboot when it answers")
