"""A boot's whole timeline, from what is recorded of it. Pure functions."""

from __future__ import annotations

import os

from agent.lib.records import dataclass, field, replace
from agent.lib.text import lines, number, words
from agent.stages import Stage
from agent.systemd.journal import Message
from agent.systemd.units import of_path
from agent.timeline import critical, recorded
from agent.timeline.critical import Part
from agent.timeline.events import AGENT, Event, events

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from agent.timeline.recorded import Entry, Unit

#: The unit of the document's programs (agent/steps/script.py).
PROGRAMS = "gandi-script.service"
_STAGE_MESSAGES = (Message.STAGE_ENDED, Message.STAGE_FAILED)


@dataclass(frozen=True, slots=True)
class Records:
    """What is recorded: the outputs of systemctl(1) and journalctl(1), the status, and what udev has."""

    manager: str
    units: str
    journal: str
    kernel: str
    status: Mapping[str, Any]
    #: Content of /run/gandi/programs.ended: name, exit status, seconds.
    programs: str
    #: Device -> seconds at which udev had it.
    ready: Mapping[str, float]
    #: The folder below which data disks are mounted.
    disk_root: str
    #: Unix time at which the kernel started.
    offset: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """Where a boot's time went, in seconds since the kernel started."""

    #: The unit by which ssh was reachable, and when, as systemd measured it; "" and 0 if it is not.
    goal: str
    reached: float
    #: The end of the boot; 0 while it has not ended.
    finished: float
    #: The critical path to ``goal``.
    path: tuple[Part, ...] = ()
    stages: tuple[Part, ...] = ()
    disks: tuple[Part, ...] = ()
    scripts: tuple[Part, ...] = ()
    events: tuple[Event, ...] = ()
    #: What is missing, and why.
    notes: tuple[str, ...] = field(default=())


def timeline(records: Records) -> Timeline:
    """Return the timeline; a record that is missing costs its own part alone."""
    own, kernel = recorded.entries(records.journal), recorded.entries(records.kernel)
    manager = recorded.manager(records.manager)
    units = recorded.units(records.units)
    for name in {*critical.candidates(units), AGENT} & units.keys():
        units[name] = recorded.first_start(units[name], (*kernel, *own))
    stages = tuple(_stages(records.status.get("stages", {}), own))
    goal = critical.goal(units)
    parts = critical.path(manager, units)
    return Timeline(
        goal.name if goal else "",
        goal.end if goal else 0.0,
        manager.finished,
        tuple(_with_steps(part, stages, units.get(AGENT)) for part in parts),
        stages,
        tuple(sorted(_disks(units, records.disk_root), key=lambda part: part.begin)),
        tuple(_programs(records.programs, own)),
        events(own, kernel, records.status.get("devices", {}), records.ready, records.offset),
        tuple(_notes(goal, parts, stages)),
    )


def _notes(goal: Unit | None, parts: Sequence[Part], stages: Sequence[Part]) -> Iterator[str]:
    if goal is None:
        yield f"none of {', '.join(critical.GOALS)} was started in this boot"
    elif not parts:
        yield "systemd did not say when this boot began: there is no critical path"
    if not stages:
        yield "no stage has ended in this boot: nothing was new, or see gandi-agent status"


# -- stages --------------------------------------------------------------------------------------


def _stages(status: Mapping[str, Any], own: Iterable[Entry]) -> Iterator[Part]:
    """Yield each stage that has ended, with its steps. The last run of a stage is the one in the status.

    Without the journal, the end is that in the status, to a tenth of a second.
    """
    ends = {entry.get("GANDI_STAGE"): entry.at for entry in own if entry.message in _STAGE_MESSAGES}
    for stage in Stage:
        entry = status.get(stage, {})
        if entry.get("state") not in ("done", "failed"):
            continue
        end = ends.get(stage) or float(entry.get("uptime", 0.0))
        begin = max(0.0, end - float(entry.get("seconds", 0.0)))
        note = "failed" if entry["state"] == "failed" else ""
        yield Part(
            str(stage), begin, end, note=note, inner=tuple(_steps(entry.get("steps", ()), begin, end))
        )


def _steps(steps: Iterable[Mapping[str, Any]], begin: float, end: float) -> Iterator[Part]:
    """Yield the steps one after the other: their order and seconds are recorded."""
    for step in steps:
        begin, before = min(end, begin + float(step.get("seconds", 0.0))), begin
        note = "failed" if step.get("outcome") == "failed" else ""
        yield Part(str(step.get("step", "")), before, begin, note=note)


def _with_steps(part: Part, stages: Iterable[Part], daemon: Unit | None) -> Part:
    """Return the part of a stage's unit with what happened in it: the daemon's start, and the steps."""
    stage = next((one for one in stages if part.name == f"gandi-{one.name}.service"), None)
    if stage is None:
        return part
    start = [Part("the daemon starts", daemon.begin, daemon.end)] if daemon and daemon.end else []
    inner = (_clipped(one, part) for one in (*start, *stage.inner))
    return replace(part, inner=tuple(one for one in inner if one.seconds > 0))


def _clipped(one: Part, within: Part) -> Part:
    begin = min(max(one.begin, within.begin), within.end)
    return replace(one, begin=begin, end=max(begin, min(one.end, within.end)))


# -- disks and programs --------------------------------------------------------------------------


def _disks(units: Mapping[str, Unit], root: str) -> Iterator[Part]:
    """Yield the mounts of data disks; before each, it is noted when udev had its device."""
    for unit in units.values():
        if not unit.end or os.path.dirname(unit.where) != root.rstrip("/"):
            continue
        device = units.get(of_path(unit.what, "device"))
        ready = f", ready at {device.end:.3f} s" if device and device.end else ""
        yield Part(unit.where, unit.begin, unit.end, note=f"{unit.what}{ready}")


def _programs(ended: str, own: Sequence[Entry]) -> Iterator[Part]:
    """Yield the document's programs. They run one after the other in one unit, and the journal has its
    times; their own seconds are whole ones.
    """
    mine = [entry for entry in own if entry.get("UNIT") == PROGRAMS]
    begun = [entry.at for entry in mine if entry.message == recorded.STARTED]
    if not begun:
        return
    begin = begun[-1]
    ends = [entry.at for entry in mine if entry.message in (recorded.ENDED, recorded.FAILED)]
    last = next((at for at in ends if at >= begin), 0.0)
    rows = [row for row in map(words, lines(ended)) if len(row) == 3]
    for place, (name, status, seconds) in enumerate(rows, start=1):
        end = begin + (number(seconds) or 0)
        if last:
            end = last if place == len(rows) else min(end, last)
        yield Part(name, begin, end, note=f"exit status {status}")
        begin = end
