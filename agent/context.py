"""What a step or a handler is given: the machine, the settings, what is remembered, and what the
platform said.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.report import StatusFile
from agent.settings import Settings, SettingsFile
from agent.state import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.host import Host
    from agent.model import InstanceConfig


def _silent(_what: str) -> None:
    """Where nobody listens to what is being waited for."""


@dataclass(slots=True)
class Context:
    """One run of a stage, or the daemon's whole life. ``config`` is None until the source step has found
    one.
    """

    host: Host
    file: SettingsFile
    state: State
    status: StatusFile
    config: InstanceConfig | None = None
    #: Programs that could not be stored (disk full, read-only root), by name: they live as long as the
    #: process.
    files: dict[str, bytes] = field(default_factory=dict)
    #: Told, in a few words, what is being waited for; "" when the wait is over.
    waiting: Callable[[str], None] = _silent

    @property
    def settings(self) -> Settings:
        """The settings in force now (one stat)."""
        return self.file.current()


def context(host: Host) -> Context:
    """A context for the machine below ``host``'s root."""
    return Context(host, SettingsFile(host), State(host), StatusFile(host))
