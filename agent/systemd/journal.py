"""Journal entries with fields and message identifiers, and notifications to systemd (sd_notify(3)).

The catalog (units/gandi-agent.catalog) explains each identifier for ``journalctl -x``. systemd-python is
imported when something is to be sent.
"""

from __future__ import annotations

import os
from contextlib import suppress

from agent.lib.records import dataclass
from agent.lib.text import printable
from agent.report import Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.config.settings import Problem
    from agent.host.host import Host
    from agent.lib.errors import AgentError
    from agent.report import Item, StageReport, StepReport

#: Prefix of the agent's own fields, beside the journal's standard ones.
_PREFIX = "GANDI_"
#: Characters of an unreadable line that are reported.
_SHOWN = 200


class Message:
    """The identifiers, as ``journalctl MESSAGE_ID=`` and the catalog spell them.

    No enumeration: to make this one and the next takes 2 M instructions at each start of the daemon.
    """

    STAGE_ENDED = "ece9deacfeb246e4a8aa9305a420a2d6"
    STAGE_FAILED = "697cc1516a9447a1afd6b182209a61c0"
    STEP_FAILED = "220f31bf39a345b28408348f50e683ee"
    DEVICE = "11121fefe8064dcfa8d1e16ff3229bd3"
    DEVICE_FAILED = "306f8a6e00d64943948ef2958aa14413"
    SETTING = "8f9eeb1a45bb4592ad41fef251dc2966"
    MEDIUM = "6d1a2fd35c0c4b8f9a0e7c51b2f4a913"
    SWAP_LOST = "5d0b1d0a7a2f4d6c8a4c7b0f6a1e93c2"
    OVERFLOW = "9725e2d22dc343289f8db85b1f2d9f5b"
    UNREAD = "b08e9a5d7c534b0fb8f9f2bb1e6a3d17"
    UNRECORDED = "d795000d311f4ec9803ef3dd0e39a1d4"
    DEFECT = "00885244eb0640e19ed32705f10cb499"


class Priority:
    """syslog(3) levels."""

    CRITICAL = 2
    ERROR = 3
    WARNING = 4
    INFO = 6


