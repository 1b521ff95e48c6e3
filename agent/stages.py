"""The whole boot on one page: four stages, each with its steps in order, and the functions that run them.

The daemon, or the stage client when the daemon cannot, calls ``run``, under a lock: only one stage runs at a
time. A step's module is imported when the step runs, so a boot pays only for what it uses; a test resolves
each name.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from enum import StrEnum
from functools import partial

from agent.config.settings import variable
from agent.context import attempt, record, report_progress
from agent.host import processes
from agent.lib.errors import AgentError, Busy, HostError
from agent.lib.records import asdict, dataclass
from agent.lib.text import WHITE
from agent.report import Outcome, StageReport, StepReport, skipped
from agent.state import settled
from agent.systemd.journal import Journal, status_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from agent.context import Context
    from agent.host.host import Host
    from agent.report import Item

    OnReport = Callable[[StepReport], None]
    OnProgress = Callable[[str, str, str], None]


class Stage(StrEnum):
    """A stage of the boot, in order; the units of the same names wait for its end."""

    BOOTSTRAP = "bootstrap"
    MOUNT = "mount"
    CONFIG = "config"
    POSTBOOT = "postboot"


#: The fields of the configuration that few documents have.
_RARE = ("system", "deferred")


@dataclass(frozen=True, slots=True)
class Step:
    """One step. ``entry_point`` is ``module:function``; the function takes a Context and yields Items."""

    name: str
    entry_point: str
    #: Fields of Settings that must all be true, else the step is skipped.
    settings: tuple[str, ...] = ()
    #: Skipped without a configuration.
    needs_config: bool = False
    #: Field of the configuration that it works from (``system.ntp``: of a part of it); where that is empty,
    #: the step is not imported.
    config_field: str = ""
    #: The beginning of the names of items that it withdraws: with one that is recorded the step also runs
    #: without that field.
    withdraws: str = ""
    #: Sets the system up as the platform's images are; skipped with CONFIG_DATASOURCE=none (hot-plug only).
    setup: bool = False
    #: Runs also for an image that is not booted (``apply --root``).
    offline: bool = False

    @property
    def rare(self) -> bool:
        """Whether few documents have its part: without it, the step is in no report."""
        return self.config_field.partition(".")[0] in _RARE

    def function(self) -> Callable[[Context], Iterable[Item]]:
        """Import the step's module and return its function."""
        module, _, name = self.entry_point.partition(":")
        __import__(module)  # importlib would be one library more before ssh
        found: Callable[[Context], Iterable[Item]] = getattr(sys.modules[module], name)
        return found


STAGES: dict[Stage, tuple[Step, ...]] = {
    Stage.BOOTSTRAP: (
        Step("source", "agent.steps.source:apply"),
        Step("machine-id", "agent.steps.machineid:apply", needs_config=True),
        Step("host keys", "agent.steps.hostkeys:apply", needs_config=True),
        Step("modules", "agent.steps.modules:apply", needs_config=True),
        Step("swap", "agent.steps.swap:apply"),
        Step(
            "hostname",
            "agent.steps.hostname:apply",
            settings=("network", "hostname"),
            needs_config=True,
            offline=True,
        ),
        Step("network", "agent.steps.network:apply", settings=("network",), offline=True),
        Step(
            "resolver",
            "agent.steps.resolver:apply",
            settings=("network", "nameserver"),
            needs_config=True,
            offline=True,
        ),
        Step("users", "agent.steps.users:apply", needs_config=True, offline=True),
        Step("files", "agent.steps.files:apply", config_field="files", offline=True),
        Step("metadata", "agent.steps.metadata:apply", config_field="metadata"),
        Step("boot programs", "agent.steps.boot:apply", config_field="boot"),
        Step(
            "partition tables",
            "agent.steps.filesystems:apply_tables",
            config_field="system.tables",
            offline=True,
        ),
        Step(
            "filesystems", "agent.steps.filesystems:apply", config_field="system.filesystems", offline=True
        ),
        Step("mounts", "agent.steps.mounts:apply", config_field="system.mounts", offline=True),
        Step("ssh", "agent.steps.ssh:apply", settings=("sshd",), needs_config=True),
        Step("bootstrap.d", "agent.steps.plugins:bootstrap"),
    ),
    Stage.MOUNT: (Step("disks", "agent.disks.needed:mount"),),
    Stage.CONFIG: (
        Step("resources", "agent.hotplug.coldplug:apply"),
        Step("sysctl", "agent.steps.sysctl:apply", settings=("sysctl",), setup=True),
        Step(
            "serial consoles",
            "agent.steps.serial_consoles:apply",
            settings=("console",),
            config_field="system.consoles",
            withdraws="console:",
            offline=True,
        ),
        Step("console", "agent.steps.console:apply", settings=("console",), setup=True),
        Step("system files", "agent.steps.system_files:apply", settings=("system_files",), setup=True),
        Step("cron", "agent.steps.cron:apply", settings=("cron",), setup=True),
        Step("timezone", "agent.steps.timezone:apply", settings=("timezone",), setup=True, offline=True),
        Step("locale", "agent.steps.locale:apply", config_field="system.locale", offline=True),
        Step("keyboard", "agent.steps.keyboard:apply", config_field="system.keyboard", offline=True),
        Step("ntp", "agent.steps.ntp:apply", config_field="system.ntp", offline=True),
        Step("ca certificates", "agent.steps.ca_certs:apply", config_field="system.ca_certs", offline=True),
        Step("swap file", "agent.steps.swap_file:apply", config_field="system.swap", offline=True),
        Step("apt", "agent.steps.apt:apply", config_field="system.apt", withdraws="apt:", offline=True),
        Step("motd", "agent.steps.motd:apply", settings=("motd",), setup=True),
        Step("plugins", "agent.steps.plugins:plugins"),
        Step("post-vm-config", "agent.steps.plugins:hook"),
    ),
    Stage.POSTBOOT: (
        Step("root disk", "agent.disks.growth.root:grow_all", settings=("grow_root",)),
        Step("deferred files", "agent.steps.files:apply_deferred", config_field="deferred", offline=True),
        Step("scripts", "agent.steps.script:apply", needs_config=True, offline=True),
        Step("kernel images", "agent.steps.kernel:apply"),
        Step("fsck", "agent.steps.fsck:apply", settings=("fsck",), setup=True),
    ),
}

