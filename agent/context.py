"""The context of a step or a handler: the machine, the settings, the state and the configuration; and
``attempt``, the one error boundary: an exception of a step or a handler becomes a failed item.
"""

from __future__ import annotations

import contextlib
import time

from agent.config.settings import Settings, SettingsFile
from agent.host import processes
from agent.host.sysfs import devnode
from agent.lib.errors import AgentError, HostError
from agent.lib.records import dataclass, field
from agent.report import StatusFile, StepReport, ended_by, failed
from agent.state.store import State
from agent.systemd.journal import Journal, status_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from agent.block.storage import Disk
    from agent.config.model import InstanceConfig
    from agent.host.host import Host
    from agent.reader.client import Piece
    from agent.report import Item


@dataclass(frozen=True, slots=True)
class Medium:
    """The medium that this boot's configuration was read from, for the steps that use it later.

    Names are the kernel's, ``devno`` is major:minor. ``swap_device`` becomes swap: the disk or
    its only partition; "" for a drive, which is never written to.
    """

    source: str
    disk: str
    devno: str
    swap_device: str = ""
    #: Where the archive is on the disk, in bytes.
    offset: int = 0
    length: int = 0
    #: Archives of kernel modules, with their offsets on the disk.
    modules: tuple[Piece, ...] = ()
    #: Not a disk but an operator's file, or what is passed without a medium: ``disk`` is shown as it is.
    is_named: bool = False
    #: Why it must not be made swap; "" for one that was read whole and is stored.
    not_swap_reason: str = ""
    #: The disk as libblkid saw it before it was read.
    probed: Disk | None = None

    @property
    def place(self) -> str:
        """Return where it is, for a report."""
        return self.disk if self.is_named else devnode(self.disk)


@dataclass(slots=True)
class Context:
    """For one run of a stage, or for as long as the daemon runs. ``config`` is None until the source step
    has found one.
    """

    host: Host
    settings_file: SettingsFile
    state: State
    status: StatusFile
    config: InstanceConfig | None = None
    #: Programs and files that could not be stored (disk full, read-only root), by name; in memory only.
    files: dict[str, bytes] = field(default_factory=dict)
    #: Plain passwords by account ("": the default account); in memory only, never stored.
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    #: The medium of this boot; None without one, or when it needs no more work.
    medium: Medium | None = None
    #: Progress callback: called with the reason for a wait, and with "" when the wait ends.
    on_wait: Callable[[str], None] = lambda _why: None

    @property
    def settings(self) -> Settings:
        """Return the settings in force now; costs one stat(2) when the file has not changed."""
        return self.settings_file.current()

    @contextlib.contextmanager
    def waiting(self, why: str) -> Iterator[None]:
        """Report that the work waits, and why, until the context ends."""
        self.on_wait(why)
        try:
            yield
        finally:
            self.on_wait("")


def context(host: Host) -> Context:
    """Return a context for the machine below the root of ``host``."""
    return Context(host, SettingsFile(host), State(host), StatusFile(host))


def report_progress(ctx: Context, worker: str, step: str, why: str) -> None:
    """Record for ``status`` and systemctl(1) which step a stage or a device (``worker``) is at, and why it
    waits ("": it does not). With step "" the record is removed.
    """
    if not step:
        record(ctx, lambda: ctx.status.merge("work", worker, None))
        return
    now = {"step": step, "waiting": why, "since": int(time.time())} | processes.this_process()
    record(ctx, lambda: ctx.status.merge("work", worker, now))
    status_line(f"{worker}: {step}" + (f": waiting for {why}" if why else ""))


def record(ctx: Context, write: Callable[[], object]) -> None:
    """Call ``write``; log a HostError (/run is full) and go on, since a record must not stop the boot."""
    try:
        write()
    except HostError as error:
        Journal(ctx.host).unrecorded(error)


def attempt(ctx: Context, name: str, work: Callable[[], Iterable[Item]]) -> StepReport:
    """Return a report of the items that ``work`` yields, and of the exception that ended it, if any."""
    items: list[Item] = []
    begun = time.monotonic()
    try:
        for item in work():
            items.append(item)  # one by one, to keep those before an error
    except AgentError as error:
        items.append(ended_by(name, error))
    except Exception as error:
        # A defect in one step, or in one disk's handler, must not stop the others or the boot.
        items.append(defect(ctx, name, error))
    return StepReport(name, tuple(items), time.monotonic() - begun)


def defect(ctx: Context, name: str, error: Exception) -> Item:
    """Log an exception that is a defect of the agent, with its trace; return the failure."""
    Journal(ctx.host).defect(name, error)
    return failed(name, f"unexpected {type(error).__name__}", "see: journalctl -b -t gandi-agent")
