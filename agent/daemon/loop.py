"""The daemon's main loop: device events, requests, signals and the watchdog; work runs in other threads.

The daemon exits when it is idle, and systemd starts it again for the next event or request
(``idle_exit.py``). It may be killed at any time: its state is in files, what must not be interrupted runs in
units of its own, and each start scans all devices. Nothing in this thread waits for a device.
"""

from __future__ import annotations

import gc
import os
import selectors
import signal
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from functools import partial

from agent import stages
from agent.context import attempt, record
from agent.daemon import control_socket
from agent.daemon.dispatcher import Devices
from agent.daemon.idle_exit import IdleExit
from agent.daemon.worker_pool import Workers
from agent.disks import needed
from agent.host import processes
from agent.lib.errors import AgentError
from agent.lib.records import dataclass, field
from agent.lib.text import WHITE, words
from agent.report import has_receiver
from agent.stages import Stage
from agent.state import settled
from agent.systemd.journal import Journal, notify, status_line
from agent.systemd.watchdog import Watchdog
from agent.udev.monitor import Uevents

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.context import Context
    from agent.daemon.control_socket import Connection
    from agent.report import StepReport
    from agent.reporting.reporter import Reporter

#: Seconds after which device events are handled if the postboot stage has not been requested; its request
#: starts that at once. Before, the stages scan the devices themselves, and all services wait for them.
_LISTEN_ANYWAY = 30.0
#: Seconds by which the scan of all devices is delayed if events were waiting: those are handled first.
_EVENTS_FIRST = 2.0
#: Seconds for which the daemon reads no events after one of a device without its tag. During a boot udev
#: sends hundreds of these, and the kernel filters them only later (idle_exit.py).
_PAUSE = 0.25
#: Seconds that work in progress may take at exit; TimeoutStopSec of the unit is longer.
_LAST_WORK = 5.0


