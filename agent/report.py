"""Outcomes of steps and devices: what was done, or why not, and the remedy.

The report is /run/gandi/status.json (0644, versioned, no secrets), with one section for each stage and one
for each device. The process that runs a stage (the daemon, or the stage client when the daemon is dead)
merges its section under a lock. agent/systemd/journal.py reports the same to the journal and systemctl(1).
"""

from __future__ import annotations

import json
import os
import threading
import time
from enum import StrEnum

from agent.host import processes
from agent.host.sysfs import attribute, listed
from agent.lib.canonical_json import parsed_object
from agent.lib.errors import AgentError, Busy, NeedsProgram
from agent.lib.records import asdict, dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from agent.host.host import Host

STATUS = "/run/gandi/status.json"
LOCK = "/run/gandi/status.lock"
#: Where the platform may receive reports (agent/reporting): systemd's credential; the folder and the name of
#: virtio-serial ports. The daemon has the credentials in this folder (agent/systemd/credentials.py).
NOTIFY_SOCKET = "/run/gandi/credentials/vmm.notify_socket"
PORTS, PORT = "/sys/class/virtio-ports", "net.gandi.agent.0"
#: To be raised when a reader of the old format would misread the new one.
VERSION = 1
#: Seconds to wait for another writer, which needs milliseconds.
_LOCK_TIMEOUT = 5.0
#: Held by one thread of this process at a time: waiting for it needs no polling, unlike the file's lock.
_thread_lock = threading.Lock()


class Outcome(StrEnum):
    """How one item ended."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"
    KEPT = "kept"
    SKIPPED = "skipped"
    FAILED = "failed"


#: Precedence: a step has the first of these that one of its items has.
_PRECEDENCE = (Outcome.FAILED, Outcome.CHANGED, Outcome.KEPT, Outcome.UNCHANGED, Outcome.SKIPPED)
KEPT_BY_ADMIN = "changed by admin"
#: Ends the source step's detail in the boot that begins a new instance: its first boot.
NEW_INSTANCE = "a new instance"


@dataclass(frozen=True, slots=True)
class Item:
    """The outcome of one item: its ``name``, in ``detail`` what happened or why not, in ``hint`` the remedy.
    None of them contains a secret.
    """

    name: str
    outcome: Outcome
    detail: str = ""
    hint: str = ""

    def __str__(self) -> str:
        text = f"{self.outcome}: {self.name}" + (f": {self.detail}" if self.detail else "")
        return text + (f" ({self.hint})" if self.hint else "")


def port(host: Host) -> str:
    """Return the kernel's name of the virtio-serial port for reports; "" if there is none."""
    names = listed(host, PORTS)
    return next((name for name in names if attribute(host, f"{PORTS}/{name}/name") == PORT), "")


def has_receiver(host: Host) -> bool:
    """Return whether the platform may receive reports: only then what reports is imported."""
    return host.exists(NOTIFY_SOCKET) or bool(port(host))


def changed(name: str, detail: str = "") -> Item:
    """Return an item that was brought to its wanted value."""
    return Item(name, Outcome.CHANGED, detail)


def unchanged(name: str, detail: str = "") -> Item:
    """Return an item that already had its wanted value."""
    return Item(name, Outcome.UNCHANGED, detail)


def kept(name: str, detail: str = KEPT_BY_ADMIN) -> Item:
    """Return an item that the administrator has changed, and that stays so."""
    return Item(name, Outcome.KEPT, detail)


def skipped(name: str, why: str) -> Item:
    """Return an item that was not handled, and why."""
    return Item(name, Outcome.SKIPPED, why)


def failed(name: str, detail: str, hint: str = "") -> Item:
    """Return an item that could not be brought to its wanted value, why, and the remedy."""
    return Item(name, Outcome.FAILED, detail, hint)


def ended_by(name: str, error: AgentError) -> Item:
    """Return the item of work that an error ended: skipped if it is left to the first boot, else failed."""
    if isinstance(error, NeedsProgram):
        return skipped(name, error.message)
    return failed(name, error.message, error.hint)


def guarded(name: str, work: Iterable[Item]) -> Iterator[Item]:
    """Yield the items of ``work``; an AgentError becomes an item, so that the caller goes on."""
    try:
        yield from work
    except AgentError as error:
        yield ended_by(name, error)


