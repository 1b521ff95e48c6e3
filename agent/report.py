"""Each outcome is a record: what was done, or why not, and what to do about it.

The report lives in /run/gandi/status.json (0644, versioned, no secrets): one section for each stage, one
for each device. Whoever runs a stage (the daemon, or the stage client when the daemon is dead) merges
its own section under a lock. ``journal`` and ``notify`` say the same to the journal and to systemctl
status.
"""

from __future__ import annotations

import json
import os
import threading
import time
from enum import StrEnum

from agent.host import processes
from agent.lib import timed_wait
from agent.lib.errors import AgentError, Busy
from agent.lib.records import asdict, dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from agent.host.host import Host

STATUS = "/run/gandi/status.json"
LOCK = "/run/gandi/status.lock"
#: Raised when a reader of the old shape would misread the new one.
VERSION = 1
#: Seconds to wait for another writer, who needs milliseconds.
_LOCK_TIMEOUT = 5.0
#: The threads of a process wait here, and are woken at once; another process is looked for now and then.
_turn = threading.Lock()


class Outcome(StrEnum):
    """How one item ended."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"
    KEPT = "kept"
    SKIPPED = "skipped"
    FAILED = "failed"


#: The outcome of a step is that of its item that stands first here.
_WEIGHT = (Outcome.FAILED, Outcome.CHANGED, Outcome.KEPT, Outcome.UNCHANGED, Outcome.SKIPPED)
KEPT_BY_ADMIN = "changed by admin"
#: Ends the source step's detail in the boot that begins a new instance: its first boot.
NEW_INSTANCE = "a new instance"


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that was looked at: ``name`` says which, ``detail`` what happened or why not. Never a
    secret.
    """

    name: str
    outcome: Outcome
    detail: str = ""
    hint: str = ""

    def __str__(self) -> str:
        text = f"{self.outcome}: {self.name}" + (f": {self.detail}" if self.detail else "")
        return text + (f" ({self.hint})" if self.hint else "")


def changed(name: str, detail: str = "") -> Item:
    """An item that was made as it should be."""
    return Item(name, Outcome.CHANGED, detail)


def unchanged(name: str, detail: str = "") -> Item:
    """An item that already was as it should be."""
    return Item(name, Outcome.UNCHANGED, detail)


def kept(name: str, detail: str = KEPT_BY_ADMIN) -> Item:
    """An item that differs from what was delivered because the administrator wants it so."""
    return Item(name, Outcome.KEPT, detail)


def skipped(name: str, why: str) -> Item:
    """An item that was not looked at, and why."""
    return Item(name, Outcome.SKIPPED, why)


def failed(name: str, detail: str, hint: str = "") -> Item:
    """An item that could not be made as it should be, and the remedy."""
    return Item(name, Outcome.FAILED, detail, hint)


def guarded(name: str, work: Iterable[Item]) -> Iterator[Item]:
    """The items of ``work``; an error that ends it becomes one, so that what comes after is still done."""
    try:
        yield from work
    except AgentError as error:
        yield failed(name, error.message, error.hint)


@dataclass(frozen=True, slots=True)
class StepReport:
    """What one step did, item by item, and how long it took in seconds."""

    step: str
    items: tuple[Item, ...]
    seconds: float

    @property
    def outcome(self) -> Outcome:
        """The weightiest of the items' outcomes; a step that found nothing to look at is unchanged."""
        found = {item.outcome for item in self.items}
        return next((outcome for outcome in _WEIGHT if outcome in found), Outcome.UNCHANGED)

    @property
    def failed(self) -> bool:
        """Whether any item failed."""
        return self.outcome is Outcome.FAILED

    def lines(self) -> list[str]:
        """The step for people: one line, and one more for each item that is not plainly fine."""
        worth = [i for i in self.items if i.outcome not in (Outcome.UNCHANGED, Outcome.CHANGED)]
        done = [i for i in self.items if i.outcome is Outcome.CHANGED]
        note = ", ".join(f"{i.name} {i.detail}".strip(" ") for i in done)
        head = f"{self.step}: {self.outcome}" + (f" ({note})" if note else "") + f" [{self.seconds:.2f} s]"
        return [head, *(f"  {item}" for item in worth)]


@dataclass(frozen=True, slots=True)
class StageReport:
    """A whole stage. ``seconds`` is wall-clock time."""

    stage: str
    steps: tuple[StepReport, ...]
    seconds: float

    @property
    def failed(self) -> bool:
        """Whether any step failed."""
        return any(step.failed for step in self.steps)


@dataclass(slots=True)
class StatusFile:
    """status.json, merged section by section; safe against another runner in another process."""

    host: Host

    def read(self) -> dict[str, Any]:
        """The whole document; an absent or damaged one is an empty one of this version."""
        text = self.host.read(STATUS)
        try:
            document = json.loads(text) if text else {}
        except ValueError:
            document = {}
        if not isinstance(document, dict) or document.get("version") != VERSION:
            document = {}
        empty: dict[str, Any] = {"version": VERSION, "stages": {}, "devices": {}, "work": {}, "notes": {}}
        return empty | document

    def merge(self, section: str, key: str, value: object | None, *, once: str = "") -> None:
        """Put ``value`` at section/key (None removes it). ``once`` names a field of a record that keeps the
        first value that it had. Raises Busy when another writer does not end.
        """
        self.host.mkdir("/run/gandi")
        with _turn, self.host.opened(LOCK, os.O_RDWR | os.O_CREAT) as lock:
            if not timed_wait.lock(lock, _LOCK_TIMEOUT):
                raise Busy(f"{STATUS}: another process has held {LOCK} for {_LOCK_TIMEOUT:g} s")
            document = self.read()
            entries = document.setdefault(section, {})
            if isinstance(value, dict) and once in entries.get(key, {}):
                value |= {once: entries[key][once]}
            if value is None:
                entries.pop(key, None)
            else:
                entries[key] = value
            # One line: the library lays text out in Python, at ten times the price, and this is often.
            self.host.write(STATUS, json.dumps(document, sort_keys=True) + "\n")

    def stage_started(self, stage: str) -> None:
        """The stage runs now, in this process; ``work`` names a step that lasts."""
        value = {"state": "running", "since": int(time.time()), "steps": []} | processes.me()
        self.merge("stages", stage, value, once="uptime")

    def stage_ended(self, report: StageReport) -> None:
        """The stage has ended; its steps become the record. ``uptime`` is when it first ended in this boot,
        in seconds since the kernel started: a stage that is run again later leaves it as it is.
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
        self.merge("stages", report.stage, value, once="uptime")


def items(records: Iterable[Item]) -> list[dict[str, str]]:
    """Items as status.json spells them: empty texts are left out."""
    return [{key: str(value) for key, value in asdict(item).items() if value} for item in records]