@dataclass(frozen=True, slots=True)
class Journal:
    """The journal of ``host``. For an image, a test's tree or a dry run nothing is sent."""

    host: Host

    def send(self, message: str, priority: int, text: str, *more: str, **fields: str) -> None:
        """Send one entry of the lines ``text`` and ``more``; nothing if there is no journal.

        The names of ``fields`` get ``_PREFIX`` and capitals. Control characters are escaped, since the
        journal is read on terminals.
        """
        lines = "\n".join(map(printable, (text, *more)))
        entry = [f"MESSAGE={lines}", f"MESSAGE_ID={message}", f"PRIORITY={priority}"]
        entry += [f"{_PREFIX}{name.upper()}={printable(value)}" for name, value in fields.items()]
        self._send(*entry, "SYSLOG_IDENTIFIER=gandi-agent")

    def line(self, unit: str, *lines: str) -> None:
        """Send each line on behalf of the service: ``systemctl status`` and ``journalctl -u`` show what
        root's processes log about a unit (systemd.journal-fields(7)).
        """
        owner = f"SYSLOG_IDENTIFIER={unit}", f"OBJECT_SYSTEMD_UNIT={unit}.service"
        for line in lines:
            self._send(f"MESSAGE={printable(line)}", f"PRIORITY={Priority.INFO}", *owner)

    def _send(self, *fields: str) -> None:
        """Send one entry; the first of ``fields`` is MESSAGE, which is printed on stderr if that fails."""
        if not self.host.live or self.host.dry_run:
            return
        try:
            _sendv()(*(field.encode() for field in fields))
        except OSError:
            # journald takes no entry now (it restarts, or its disk is full): print the text alone.
            from agent.host.terminal import print_error

            print_error(*fields[0].removeprefix("MESSAGE=").split("\n"))

    def stage(self, report: StageReport) -> None:
        """Log how a stage ended."""
        seconds = f"{report.seconds:.2f}"
        if report.failed:
            names = ", ".join(step.step for step in report.steps if step.outcome is Outcome.FAILED)
            text, message, priority = f"failed in {names}", Message.STAGE_FAILED, Priority.ERROR
        else:
            text, message, priority = "done", Message.STAGE_ENDED, Priority.INFO
        self.send(
            message,
            priority,
            f"stage {report.stage}: {text} [{seconds} s]",
            stage=report.stage,
            seconds=seconds,
        )

    def step(self, stage: str, report: StepReport) -> None:
        """Log the failed items of a step; the others are in the lines of the stage's unit."""
        for item in report.items:
            if item.outcome is Outcome.FAILED:
                text = f"stage {stage}: {report.step}: {item}"
                self.send(
                    Message.STEP_FAILED, Priority.ERROR, text, stage=stage, step=report.step, **_fields(item)
                )

    def device(self, device: str, report: StepReport) -> None:
        """Log the changed and the failed items of a device, with the seconds that the whole work took."""
        seconds = f"{report.seconds:.3f}"
        for item in report.items:
            if item.outcome is Outcome.FAILED:
                message, priority = Message.DEVICE_FAILED, Priority.ERROR
            elif item.outcome is Outcome.CHANGED:
                message, priority = Message.DEVICE, Priority.INFO
            else:
                continue
            self.send(
                message, priority, f"{device}: {item}", device=device, seconds=seconds, **_fields(item)
            )

    def medium(self, item: Item) -> None:
        """Log why a configuration medium, or what looks like one, is not used."""
        priority = Priority.ERROR if item.outcome is Outcome.FAILED else Priority.WARNING
        self.send(Message.MEDIUM, priority, f"configuration medium: {item}", **_fields(item))

    def setting(self, file: str, problem: Problem) -> None:
        """Log a line of the settings that could not be used."""
        text = f"{file}:{problem.line}: {problem.message}" + (f" ({problem.hint})" if problem.hint else "")
        line = str(problem.line)
        self.send(Message.SETTING, Priority.WARNING, text, file=file, line=line, hint=problem.hint)

    def swap_lost(self, item: Item) -> None:
        """Log that a disk was removed while it was in use as swap."""
        self.send(Message.SWAP_LOST, Priority.CRITICAL, str(item), device=item.name, **_fields(item))

    def overflow(self) -> None:
        """Log that the kernel dropped device events and all devices are scanned again."""
        text = "device events were lost (the receive buffer was full): looking at every device again"
        self.send(Message.OVERFLOW, Priority.WARNING, text)

    def unread(self, name: str, line: str) -> None:
        """Log a line of a kernel file that differs from its documented format."""
        text = f"{name}: a line that cannot be read is left out: {printable(line[:_SHOWN])}"
        self.send(Message.UNREAD, Priority.WARNING, text, file=name)

    def unrecorded(self, error: AgentError) -> None:
        """Log why the status file could not be written; the journal then has the only record."""
        self.send(Message.UNRECORDED, Priority.WARNING, f"not recorded: {error}", hint=error.hint)

    def defect(self, where: str, error: BaseException) -> None:
        """Log an unexpected exception: its type and traceback, never its text, which can hold a secret."""
        from agent.host.terminal import traceback_lines

        kind = type(error).__name__
        text = f"{where}: unexpected {kind}"
        self.send(Message.DEFECT, Priority.ERROR, text, *traceback_lines(error), where=where, error=kind)


def _sendv() -> Callable[..., None]:
    """Return sd_journal_sendv(3), which sends fields as ``NAME=value``; nothing where no journald runs.

    From the compiled part of ``systemd.journal``: the whole module takes ten times as long to import (11 ms,
    with inspect and logging). It is used where a release has no such part.
    """
    try:
        from systemd._journal import sendv
    except ImportError:
        from systemd.journal import sendv
    return sendv


def _fields(item: Item) -> dict[str, str]:
    return {"item": item.name, "outcome": item.outcome, "detail": item.detail, "hint": item.hint}


def notify(state: str) -> None:
    """Notify systemd of this process's state, in lines (sd_notify(3)); nothing without NOTIFY_SOCKET."""
    if "NOTIFY_SOCKET" in os.environ:
        from systemd import daemon

        with suppress(OSError):  # a failed notification must not end the work
            daemon.notify(state)


def status_line(text: str) -> None:
    """Set the line that ``systemctl status gandi-agent`` shows."""
    notify(f"STATUS={printable(text)}")
