"""Network renderers: each writes one network manager's configuration. This module gives the one of the
manager that is in charge of this system.

A renderer is a module with the functions of ``Renderer``. ``render`` is pure text; all that touches the
system is in ``configures``, ``prepare`` and ``reload``. A new one is a new file, its place in
``managers.MANAGERS`` and a line in ``load``.
"""

from __future__ import annotations

from agent.lib.errors import ConfigError
from agent.network.managers import MANAGERS, in_charge

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    from agent.host.host import Host
    from agent.network.interfaces import ConfigFile, Link
else:
    Protocol = object


class Renderer(Protocol):
    """What a network manager's module offers."""

    #: As CONFIG_RENDERER spells it.
    NAME: str
    #: Whether its files name a NIC by the name that udev gives it, and not by its MAC.
    BY_NAME: bool

    def configures(self, host: Host, names: frozenset[str], mac: str) -> str:
        """The file that makes it configure a NIC of one of these names; "" if there is none. Ours for a NIC
        of no document (its key begins with ``links.FALLBACK``) does not count.
        """

    def paths(self, key: str) -> tuple[str, ...]:
        """Every file that we may have for the NIC of that key."""

    def render(self, link: Link) -> tuple[ConfigFile, ...]:
        """The files that the NIC needs, of those."""

    def prepare(self, host: Host, link: Link) -> None:
        """Make our files the ones that count, before they are written."""

    def reload(self, host: Host, links: Iterable[Link]) -> None:
        """Apply what has changed, if the manager runs already; it never waits for the manager."""


def load(name: str) -> Renderer:
    """The renderer of that manager, imported now: a boot pays for the one that it uses."""
    match name:
        case "networkd":
            from agent.network import networkd

            return networkd
        case "netplan":
            from agent.network import netplan

            return netplan
        case "networkmanager":
            from agent.network import networkmanager

            return networkmanager
        case "ifupdown":
            from agent.network import ifupdown

            return ifupdown
    raise ValueError(name)


def renderer(host: Host, setting: str) -> Renderer:
    """The renderer that CONFIG_RENDERER names, or with ``auto`` that of the manager in charge.

    Raises ConfigError when there is none.
    """
    name = in_charge(host, setting)
    if name:
        return load(name)
    known = ", ".join(one.name for one in MANAGERS)
    if setting == "auto":
        # Not CONFIG_RENDERER: files for a manager that does not run would look like a success.
        raise ConfigError(
            "no network manager that is known here is enabled",
            hint=f"install and enable one of {known}; CONFIG_NETWORK=0 leaves the network to another tool",
        )
    raise ConfigError(
        f"CONFIG_RENDERER={setting}: not known here", hint=f"set it to auto, or to one of {known}"
    )