#: Reported for a stage without steps.
NO_STEPS = "nothing to do"
LOCK = "/run/gandi/stage.lock"
#: Flag, made when the mount stage begins: from then on any daemon of this boot handles disk events.
MOUNTING = "/run/gandi/mounting"
#: Flag of a boot without a data disk: gandi-mount.service, for which all services would wait, is skipped,
#: and the mount stage runs before the stage that comes next.
NO_DISKS = "/run/gandi/no-disks"
#: Seconds to wait for another process's stage. Longer than the watchdog needs to end a daemon that hangs
#: (WatchdogSec and TimeoutStopSec of gandi-agent.service: 50 s).
LOCK_TIMEOUT = 90.0
#: The same for work that came up during the boot and can be done after it.
LOCK_TIMEOUT_AFTER_BOOT = 300.0


@contextlib.contextmanager
def stage_lock(host: Host, what: str, timeout: float = LOCK_TIMEOUT) -> Iterator[None]:
    """Hold the stage lock; ``what`` names the holder to other processes.

    Withdraw the mark of a settled machine. Raise Busy, naming the holder, when the lock is not free within
    ``timeout`` seconds. The kernel releases it when its holder dies.
    """
    with host.opened(LOCK, os.O_RDWR | os.O_CREAT, make=True) as lock:
        if not processes.lock(lock, timeout):
            holder = (host.read(LOCK) or "").strip(WHITE) or "another process"
            raise Busy(
                f"{what}: not run: {holder} holds {LOCK} and did not end within {timeout:g} s",
                hint="wait for that process, or end it, then start the unit again",
            )
        os.ftruncate(lock, 0)
        with contextlib.suppress(OSError):  # /run is full: the lock holds without the holder's name
            os.pwrite(lock, f"process {os.getpid()} ({what})\n".encode(), 0)
        host.sweep()
        with contextlib.suppress(HostError):  # read-only: gandi-check uses no mark that it cannot write
            settled.remove_mark(host)
        try:
            yield
        finally:
            os.ftruncate(lock, 0)


def is_mount_due(host: Host) -> bool:
    """Return whether the mount stage has yet to run although its unit was skipped."""
    return host.exists(NO_DISKS) and not host.exists(MOUNTING)


def exit_status(error: AgentError) -> int:
    """Return the exit status for an error that kept a stage from running: 75 (EX_TEMPFAIL of sysexits.h) for
    Busy, else 1.
    """
    return 75 if isinstance(error, Busy) else 1


def run(
    ctx: Context,
    stage: Stage,
    on_report: OnReport,
    *,
    lock_timeout: float = LOCK_TIMEOUT,
    on_progress: OnProgress | None = None,
) -> StageReport:
    """Run a stage, record it for ``status``, and return its report.

    ``on_report`` is called with each step's report. ``on_progress`` is called with the stage, the step and
    the reason for a wait ("" for none), and with step "" at the end; by default it updates the status. Raise
    Busy if another process runs a stage for longer than ``lock_timeout`` seconds.
    """
    on_progress = on_progress or partial(report_progress, ctx)
    with stage_lock(ctx.host, f"stage {stage}", lock_timeout):
        begun, done, journal = time.monotonic(), list[StepReport](), Journal(ctx.host)
        record(ctx, lambda: ctx.status.stage_started(stage))
        record(ctx, lambda: note_settings(ctx))
        if stage is Stage.MOUNT:
            record(ctx, lambda: ctx.host.write(MOUNTING, b""))
        elif stage is Stage.CONFIG:  # the mount stage has run: from now on its unit runs it when started
            record(ctx, lambda: ctx.host.remove(NO_DISKS))
        for report in steps(ctx, stage, on_progress=partial(on_progress, stage)):
            done.append(report)
            journal.step(stage, report)
            on_report(report)
        ended = StageReport(stage, tuple(done), time.monotonic() - begun)
        journal.stage(ended)
        record(ctx, lambda: ctx.status.stage_ended(ended))
        if ctx.settings.metrics_file:
            from agent.metrics import file as metrics

            record(ctx, lambda: metrics.stage_ended(ctx, ended))
        on_progress(stage, "", "")
        status_line(f"stage {stage}: {'failed' if ended.failed else 'done'}")
    return ended