@dataclass(slots=True)
class Daemon:
    """The main loop and its state."""

    ctx: Context
    listener: socket.socket
    #: systemd's socket of device events.
    given: socket.socket | None = None
    devices: Devices = field(init=False)
    runner: Workers = field(init=False)
    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _server: control_socket.Server = field(init=False)
    #: The stages that wait or run, each with the peers that requested it.
    _runs: dict[Stage, list[Connection]] = field(default_factory=dict)
    _uevents: Uevents = field(init=False)
    #: Ignore events with SEQNUM <= this: the mount stage has scanned since. None before a mount stage.
    _last_seqnum: int | None = None
    #: When to scan all devices (monotonic seconds), once device events are handled; None: not needed.
    _scan_at: float | None = 0.0
    _idle_exit: IdleExit = field(init=False)
    _calls: deque[Callable[[], None]] = field(default_factory=deque)
    _wake: tuple[int, int] = (-1, -1)
    _ending: bool = False
    _ready: bool = False
    _is_idle_exit: bool = False
    #: When to begin to handle device events (monotonic seconds); None once begun.
    _listen_at: float | None = None
    #: When to look for device events again (monotonic seconds), during such a pause.
    _look_at: float | None = None
    _watchdog: Watchdog = field(init=False)
    #: Made when there is something to report and a receiver.
    _reporter: Reporter | None = None
    _is_posting: bool = False

    def __post_init__(self) -> None:
        self.devices = Devices(self.ctx)
        self.devices.reported = self._report_device
        self.devices.activity.wake = lambda: self.call(lambda: None)
        self.runner = Workers(1, Journal(self.ctx.host).defect)
        self._server = control_socket.Server(self.listener, self.selector, self._request)
        self._watchdog = Watchdog.from_environment()
        self._uevents = Uevents(self.ctx.host, self.given)
        self._idle_exit = IdleExit(self.ctx)

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, or until there has been no work for CONFIG_IDLE_EXIT seconds."""
        self._watch_signals()
        record(self.ctx, lambda: settled.daemon_started(self.ctx.host))
        self.ctx.host.sweep()
        restarted = self.ctx.host.exists(stages.MOUNTING)
        self._listen_at = time.monotonic() + (0.0 if restarted else _LISTEN_ANYWAY)
        if not restarted:
            from agent.reader import client

            client.prepare()
            self._get_ready("READY=1\nSTATUS=ready")
        while not self._ending:
            self._turn()
        self._end()

    def call(self, function: Callable[[], None]) -> None:
        """Make the loop's thread call ``function``. Thread-safe."""
        self._calls.append(function)
        with suppress(BlockingIOError):  # a full pipe wakes the loop just as well
            os.write(self._wake[1], b"\0")

    # -- one turn of the loop --------------------------------------------------------

    def _turn(self) -> None:
        if not self._ready and self._scan_at is None:
            self._get_ready("READY=1")  # no STATUS: that of the device with the first event stays
        now = time.monotonic()
        everything = self._scan_at if self._listen_at is None else None
        times = [self._watchdog.next, self._server.wake_at(), self._listen_at, everything]
        times += [self.devices.activity.next_show(), self._idle_exit.wake_at, self._look_at]
        times += [self._reporter.wake_at if self._reporter else None]
        due = min((moment for moment in times if moment is not None), default=None)
        ready = self.selector.select(None if due is None else max(0.0, due - now))
        for key, mask in ready:
            key.data(mask)
        now = time.monotonic()
        self._watchdog.tick(now)
        self._server.tick(now)
        self.devices.activity.show_due(now)
        if self._reporter and self._reporter.wake_at is not None:
            self._report(lambda reporter: reporter.tick(now))
        if self._listen_at is not None and now >= self._listen_at:
            self._catch_up()
            self._listen_at = None
            self._listen(now)
        if self._look_at is not None and now >= self._look_at:
            self._look()
        if self._listen_at is None and self._scan_at is not None and now >= self._scan_at:
            self._scan_at = None
            self.devices.queue_all(self._uevents.enumerate())
        if self._idle_exit.may_exit(now, self._uevents, at_work=self._at_work()) and not ready:
            # Stay if something arrived while that was decided; what arrives later starts the next daemon.
            self._ending = self._is_idle_exit = not self.selector.select(0)

    def _woken(self) -> None:
        for number in os.read(self._wake[0], 4096):
            if number in (signal.SIGTERM, signal.SIGINT):
                self._ending = True
            elif number == signal.SIGHUP:
                self._idle_exit.reset()
                record(self.ctx, lambda: stages.note_settings(self.ctx))
                self._scan_all()
        while self._calls:
            self._calls.popleft()()

    def _at_work(self) -> bool:
        """Return whether a stage, a request or a job is pending; each worker thread has a job."""
        waits = self._listen_at is not None or self._scan_at is not None or bool(self._calls)
        waits = waits or (self._reporter is not None and self._reporter.wake_at is not None)
        return waits or bool(self._runs or self._server.connections) or threading.active_count() > 1

    def _watch_signals(self) -> None:
        self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.selector.register(self._wake[0], selectors.EVENT_READ, lambda _mask: self._woken())
        signal.set_wakeup_fd(self._wake[1], warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda _number, _frame: None)  # handled by its byte in the pipe

    def _get_ready(self, state: str) -> None:
        self._ready = True
        record(self.ctx, self._record_process)
        notify(state)

    def _record_process(self) -> None:
        """Record the process id, for ``status`` by users who may not use the socket.

        Delete the work in progress of an earlier daemon.
        """
        for name in self.ctx.status.read()["work"]:
            if name not in list(Stage) and not self.devices.activity.has(name):
                self.ctx.status.merge("work", name, None)
        self.ctx.status.merge("daemon", "process", {"since": int(time.time())} | processes.this_process())

    def _end(self) -> None:
        notify("STOPPING=1")
        self.devices.close()
        self.runner.close()
        deadline = time.monotonic() + _LAST_WORK
        for workers in (self.runner, self.devices.workers):
            workers.settle(deadline - time.monotonic())
        while self._calls:
            self._calls.popleft()()
        self._server.close()
        left = {"left": int(time.time())} if self._is_idle_exit else None
        record(self.ctx, lambda: self.ctx.status.merge("daemon", "process", left))
        if self._is_idle_exit:
            status_line("nothing to do; the next device event or request starts it")

    # -- devices ---------------------------------------------------------------------

    def _listen(self, now: float) -> None:
        """Begin to handle device events. If some were waiting, delay the scan of all devices."""
        gc.freeze()
        gc.enable()
        self._look()
        if self._drain() and self._scan_at is not None:
            self._scan_at = now + _EVENTS_FIRST
        self._report(lambda reporter: reporter.update(now))
        self._post()

    def _look(self) -> None:
        self._look_at = None
        self.selector.register(self._uevents, selectors.EVENT_READ, lambda _mask: self._read_events())

    def _read_events(self) -> None:
        if not self._drain():
            self.selector.unregister(self._uevents)
            self._look_at = time.monotonic() + _PAUSE

    def _drain(self) -> bool:
        """Queue the received events; return whether there were any new ones."""
        events, lost = self._uevents.drain()
        new = [event for event in events if event.seqnum > (self._last_seqnum or 0)]
        if new:
            self._idle_exit.reset()
            self.devices.queue(new)
        if lost:
            Journal(self.ctx.host).overflow()
            self._scan_all()
        return bool(new)

    def _scan_all(self) -> None:
        """Scan all devices in this turn, or as soon as device events are handled."""
        self._scan_at = 0.0

    # -- stages ----------------------------------------------------------------------

    def _request(self, connection: Connection, line: str) -> None:
        match words(line.strip(WHITE)):
            case ["ping"]:
                # From ``status``: show all work in progress, however recent.
                self.devices.activity.show_due(float("inf"))
                self._server.answer(connection, "ok")
            case ["restored" | "resumed" | "jumped" as action]:
                self.devices.queue_restored(action)
                self._scan_all()
                self._server.answer(connection, "end 0")
            case ["stage", name] if name in list(Stage):
                self._join(connection, Stage(name))
            case _:
                self._server.answer(connection, "end 2")

    def _join(self, connection: Connection | None, stage: Stage) -> None:
        """Start the stage unless it waits or runs, and add the peer to those that get its result."""
        if stage not in self._runs:
            self._runs[stage] = []
            if stage is Stage.MOUNT:
                if self._listen_at is not None:
                    self._last_seqnum = self._uevents.last_seqnum()  # before the stage scans
                    self._scan_at = None
            else:
                self._catch_up()
            if stage is Stage.POSTBOOT and self._listen_at is not None:
                self._listen_at = 0.0
            self.runner.submit(stage, lambda: self._run(stage))
        if connection:
            self._runs[stage].append(connection)

    def _pass_mount(self) -> None:
        """Without a data disk, let the mount stage's unit start no process, so that ssh starts sooner.

        The stage then runs before the next one (``_catch_up``).
        """
        host = self.ctx.host
        try:
            if host.exists(stages.MOUNTING) or needed.has_data_disk(self.ctx):
                return
        except AgentError:  # for example damaged records: the stage reports it
            return
        record(self.ctx, lambda: host.write(stages.NO_DISKS, b""))

    def _catch_up(self) -> None:
        """Start the mount stage if it is due: before another stage, and before device events are handled."""
        if stages.is_mount_due(self.ctx.host):
            self._join(None, Stage.MOUNT)

    def _run(self, stage: Stage) -> None:
        """Run the stage, in the runner's thread; its lines go to the journal under the stage's unit."""
        log, status = partial(Journal(self.ctx.host).line, f"gandi-{stage}"), 1
        try:
            report = stages.run(
                self.ctx, stage, lambda step: log(*step.lines()), on_progress=self.devices.activity.set_step
            )
            status = int(report.failed)
            if not report.steps:
                log(stages.NO_STEPS)
        except AgentError as error:
            log(str(error))
            status = stages.exit_status(error)
            message, hint = error.message, error.hint
            self.call(lambda: self._report(lambda reporter: reporter.unrun(stage, message, hint)))
        finally:  # even after a defect each peer gets an answer
            self.call(lambda: self._ended(stage, status))

    def _ended(self, stage: Stage, status: int) -> None:
        if stage is Stage.BOOTSTRAP:
            self._pass_mount()  # before PID 1 learns that the stage has ended
        for peer in self._runs.pop(stage):
            self._server.answer(peer, f"end {status}")
        self._report(lambda reporter: reporter.update(time.monotonic()))
        self._post()
        if stage is Stage.BOOTSTRAP:
            from agent.reader import client

            client.stop_prepared()
        if stage is not Stage.MOUNT:
            return
        if self.ctx.medium is None:
            # One may have come after the first stage scanned, and before events were handled.
            self.devices.queue_drives()
        if self._last_seqnum is not None and (status or self.devices.has_unfinished()):
            # What the stage could not see yet: its event was sent before and is ignored by SEQNUM.
            self._scan_all()

    # -- reports to the platform -----------------------------------------------------

    def _report(self, what: Callable[[Reporter], None]) -> None:
        """Call ``what`` if the platform receives reports. A failure is logged and costs only the report."""
        if self.ctx.settings.report == "0":
            if self._reporter:
                self.selector.unregister(self._reporter)
                self._reporter.close()
                self._reporter = None
            return
        if self._reporter is None and not has_receiver(self.ctx.host):
            return
        self._attempt("reports to the platform", lambda: what(self._reporter or self._make_reporter()))

    def _attempt(self, name: str, work: Callable[[], object]) -> None:
        """Do work of which a failure, or a defect, is logged and stops nothing else."""

        def logged() -> tuple[()]:
            record(self.ctx, work)
            return ()

        attempt(self.ctx, name, logged)

    def _make_reporter(self) -> Reporter:
        from agent.reporting.reporter import Reporter

        self._reporter = Reporter(self.ctx, self._run_for_report)
        self.selector.register(
            self._reporter, selectors.EVENT_READ, lambda _mask: self._report(Reporter.flush)
        )
        return self._reporter

    def _report_device(self, device: str, role: str, action: str, report: StepReport) -> None:
        """Report a device's outcome from a worker's thread."""
        if self._reporter or has_receiver(self.ctx.host):
            self.call(lambda: self._report(lambda reporter: reporter.device(device, role, action, report)))

    def _post(self) -> None:
        """Post the verdict of a boot that has ended to CONFIG_REPORT_URL, in a thread, if it is set."""
        settings = self.ctx.settings
        if not settings.report_url or settings.report == "0" or self._is_posting:
            return
        from agent.reporting import post

        def begin() -> None:
            if post.is_due(self.ctx):
                self._is_posting = True
                self.devices.workers.submit("report", lambda: record(self.ctx, lambda: post.post(self.ctx)))

        self._attempt(post.NOTE, begin)

    def _run_for_report(self, job: Callable[[], None]) -> None:
        """Run a job of the reporter's that may wait, in a thread, and then send what waits."""

        def work() -> None:
            job()
            self.call(lambda: self._report(lambda reporter: reporter.flush()))

        self.devices.workers.submit("reports", work, once=True)
