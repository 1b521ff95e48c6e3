"""Idle exit: when the boot is over and there was no work for CONFIG_IDLE_EXIT seconds.

Nothing is lost: persistent data are in /run/gandi and /var/lib/gandi. systemd keeps the sockets, with what
arrives in between, and the kernel's filter on the socket of device events, so that only events with the
agent's tag start the next daemon, which scans all devices.
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

#: Seconds without work after which the filter is put on the socket. During a boot it would cost more than
#: it saves.
_QUIET = 10.0
#: Seconds between two checks while threads work (their end does not wake the loop), or the boot is not over.
_CHECK = 5.0
_JUMPED = "gandi-jumped.timer"
#: Seconds to wait for PID 1.
_ANSWER = 5.0


@dataclass(slots=True)
class IdleExit:
    """Whether the daemon may exit, checked in each turn of the loop. Times are monotonic seconds."""

    ctx: Context
    #: When to check again at the latest; None: at the next event.
    wake_at: float | None = None
    _since: float | None = None
    _filtered: bool | None = None
    _booted: bool = False
    #: Whether writing the settled mark was tried since the last work.
    _marked: bool = False

    def reset(self) -> None:
        """Note that there was work: the idle time begins again."""
        self._since = None

    def may_exit(self, now: float, uevents: Uevents, *, at_work: bool) -> bool:
        """Return whether the daemon may exit now.

        Puts the filter on the socket of device events first; without the filter the daemon does not exit.
        """
        seconds = self.ctx.settings.idle_exit
        leaves = seconds > 0 and uevents.inherited is not None
        if at_work:
            self._since = None
            self._remove_mark()
            self.wake_at = now + min(_CHECK, seconds or _CHECK) if leaves or self._filtered is None else None
            return False
        self._since = now if self._since is None else self._since
        quiet = self._since + (min(_QUIET, seconds) if leaves else _QUIET)
        if self._filtered is None and now >= quiet:
            self._filtered = self._filter(uevents)
        if self._filtered is None:
            self.wake_at = quiet
            return False
        if not leaves and now >= quiet:
            self._write_mark()
        due = self._since + seconds
        leaves = leaves and self._filtered
        if leaves and now >= due:
            if self._boot_is_over():
                self._write_mark()
                return True
            due = now + _CHECK
        self.wake_at = due if leaves else None
        return False

    def _write_mark(self) -> None:
        """Write the settled mark for the next boot, or record in the status why it is not written."""
        if self._marked or not self._boot_is_over():
            return
        self._marked = True

        def leave() -> None:
            from agent.daemon import boot_mark

            why = boot_mark.write(self.ctx)
            self.ctx.status.merge("daemon", "next boot", why or "no stage runs unless something is new")

        record(self.ctx, leave)

    def _remove_mark(self) -> None:
        if self._marked:
            self._marked = False
            record(self.ctx, lambda: settled.remove_mark(self.ctx.host))

    def _filter(self, uevents: Uevents) -> bool:
        try:
            uevents.attach_tag_filter()
        except HostError as error:
            reason = f"{error.message}; each device event costs a look, and the daemon stays"
            record(self.ctx, lambda: self.ctx.status.merge("notes", "device events", reason))
            return False
        return True

    def _boot_is_over(self) -> bool:
        """Return whether the last stage has ended, or systemd has finished booting without it.

        The latter: the stage is disabled, or the agent was installed on a running machine.
        """
        if not self._booted:
            last = self.ctx.status.read()["stages"].get(Stage.POSTBOOT, {})
            ended = last.get("state") in ("done", "failed")
            self._booted = ended or units.system_state(self.ctx.host) in ("running", "degraded")
            if self._booted:
                record(self.ctx, self._watch_clock)
        return self._booted

    def _watch_clock(self) -> None:
        """Have PID 1 notice jumps of the clock from now on, unless it does: not during the boot, which the
        units would delay.
        """
        host = self.ctx.host
        if host.live and not units.active_state(host, _JUMPED) and not units.is_masked(host, _JUMPED):
            from agent.systemd import libsystemd

            libsystemd.start(_JUMPED, timeout=_ANSWER)