def steps(
    ctx: Context, stage: Stage, *, on_progress: Callable[[str, str], None] = lambda _step, _why: None
) -> Iterator[StepReport]:
    """Run a stage's steps in order; ``on_progress`` gets the step, and the reason for a wait or ""."""
    if ctx.config is None and stage is not Stage.BOOTSTRAP:
        yield from _load_stored_config(ctx)
    for step in STAGES[stage]:
        if not is_due(ctx, step):
            continue
        on_progress(step.name, "")
        ctx.on_wait, before = partial(on_progress, step.name), ctx.on_wait
        report = run_step(ctx, step)
        ctx.on_wait = before
        yield report


def rerun_step(ctx: Context, name: str) -> Iterator[Item]:
    """Run one step again on a running machine, under the stage lock, and yield its items. Raise Busy as
    ``run``.
    """
    with stage_lock(ctx.host, f"step {name}", LOCK_TIMEOUT_AFTER_BOOT):
        if ctx.config is None:
            unread = [item for report in _load_stored_config(ctx) for item in report.items]
            yield from unread
            if unread:  # without the document, the step would undo what it applied from it
                return
        step = next(step for steps in STAGES.values() for step in steps if step.name == name)
        yield from run_step(ctx, step).items


def is_due(ctx: Context, step: Step) -> bool:
    """Return whether the step is run and reported: a rare one only if the document has its part, or had."""
    return not step.rare or has_part(ctx, step)


def run_step(ctx: Context, step: Step) -> StepReport:
    """Run one step, unless a setting rules it out or it needs a configuration and there is none."""
    why = reason_to_skip(ctx, step)
    if ctx.host.debug:
        ctx.host.debug(f"step {step.name}: {f'skip: {why}' if why else 'run'}")
    if why:
        return StepReport(step.name, (skipped(step.name, why),), 0.0)
    if step.config_field and not has_part(ctx, step):
        return StepReport(step.name, (), 0.0)
    return attempt(ctx, step.name, lambda: step.function()(ctx))


def has_part(ctx: Context, step: Step) -> bool:
    """Return whether the document has the step's part, or had it when items were applied from it. If that is
    not known, it has: the step then names the damaged record.
    """
    if _field(ctx.config, step.config_field):
        return True
    try:
        return bool(step.withdraws and ctx.config and ctx.state.recorded_items(step.withdraws))
    except HostError:
        return True


def _field(config: object, path: str) -> object:
    """Return a field of the configuration, or of a part of it; None if there is no such part."""
    for name in path.split("."):
        config = getattr(config, name, None)
    return config


def plan(ctx: Context, stage: Stage) -> Iterator[tuple[StepReport, tuple[str, ...]]]:
    """Yield, for each step of a stage, its report and the effects that it would have, as texts. ``ctx.host``
    must be a dry run.
    """
    seen = len(ctx.host.planned)
    for report in steps(ctx, stage):
        yield report, tuple(ctx.host.planned[seen:])
        seen = len(ctx.host.planned)


def reason_to_skip(ctx: Context, step: Step) -> str:
    """Return why the step is not run: a setting, or no configuration; "" if it is."""
    off = next((name for name in step.settings if not getattr(ctx.settings, name)), "")
    if off:
        return f"{variable(off)}=0"
    if step.setup and "none" in ctx.settings.datasource:
        return "CONFIG_DATASOURCE=none"
    return "no configuration" if step.needs_config and ctx.config is None else ""


def _load_stored_config(ctx: Context) -> Iterator[StepReport]:
    """Put the stored configuration in force, for a process that has not run the bootstrap stage; yield a
    report when that fails.
    """

    def load() -> Iterator[Item]:
        from agent import sources

        ctx.config = None if sources.why_disabled(ctx) else ctx.state.config()
        return iter(())

    report = attempt(ctx, "configuration", load)
    if report.outcome is Outcome.FAILED:
        yield report


def note_settings(ctx: Context) -> None:
    """Report the settings' problems in the journal and the status, once for as long as they are the same."""
    ctx.settings_file.current()
    problems = [asdict(problem) for problem in ctx.settings_file.problems]
    if problems == ctx.status.read()["notes"].get("settings", []):
        return
    for problem in ctx.settings_file.problems:
        Journal(ctx.host).setting(ctx.settings_file.name, problem)
    record(ctx, lambda: ctx.status.merge("notes", "settings", problems or None))
