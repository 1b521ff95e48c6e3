"""When the daemon may leave: the boot is over and it has had no work for CONFIG_IDLE_EXIT seconds.

Nothing is lost by that. What must outlive a daemon is in /run/gandi and /var/lib/gandi; systemd keeps the
sockets, with what comes meanwhile, and the kernel's filter on the one of device events, so that only what is
ours starts the next daemon, which looks at everything.
"""

from __future__ import annotations

from agent.context import record
from agent.lib.errors import HostError
from agent.lib.records import dataclass
from agent.stages import Stage
from agent.state import settled
from agent.systemd import units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.context import Context
    from agent.udev.monitor import Uevents

#: Seconds without work after which the filter is put on the socket: not in the midst of a boot, which it
#: would cost more than what it saves.
_SETTLED = 10.0
#: Seconds between two looks while threads are at work (their end wakes nobody), or the boot is not over.
_LOOK = 5.0


@dataclass(slots=True)
class Rest:
    """Asked in each turn of the loop. Times are monotonic seconds."""

    ctx: Context
    #: When to ask again, whatever else happens.
    wake_at: float | None = None
    _since: float | None = None
    _filtered: bool | None = None
    _booted: bool = False
    #: Whether the mark of a machine at rest was left, or could not be.
    _marked: bool = False

    def stir(self) -> None:
        """There was work: the time begins anew."""
        self._since = None

    def may_leave(self, now: float, uevents: Uevents, *, at_work: bool) -> bool:
        """Whether it is time. Puts the filter on the socket of device events, without which there is no
        leaving.
        """
        seconds = self.ctx.settings.idle_exit
        leaves = seconds > 0 and uevents.given is not None
        if at_work:
            self._since = None
            self._work_again()
            self.wake_at = now + min(_LOOK, seconds or _LOOK) if leaves or self._filtered is None else None
            return False
        self._since = now if self._since is None else self._since
        quiet = self._since + (min(_SETTLED, seconds) if leaves else _SETTLED)
        if self._filtered is None and now >= quiet:
            self._filtered = self._filter(uevents)
        if self._filtered is None:
            self.wake_at = quiet
            return False
        if not leaves and now >= quiet:
            self._leave_mark()
        due = self._since + seconds
        leaves = leaves and self._filtered
        if leaves and now >= due:
            if self._boot_is_over():
                self._leave_mark()
                return True
            due = now + _LOOK
        self.wake_at = due if leaves else None
        return False

    def _leave_mark(self) -> None:
        """All is as it should be, or is not: for the next boot."""
        if self._marked or not self._boot_is_over():
            return
        self._marked = True

        def leave() -> None:
            from agent.daemon import boot_mark

            why = boot_mark.leave(self.ctx)
            self.ctx.status.merge("daemon", "next boot", why or "no stage runs unless something is new")

        record(self.ctx, leave)

    def _work_again(self) -> None:
        if self._marked:
            self._marked = False
            record(self.ctx, lambda: settled.withdraw(self.ctx.host))

    def _filter(self, uevents: Uevents) -> bool:
        try:
            uevents.only_ours()
        except HostError as error:
            reason = f"{error.message}; each device event costs a look, and the daemon stays"
            record(self.ctx, lambda: self.ctx.status.merge("notes", "device events", reason))
            return False
        return True

    def _boot_is_over(self) -> bool:
        """The last stage has ended; or there was none: switched off, or the agent came to a machine that
        runs.
        """
        if not self._booted:
            last = self.ctx.status.read()["stages"].get(Stage.POSTBOOT, {})
            ended = last.get("state") in ("done", "failed")
            self._booted = ended or units.system_state(self.ctx.host) in ("running", "degraded")
        return self._booted
