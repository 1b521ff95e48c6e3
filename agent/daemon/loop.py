"""The daemon: one thread that waits for device events, requests, signals and the watchdog, and hands work to
others.

It leaves when it has had no work for a while, and systemd starts it again for the next event or request
(``idle_exit.py``). It may die at any moment: what it knows is in files, what must not be cut short runs in
units of their own, and each start looks at everything anew. Nothing in this thread waits for a device.
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
from agent.context import record
from agent.daemon import control_socket
from agent.daemon.dispatcher import Devices
from agent.daemon.idle_exit import Rest
from agent.daemon.worker_pool import Workers
from agent.disks import needed
from agent.host import processes
from agent.lib.errors import AgentError
from agent.lib.records import dataclass, field
from agent.lib.text import WHITE, words
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
    from agent.host.host import Host
    from agent.udev.monitor import Uevent

#: Seconds after which device events are acted upon where no postboot stage has been asked for; otherwise
#: from then on. Before, the stages look at what is there themselves, and all services wait for them.
_LISTEN_ANYWAY = 30.0
#: Seconds by which a look at everything comes later than the events that had come before the daemon.
_NEWS_FIRST = 2.0
#: Seconds that work in progress gets at the end; TimeoutStopSec of the unit is longer.
_LAST_WORK = 5.0


def sockets(host: Host) -> tuple[socket.socket, socket.socket | None]:
    """The sockets of requests and of device events that systemd handed over. Where it did not (started by
    hand): one of our own, and None.

    Raises HostError when somebody else listens for requests.
    """
    from systemd import daemon as systemd

    handed = {made.family: made for made in (socket.socket(fileno=fd) for fd in systemd.listen_fds())}
    return handed.get(socket.AF_UNIX) or control_socket.listener(host), handed.get(socket.AF_NETLINK)


@dataclass(slots=True)
class Daemon:
    """The loop and what it owns. ``run`` returns when the daemon was told to end, or has nothing to do."""

    ctx: Context
    listener: socket.socket
    #: systemd's socket of device events.
    given: socket.socket | None = None
    devices: Devices = field(init=False)
    runner: Workers = field(init=False)
    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _server: control_socket.Server = field(init=False)
    #: The stages that wait or run, each with the peers that asked for it.
    _runs: dict[Stage, list[Connection]] = field(default_factory=dict)
    _uevents: Uevents = field(init=False)
    #: Events up to this number are no news: the mount stage of this boot has looked since. None without one.
    _seen: int | None = None
    #: When to look at everything (monotonic seconds), once device events are acted upon; None: no need to.
    _all_at: float | None = 0.0
    _rest: Rest = field(init=False)
    _calls: deque[Callable[[], None]] = field(default_factory=deque)
    _wake: tuple[int, int] = (-1, -1)
    _ending: bool = False
    _ready: bool = False
    _left: bool = False
    #: When to act upon device events from (monotonic seconds); None once that is done.
    _listen_at: float | None = None
    _watchdog: Watchdog = field(init=False)

    def __post_init__(self) -> None:
        self.devices = Devices(self.ctx)
        self.devices.under_way.wake = lambda: self.call(lambda: None)
        self.runner = Workers(1, Journal(self.ctx.host).defect)
        self._server = control_socket.Server(self.listener, self.selector, self._request)
        self._watchdog = Watchdog.from_environment()
        self._uevents = Uevents(self.ctx.host, self.given)
        self._rest = Rest(self.ctx)

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, or until there has been no work for CONFIG_IDLE_EXIT seconds."""
        self._watch_signals()
        record(self.ctx, lambda: settled.wake(self.ctx.host))
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
        """Have the loop's thread call ``function``; for any thread."""
        self._calls.append(function)
        with suppress(BlockingIOError):  # a full pipe wakes the loop just as well
            os.write(self._wake[1], b"\0")

    # -- one turn of the loop --------------------------------------------------------

    def _turn(self) -> None:
        if not self._ready and self._all_at is None:
            self._get_ready("READY=1")  # the device whose event woke us did not wait, and stays the status
        now = time.monotonic()
        everything = self._all_at if self._listen_at is None else None
        times = [self._watchdog.next, self._server.wake_at(), self._listen_at, everything]
        times += [self.devices.under_way.due(), self._rest.wake_at]
        due = min((moment for moment in times if moment is not None), default=None)
        ready = self.selector.select(None if due is None else max(0.0, due - now))
        for key, mask in ready:
            key.data(mask)
        now = time.monotonic()
        self._watchdog.tick(now)
        self._server.tick(now)
        self.devices.under_way.show(now)
        if self._listen_at is not None and now >= self._listen_at:
            self._catch_up()
            self._listen_at = None
            self._listen(now)
        if self._listen_at is None and self._all_at is not None and now >= self._all_at:
            self._all_at = None
            self.devices.look_again(self._uevents.present())
        if self._rest.may_leave(now, self._uevents, at_work=self._at_work()) and not ready:
            # What came while that was decided is one more reason to stay; what comes from now on waits for
            # the next daemon.
            self._ending = self._left = not self.selector.select(0)

    def _woken(self) -> None:
        for number in os.read(self._wake[0], 4096):
            if number in (signal.SIGTERM, signal.SIGINT):
                self._ending = True
            elif number == signal.SIGHUP:
                self._rest.stir()
                record(self.ctx, lambda: stages.note_settings(self.ctx))
                self._look_at_everything()
        while self._calls:
            self._calls.popleft()()

    def _at_work(self) -> bool:
        """Whether anything is under way: a stage, a peer, a look at a device; a thread is nothing else."""
        waits = self._listen_at is not None or self._all_at is not None or bool(self._calls)
        return waits or bool(self._runs or self._server.connections) or threading.active_count() > 1

    def _watch_signals(self) -> None:
        self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.selector.register(self._wake[0], selectors.EVENT_READ, lambda _mask: self._woken())
        signal.set_wakeup_fd(self._wake[1], warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda _number, _frame: None)  # the byte in the pipe is what counts

    def _get_ready(self, told: str) -> None:
        self._ready = True
        record(self.ctx, self._sign_in)
        notify(told)

    def _sign_in(self) -> None:
        """Leave our process id for ``status``, whose user may not be able to ask us; take back what a daemon
        before us said it was at.
        """
        for name in self.ctx.status.read()["work"]:
            if name not in list(Stage) and not self.devices.under_way.has(name):
                self.ctx.status.merge("work", name, None)
        self.ctx.status.merge("daemon", "process", {"since": int(time.time())} | processes.me())

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
        left = {"left": int(time.time())} if self._left else None
        record(self.ctx, lambda: self.ctx.status.merge("daemon", "process", left))
        if self._left:
            status_line("nothing to do; the next device event or request starts it")

    # -- devices ---------------------------------------------------------------------

    def _listen(self, now: float) -> None:
        """Act upon what has been heard, and is from now on; what was there before can wait a little."""
        gc.freeze()
        gc.enable()
        self.selector.register(self._uevents, selectors.EVENT_READ, lambda _mask: self._drain())
        if self._drain() and self._all_at is not None:
            self._all_at = now + _NEWS_FIRST

    def _drain(self) -> bool:
        """Hand on what has been heard; whether that was anything."""
        events, lost = self._uevents.drain()
        news = [event for event in events if self._is_news(event)]
        if news:
            self._rest.stir()
            self.devices.look(news)
        if lost:
            Journal(self.ctx.host).overflow()
            self._look_at_everything()
        return bool(news)

    def _is_news(self, event: Uevent) -> bool:
        return event.number > (self._seen or 0)

    def _look_at_everything(self) -> None:
        """In this turn, or as soon as device events are acted upon."""
        self._all_at = 0.0

    # -- stages ----------------------------------------------------------------------

    def _request(self, connection: Connection, line: str) -> None:
        match words(line.strip(WHITE)):
            case ["ping"]:
                # The status is being looked at: with what is done now, however briefly.
                self.devices.under_way.show(float("inf"))
                self._server.answer(connection, "ok")
            case ["stage", name] if name in list(Stage):
                self._join(connection, Stage(name))
            case _:
                self._server.answer(connection, "end 2")

    def _join(self, connection: Connection | None, stage: Stage) -> None:
        """Start the stage, or let the peer wait for the one that was asked for already."""
        if stage not in self._runs:
            self._runs[stage] = []
            if stage is Stage.MOUNT:
                if self._listen_at is not None:
                    self._seen, self._all_at = self._uevents.told(), None  # before the stage looks
            else:
                self._catch_up()
            if stage is Stage.POSTBOOT and self._listen_at is not None:
                self._listen_at = 0.0
            self.runner.submit(stage, lambda: self._run(stage))
        if connection:
            self._runs[stage].append(connection)

    def _pass_mount(self) -> None:
        """Have a boot without a data disk go on to ssh: no process runs for the mount stage's unit, and the
        stage comes before the next one (``_catch_up``).
        """
        host = self.ctx.host
        try:
            if host.exists(stages.MOUNTING) or needed.has_data_disk(self.ctx):
                return
        except AgentError:  # what is remembered of disks is damaged, say: for the stage to tell
            return
        record(self.ctx, lambda: host.write(stages.NO_DISKS, b""))

    def _catch_up(self) -> None:
        """Start the mount stage where it is due: before another stage, and before devices are looked at."""
        if stages.is_mount_due(self.ctx.host):
            self._join(None, Stage.MOUNT)

    def _run(self, stage: Stage) -> None:
        """In the runner's thread: the whole stage, each line of it in the journal for the stage's unit."""
        say, status = partial(Journal(self.ctx.host).line, f"gandi-{stage}"), 1
        try:
            report = stages.run(
                self.ctx, stage, lambda step: say(*step.lines()), at=self.devices.under_way.at
            )
            status = int(report.failed)
            if not report.steps:
                say(stages.NOTHING)
        except AgentError as error:
            say(str(error))
            status = stages.exit_status(error)
        finally:  # whatever happened, no peer waits for ever
            self.call(lambda: self._ended(stage, status))

    def _ended(self, stage: Stage, status: int) -> None:
        if stage is Stage.BOOTSTRAP:
            self._pass_mount()  # before PID 1 hears that the stage has ended
        for peer in self._runs.pop(stage):
            self._server.answer(peer, f"end {status}")
        if stage is Stage.BOOTSTRAP:
            from agent.reader import client

            client.dismiss()
        if stage is not Stage.MOUNT:
            return
        if self.ctx.medium is None:
            # One that came after the first stage had looked for it, and before anybody listened.
            self.devices.look_for_drives()
        if self._seen is not None and (status or self.devices.unfinished()):
            # What that stage could not see: the kernel told of it before, so that its event is no news.
            self._look_at_everything()
