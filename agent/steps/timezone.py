"""Step: the document's timezone, as a link to its file (localtime(5)); Debian's /etc/timezone follows where
there is one.
"""

from __future__ import annotations

import os

from agent.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context
    from agent.host import Host
    from agent.report import Item

_LINK, _TEXT = "/etc/localtime", "/etc/timezone"
_ZONES = "/usr/share/zoneinfo/"


def apply(ctx: Context) -> Iterator[Item]:
    """Settle it as one item."""
    zone = ctx.config.timezone if ctx.config else None
    if not zone:
        return
    if ".." in zone.split("/") or not ctx.host.exists(_ZONES + zone):
        raise ConfigError(
            f"timezone {zone}: not known on this machine",
            hint="deliver a name of tzselect(8), such as Europe/Paris; or install tzdata",
        )
    yield ctx.state.settle(
        "timezone",
        delivered=zone,
        wanted=zone,
        live=_live(ctx.host),
        apply=lambda: _set(ctx.host, zone),
        detail=zone,
    )


def _live(host: Host) -> str | None:
    try:
        return os.readlink(os.path.join(host.path("/etc"), "localtime")).rpartition("/zoneinfo/")[2]
    except OSError:
        return None


def _set(host: Host, zone: str) -> None:
    host.symlink(_LINK, _ZONES + zone)
    if host.exists(_TEXT):
        host.write(_TEXT, f"{zone}\n")
