"""Network renderers: each writes the configuration files of one network manager. ``renderer`` returns the
one for the manager in charge of this system.

A renderer is a module with the members of ``Renderer``. ``render`` is pure; only ``configures``, ``prepare``
and ``reload`` touch the system. A new one takes a module, its row in ``managers.MANAGERS`` and a case in
``load``.
"""

from __future__ import annotations

from agent.lib.errors import ConfigError
from agent.network.managers import MANAGERS, active_manager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    from agent.host.host import Host
    from agent.network.interfaces import ConfigFile, Link
else:
    Protocol = object


class Renderer(Protocol):
    """The members of a renderer's module."""

    #: The manager's name in CONFIG_RENDERER.
    NAME: str
    #: Whether its files match a NIC by the name that udev gives it, not by its MAC.
    BY_NAME: bool

    def configures(self, host: Host, names: frozenset[str], mac: str) -> str:
        """Return the file that makes the manager configure the NIC with these names and this MAC, "" if none
        does. The agent's own file for a NIC outside the document (key prefix ``interfaces.FALLBACK``) does
        not count.
        """

    def paths(self, key: str) -> tuple[str, ...]:
        """Return every file that the agent may write for the NIC with that key."""

    def render(self, link: Link) -> tuple[ConfigFile, ...]:
        """Return those of these files that the NIC needs."""

    def unsupported(self, link: Link) -> dict[str, str]:
        """Return which of the NIC's values the manager cannot express, by their paths (``limits.rare``, or
        the field of an ordinary one), and why; ``render`` leaves them out.
        """

    def possible(self, host: Host, link: Link) -> tuple[Link, dict[str, str]]:
        """Return the link without the values for which this system lacks a program or has another one, and
        why, by their paths.
        """

    def prepare(self, host: Host, link: Link) -> None:
        """Give the agent's files precedence over others; called before they are written."""

    def reload(self, host: Host, links: Iterable[Link]) -> None:
        """Make the manager, if it runs already, apply the changed files; do not wait for its start."""


def load(name: str) -> Renderer:
    """Import and return the renderer of a manager: a boot pays only for the one that it uses."""
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
    """Return the renderer that CONFIG_RENDERER names, or with ``auto`` that of the manager in charge.

    Raise ConfigError if there is none.
    """
    name = active_manager(host, setting)
    if name:
        return load(name)
    supported = ", ".join(manager.name for manager in MANAGERS)
    if setting == "auto":
        # The hint does not offer CONFIG_RENDERER: files for a manager that does not run look like a success.
        raise ConfigError(
            "no supported network manager is enabled",
            hint=f"install and enable one of {supported}; CONFIG_NETWORK=0 leaves the network to others",
        )
    raise ConfigError(
        f"CONFIG_RENDERER={setting}: not a supported network manager",
        hint=f"set it to auto, or to one of {supported}",
    )