@dataclass(frozen=True, slots=True)
class StepReport:
    """The items of one step, and the seconds that it took."""

    step: str
    items: tuple[Item, ...]
    seconds: float

    @property
    def outcome(self) -> Outcome:
        """The items' outcome that comes first in _WEIGHT; unchanged without items."""
        found = {item.outcome for item in self.items}
        return next((outcome for outcome in _PRECEDENCE if outcome in found), Outcome.UNCHANGED)

    @property
    def failed(self) -> bool:
        """Whether any item failed."""
        return self.outcome is Outcome.FAILED

    def lines(self) -> list[str]:
        """Return the report as text: one line, and one for each item that was kept, skipped or failed."""
        worth = [i for i in self.items if i.outcome not in (Outcome.UNCHANGED, Outcome.CHANGED)]
        done = [i for i in self.items if i.outcome is Outcome.CHANGED]
        note = ", ".join(f"{i.name} {i.detail}".strip(" ") for i in done)
        head = f"{self.step}: {self.outcome}" + (f" ({note})" if note else "") + f" [{self.seconds:.2f} s]"
        return [head, *(f"  {item}" for item in worth)]


@dataclass(frozen=True, slots=True)
class StageReport:
    """The steps of one stage, and the seconds that all took together."""

    stage: str
    steps: tuple[StepReport, ...]
    seconds: float

    @property
    def failed(self) -> bool:
        """Whether any step failed."""
        return any(step.failed for step in self.steps)


@dataclass(slots=True)
class StatusFile:
    """status.json; sections are merged under a lock against other threads and processes."""

    host: Host

    def read(self) -> dict[str, Any]:
        """Return the whole document; an empty one of this version if it is missing or damaged."""
        document = parsed_object(self.host.read(STATUS) or "") or {}
        if document.get("version") != VERSION:
            document = {}
        sections = {one: document.get(one) for one in ("stages", "devices", "work", "notes")}
        found = {one: content if isinstance(content, dict) else {} for one, content in sections.items()}
        return document | found | {"version": VERSION}

    def merge(self, section: str, key: str, value: object | None, *, preserve: str = "") -> None:
        """Put ``value`` at section/key (None removes it). ``preserve`` names a field of a record that keeps
        its first value. Raise Busy if the lock is not free in time.
        """
        with _thread_lock, self.host.opened(LOCK, os.O_RDWR | os.O_CREAT, make=True) as lock:
            if not processes.lock(lock, _LOCK_TIMEOUT):
                raise Busy(f"{STATUS}: another process has held {LOCK} for {_LOCK_TIMEOUT:g} s")
            document = self.read()
            entries = document.setdefault(section, {})
            if isinstance(value, dict) and preserve in entries.get(key, {}):
                value |= {preserve: entries[key][preserve]}
            if value is None:
                entries.pop(key, None)
            else:
                entries[key] = value
            # One line: json indents in Python code, at ten times the cost, and this runs often.
            self.host.write(STATUS, json.dumps(document, sort_keys=True) + "\n")

    def stage_started(self, stage: str) -> None:
        """Record that the stage runs in this process; its present step is in section ``work``."""
        value = {"state": "running", "since": int(time.time()), "steps": []} | processes.this_process()
        self.merge("stages", stage, value, preserve="uptime")

    def stage_ended(self, report: StageReport) -> None:
        """Record the report of a stage that has ended. ``uptime`` is when it first ended in this boot, in
        seconds since the kernel started; a later run of the stage does not change it.
        """
        steps = [
            {"step": s.step, "outcome": s.outcome, "seconds": round(s.seconds, 3), "items": items(s.items)}
            for s in report.steps
        ]
        state = "failed" if report.failed else "done"
        value = {
            "state": state,
            "ended": int(time.time()),
            "seconds": round(report.seconds, 3),
            "uptime": round(time.monotonic(), 1),
            "steps": steps,
        }
        self.merge("stages", report.stage, value, preserve="uptime")


def items(records: Iterable[Item]) -> list[dict[str, str]]:
    """Return items as in status.json: empty texts are left out."""
    return [{key: str(value) for key, value in asdict(item).items() if value} for item in records]
