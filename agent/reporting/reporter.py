"""The one way in: report to whatever on the host receives it, without waiting for it.

Records are made of status.json, so that a channel which comes later, or a daemon that was killed, misses no
stage. The loop's thread alone calls this. What waits to be sent is in a file, for the next daemon.
"""

from __future__ import annotations

import json
import select
from contextlib import suppress

from agent.lib.canonical_json import parsed_object
from agent.lib.errors import HostError
from agent.lib.records import dataclass, field
from agent.reporting import facts, records
from agent.reporting.notify_socket import NotifySocket
from agent.reporting.outbox import Outbox
from agent.reporting.port import Port
from agent.stages import Stage
from agent.systemd import units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from agent.context import Context
    from agent.report import StepReport
    from agent.reporting.records import Record

#: What was reported, and what waits.
STATE = "/run/gandi/reported.json"
#: Unit with the device rules that a port may need to be opened.
UNIT = "gandi-agent.service"
#: Seconds between two queries whether systemd has ended the boot, and in all.
_ASK_AGAIN, _PATIENCE = 1.0, 900.0
#: States of a system that has ended its boot.
_BOOTED = ("running", "degraded")
#: The events of a descriptor are reported when they come, not while they last: a port that the host does not
#: use is "hung up" for as long as it lasts.
_WATCHED = select.EPOLLOUT | select.EPOLLET


@dataclass(slots=True)
class Reporter:
    """The channels of the machine and their queues. ``fileno`` is readable when one can go on: call
    ``flush`` then.
    """

    ctx: Context
    #: Runs a job that may wait for PID 1, in another thread.
    run_later: Callable[[Callable[[], None]], None] = lambda _job: None
    #: When to call ``tick`` (monotonic seconds); None: not needed.
    wake_at: float | None = None
    _epoll: select.epoll = field(init=False)
    _port: Outbox = field(init=False)
    _socket: Outbox = field(init=False)
    _saved: str = ""
    _give_up_at: float = 0.0
    _has_asked: bool = False

    def __post_init__(self) -> None:
        self._epoll = select.epoll()
        self._port = Outbox(Port(self.ctx.host, self._watch, self._ask_for_access))
        self._socket = Outbox(NotifySocket(self.ctx.host, self._watch))
        self._saved = self.ctx.host.read(STATE) or "{}"
        saved = parsed_object(self._saved) or {}  # damaged: as if nothing had been reported
        self._port.restore(saved.get("port", {}))
        self._socket.restore(saved.get("socket", {}))

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._epoll.fileno()

    def flush(self) -> None:
        """Send what the receivers take now. Raise HostError if the rest cannot be saved."""
        self._epoll.poll(0)
        for outbox in (self._port, self._socket):
            outbox.flush()
        self._save()

    def update(self, now: float) -> None:
        """Queue what status.json has of the boot and was not reported yet, and send it. Raise HostError."""
        document = self.ctx.status.read()
        for outbox in self._present():
            self._queue_boot(outbox, document)
        if self._socket.boot[:1] == ["ready"] and not self._socket.is_ready_sent and self.wake_at is None:
            self._give_up_at, self.wake_at = now + _PATIENCE, now
        self.flush()

    def unrun(self, stage: str, message: str, hint: str) -> None:
        """Report a stage that could not be run. Raise HostError."""
        self._put(list(records.of_unrun(stage, message, hint)))

    def device(self, device: str, role: str, action: str, report: StepReport) -> None:
        """Report what was changed and what failed. Raise HostError."""
        self._put(list(records.of_device(device, role, action, report)))

    def tick(self, now: float) -> None:
        """Report that the machine is ready once PID 1 has done so, or give up. Raise HostError."""
        if self.wake_at is None or now < self.wake_at:
            return
        self.wake_at = now + _ASK_AGAIN
        is_booted = units.system_state(self.ctx.host) in _BOOTED
        if not is_booted and now < self._give_up_at:
            return
        self.wake_at = None
        result, verdict = self._socket.boot
        if result != "ready":  # a stage was run again, and has failed
            return
        if is_booted:
            self._socket.put(records.ready(result, verdict))
        self._socket.is_ready_sent = True
        self.flush()

    def close(self) -> None:
        """Close the channels; what waits stays saved."""
        for outbox in (self._port, self._socket):
            outbox.channel.close()
        self._epoll.close()

    # -- within ----------------------------------------------------------------------

    def _present(self) -> list[Outbox]:
        return [outbox for outbox in (self._port, self._socket) if outbox.channel.exists()]

    def _put(self, made: Iterable[Record]) -> None:
        for outbox in self._present():
            for record in made:
                outbox.put(record)
        self.flush()

    def _queue_boot(self, outbox: Outbox, document: dict[str, Any]) -> None:
        """Queue the stages that have ended since they were reported, and the end of the boot."""
        has_new = not outbox.boot
        for stage in Stage:
            entry = document["stages"].get(stage, {})
            run = f"{entry.get('ended')} {entry.get('seconds')}"
            if entry.get("ended") and outbox.stages.get(stage) != run:
                outbox.stages[stage] = run
                has_new = True
                for record in records.of_stage(stage, entry):
                    outbox.put(record)
        if not has_new or not facts.may_have_ended(self.ctx, document):
            return
        end = records.of_boot(facts.after_boot(self.ctx, document))
        if end and [end["result"], end["verdict"]] != outbox.boot:
            outbox.boot = [end["result"], end["verdict"]]
            outbox.put(end)

    def _watch(self, descriptor: int) -> None:
        self._epoll.register(descriptor, _WATCHED)

    def _ask_for_access(self) -> None:
        """Have PID 1 look for the port's driver again: it was loaded, or the port attached, after this
        process started.
        """
        if not self._has_asked:
            self._has_asked = True
            self.run_later(_renew_access)

    def _save(self) -> None:
        text = json.dumps({"port": self._port.saved(), "socket": self._socket.saved()}, sort_keys=True)
        if text != self._saved:
            self._saved = text
            self.ctx.host.write(STATE, text, mode=0o600)


def _renew_access() -> None:
    from agent.systemd import libsystemd

    with suppress(HostError):  # the next record is tried as well
        libsystemd.allow_device(UNIT, "char-virtio-portsdev", "rw")
