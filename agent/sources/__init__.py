"""Where a configuration can come from: the sources in their order, and how long to wait for one.

A source finds a medium and hands its bytes to the reader; it changes nothing. Adding one: a module here
with a ``look``, and its line in ``SOURCES``.
"""

from __future__ import annotations

import importlib
import time

from agent.errors import ConfigError
from agent.plain import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.context import Context, Medium
    from agent.host import Host
    from agent.parser import Parsed

    Look = Callable[[Host, str], "Found | None"]

#: Name in CONFIG_DATASOURCE -> module. The order is that of precedence for "auto".
SOURCES = {"gandi": "swap"}
AUTO, NONE = "auto", "none"


@dataclass(frozen=True, slots=True)
class Found:
    """A medium, and what the reader made of it. ``parsed`` is None for one that was used up and needs only
    the rest of its bytes overwritten. ``others``: devices that carry one as well and are not looked at.
    """

    medium: Medium
    parsed: Parsed | None
    others: tuple[str, ...] = ()


def chosen(names: tuple[str, ...]) -> tuple[str, ...]:
    """The sources that CONFIG_DATASOURCE asks for, in its order. Raises ConfigError for an unknown name."""
    if NONE in names:
        return ()
    for name in names:
        if name not in (AUTO, *SOURCES):
            known = ", ".join((AUTO, NONE, *SOURCES))
            raise ConfigError(f"CONFIG_DATASOURCE: {name!r} is no source", hint=f"write one of: {known}")
    expanded = [one for name in names for one in (SOURCES if name == AUTO else (name,))]
    return tuple(dict.fromkeys(expanded))


def find(ctx: Context, known: str, *, patient: bool) -> Found | None:
    """The first medium that is there. ``known`` is the digest of the last delivery.

    ``patient``: the machine has no configuration yet, so a medium may still be on its way; then it is waited
    for until CONFIG_SOURCE_TIMEOUT, or until every disk of the machine is there. Raises ConfigError for a
    setting, HostError when the reader failed.
    """
    names = chosen(ctx.settings.datasource)
    looks: list[Look] = [importlib.import_module(f"agent.sources.{SOURCES[name]}").look for name in names]
    found = _first(ctx, looks, known)
    if found is None and looks and patient:
        from agent.sources.arrivals import Arrivals

        deadline = time.monotonic() + ctx.settings.source_timeout
        with Arrivals(ctx.host) as arrivals:
            ctx.waiting("a configuration medium")
            while found is None:
                more = arrivals.wait(deadline)
                found = _first(ctx, looks, known)
                if not more:
                    break
            ctx.waiting("")
    return found


def _first(ctx: Context, looks: list[Look], known: str) -> Found | None:
    return next((found for look in looks if (found := look(ctx.host, known))), None)
