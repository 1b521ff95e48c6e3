"""Network renderers: each writes one network manager's configuration. This module says which manages this
system.

A renderer is a module with the functions of ``Renderer``. ``render`` is pure text; all that touches the
system is in ``manages``, ``configures``, ``prepare`` and ``reload``. A new one is a new file and its
place in ``RENDERERS``.
"""

from __future__ import annotations

from agent.errors import ConfigError
from agent.network import ifupdown, networkd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    from agent.host import Host
    from agent.network.links import Link
else:
    Protocol = object


class Renderer(Protocol):
    """What a network manager's module offers."""

    #: As CONFIG_RENDERER spells it.
    NAME: str
    #: Whether its files name a NIC by the name that udev gives it, and not by its MAC.
    BY_NAME: bool

    def manages(self, host: Host) -> bool:
        """Whether it is enabled here. From files alone: true of an image that does not run as well."""

    def configures(self, host: Host, names: frozenset[str], mac: str) -> str:
        """The file that makes it configure a NIC of one of these names; "" if there is none. Ours for a NIC
        of no document (its key begins with ``links.FALLBACK``) does not count.
        """

    def path(self, key: str) -> str:
        """Our file for the NIC of that key."""

    def render(self, link: Link) -> str:
        """That file's text."""

    def prepare(self, host: Host, link: Link) -> None:
        """Make our file the one that counts, before it is written."""

    def reload(self, host: Host, links: Iterable[Link]) -> None:
        """Apply what has changed, if the manager runs already; it never waits for the manager."""


#: In the order in which they are asked. networkd is enabled on purpose only; ifupdown is in many images
#: anyway.
RENDERERS: tuple[Renderer, ...] = (networkd, ifupdown)


def renderer(host: Host, setting: str) -> Renderer:
    """The renderer that CONFIG_RENDERER names, or with ``auto`` the one whose manager is enabled.

    Raises ConfigError when there is none.
    """
    wanted = [one for one in RENDERERS if setting == one.NAME or (setting == "auto" and one.manages(host))]
    if wanted:
        return wanted[0]
    known = ", ".join(one.NAME for one in RENDERERS)
    raise ConfigError(
        "no network manager that is known here is enabled"
        if setting == "auto"
        else f"CONFIG_RENDERER={setting}: not known here",
        hint=f"enable one of {known}, or set CONFIG_RENDERER to one of them, or CONFIG_NETWORK=0",
    )
