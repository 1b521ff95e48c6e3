"""What a step or a handler is given: the machine, the settings, what is remembered, and what the
platform said.
"""

from __future__ import annotations

import time

from agent.config.settings import Settings, SettingsFile
from agent.host import processes
from agent.lib.errors import HostError
from agent.lib.records import dataclass, field
from agent.report import StatusFile
from agent.state.store import State
from agent.systemd.journal import Journal, status_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.config.model import InstanceConfig
    from agent.host.host import Host
    from agent.reader.client import Piece


def _silent(_what: str) -> None:
    """Where nobody listens to what is being waited for."""


@dataclass(frozen=True, slots=True)
class Medium:
    """Where this boot's configuration was read from; what later steps do to that device.

    Names are the kernel's. ``swap`` is the device that becomes swap: the disk itself or its one partition;
    "" for a drive, of which no byte is ever changed.
    """

    source: str
    disk: str
    number: str
    swap: str = ""
    #: The bytes of the disk that hold the archive.
    offset: int = 0
    length: int = 0
    #: Archives of kernel modules by their place on the disk.
    modules: tuple[Piece, ...] = ()
    #: Not found but named by an operator, who sees ``disk`` as it was spelled.
    named: bool = False
    #: Why it is left as it is; "" for one that was read whole and is stored.
    left: str = ""


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
    #: Plain passwords by account ("" is the default one): they live as long as the process, never stored.
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    #: The medium of this boot; None when there is none, or it is not to be touched again.
    medium: Medium | None = None
    #: Told, in a few words, what is being waited for; "" when the wait is over.
    waiting: Callable[[str], None] = _silent

    @property
    def settings(self) -> Settings:
        """The settings in force now (one stat)."""
        return self.file.current()


def context(host: Host) -> Context:
    """A context for the machine below ``host``'s root."""
    return Context(host, SettingsFile(host), State(host), StatusFile(host))


def working(ctx: Context, who: str, step: str, why: str) -> None:
    """Say who (a stage, a device) is at which step and what that waits for: for ``status``, and for
    systemctl; at no step: nobody is any more.
    """
    if not step:
        record(ctx, lambda: ctx.status.merge("work", who, None))
        return
    now = {"step": step, "waiting": why, "since": int(time.time())} | processes.me()
    record(ctx, lambda: ctx.status.merge("work", who, now))
    status_line(f"{who}: {step}" + (f": waiting for {why}" if why else ""))


def record(ctx: Context, write: Callable[[], object]) -> None:
    """Write a record; one that cannot be written (/run is full) costs the record, not the boot."""
    try:
        write()
    except HostError as error:
        Journal(ctx.host).unrecorded(error)
