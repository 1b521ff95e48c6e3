"""Step: set the timezone: the link /etc/localtime (localtime(5)), and Debian's /etc/timezone if it exists.

It is the document's; else that of ``gandi=`` on the kernel command line; else, on a machine configured by
Gandi's archive, Europe/Paris, unless the image has another one. Otherwise nothing is changed.
"""

from __future__ import annotations

import re

from agent.host.chroot_path import link_target
from agent.lib.errors import ConfigError
from agent.lib.records import dataclass
from agent.report import kept, skipped
from agent.sources import ARCHIVE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context
    from agent.host.host import Host
    from agent.report import Item

_LINK, _TEXT = "/etc/localtime", "/etc/timezone"
_ZONES = "/usr/share/zoneinfo/"
#: Gandi's hosts abbreviate it ("cet"); more words follow after a dash.
_KERNEL = r"(?<![^ \t\r\n])gandi=([^ \t\r\n-]*)"
_PARIS, _UTC = "Europe/Paris", "Etc/UTC"
#: The timezone of an image in which none was set.
_UNSET = (None, "Etc/UTC", "UTC", "Etc/UCT", "Universal", "Etc/Universal", "Zulu")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A timezone and where it comes from. ``weak``: one that is set in the image is kept."""

    zone: str
    by: str
    weak: bool = False


def apply(ctx: Context) -> Iterator[Item]:
    """Reconcile the timezone as one item. Raise ConfigError if the document's is not known here."""
    wanted = _wanted(ctx)
    if wanted is None:
        return
    zone, host, live = wanted.zone, ctx.host, _live(ctx.host)
    if ".." in zone.split("/") or not host.exists(_ZONES + zone):
        if wanted.by == "document":
            raise ConfigError(
                f"timezone {zone}: not known on this machine",
                hint="deliver a name of tzselect(8), such as Europe/Paris; or install tzdata",
            )
        yield skipped("timezone", f"{zone}: not in {_ZONES}: install tzdata")
        return
    state = ctx.state if ctx.config else ctx.state.system()
    if wanted.weak and live not in (*_UNSET, zone) and not state.recorded_items("timezone"):
        yield kept("timezone", f"{live}, set in the image")
        return
    yield state.reconcile("timezone", wanted=zone, live=live, apply=lambda: _set(host, zone), detail=zone)


def _wanted(ctx: Context) -> Wanted | None:
    if ctx.config and ctx.config.timezone:
        return Wanted(ctx.config.timezone, "document")
    if not ctx.host.offline:  # else the kernel command line is another machine's
        named = re.search(_KERNEL, ctx.host.read("/proc/cmdline") or "")
        if named:
            return Wanted(_PARIS if named[1].lower() == "cet" else _UTC, "kernel command line")
    if ctx.config and ctx.config.identity.source == ARCHIVE:
        return Wanted(_PARIS, "archive", weak=True)
    return None


def _live(host: Host) -> str | None:
    target = link_target(host, _LINK)
    return target and target.rpartition("/zoneinfo/")[2]


def _set(host: Host, zone: str) -> None:
    # The link last: after a power cut the next boot compares the link.
    if host.exists(_TEXT):
        host.write(_TEXT, f"{zone}\n")
    host.symlink(_LINK, _ZONES + zone)
