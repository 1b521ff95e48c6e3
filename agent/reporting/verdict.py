"""The verdict of ``gandi-agent status``: one line with the machine's state, and why it is not ready.

Pure functions of the same facts as the rest of the view.
"""

from __future__ import annotations

from agent.host import processes
from agent.lib.records import dataclass, field
from agent.report import NEW_INSTANCE, Outcome
from agent.stages import Stage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: The first word of the line, by the exit status of ``status``.
WORDS = ("ready", "failed", "starting")
#: Names that are listed; the rest is counted.
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts that the view shows. ``document`` is status.json."""

    document: dict[str, Any]
    #: The state of the daemon, as text.
    daemon: str
    #: Unix time of the view, in seconds.
    now: int
    #: "SOURCE ID", or why that is unknown.
    instance: str = ""
    #: Unit -> ActiveState and Result; empty if systemd did not answer.
    units: dict[str, dict[str, str]] = field(default_factory=dict)
    settings_file: str = ""
    #: The settings' problems: the fields of settings.Problem.
    settings: list[dict[str, Any]] = field(default_factory=list)
    #: Whether nothing was new at this boot, so that no stage ran (settled.py).
    settled: bool = False
    #: How many data disks are mounted.
    data_disks: int = 0
    #: Processes of stages and handlers that still exist (processes.key).
    alive: frozenset[tuple[int, int]] = frozenset()


def stage_state(facts: Facts, stage: Stage) -> str:
    """Return done, failed, running, interrupted (its process has died) or waiting (not begun)."""
    entry = facts.document["stages"].get(stage, {})
    state = str(entry.get("state", "done" if facts.settled else "waiting"))
    if state == "running" and processes.key(entry) not in facts.alive:
        state = "interrupted"
    if state in ("waiting", "interrupted") and unit(facts, stage).get("ActiveState") == "failed":
        return "failed"
    return state


def unit(facts: Facts, stage: Stage) -> dict[str, str]:
    """Return systemd's state of the stage's unit."""
    return facts.units.get(f"gandi-{stage}.service", {})


def exit_status(facts: Facts) -> int:
    """Return the exit status of ``status``: 0 all stages done, 1 one failed, 2 some have not ended."""
    states = {stage_state(facts, stage) for stage in Stage}
    if states & {"running", "waiting", "interrupted"}:
        return 2
    return 1 if "failed" in states else 0


def verdict(facts: Facts) -> str:
    """Return the verdict: the state, the duration of the boot or what it waits for, and failures."""
    state = exit_status(facts)
    failures = _failures(facts)
    if WORDS[state] == "starting":
        parts = [_blocker(facts), *failures[:1]]
    else:
        disks = f"{_count(facts.data_disks, 'data disk')} mounted"
        parts = [_boot(facts), disks, *(failures[:1] or ["nothing failed"])]
    text = f"{WORDS[state]}: {', '.join(filter(None, parts))}"
    return "; ".join((text, *failures[1:]))


def _boot(facts: Facts) -> str:
    """Return the duration of the boot; "" if a stage has not ended in it."""
    entries = facts.document["stages"]
    if facts.settled and not entries:
        return "nothing was new at this boot"
    ended = [entries.get(stage, {}).get("uptime") for stage in Stage]
    if None in ended:
        return ""
    return f"{'first boot' if _is_first(entries) else 'boot'} took {max(ended):.1f} s"


def _is_first(stages: dict[str, Any]) -> bool:
    """Return whether this boot has begun a new instance."""
    steps = stages.get(Stage.BOOTSTRAP, {}).get("steps", [])
    items = (item for step in steps if step["step"] == "source" for item in step["items"])
    return any(item.get("detail", "").endswith(NEW_INSTANCE) for item in items)


def _blocker(facts: Facts) -> str:
    """Return the first stage that has not ended, its step, and what that waits for."""
    stage = next(stage for stage in Stage if stage_state(facts, stage) not in ("done", "failed"))
    state, work = stage_state(facts, stage), facts.document["work"].get(stage)
    if state == "waiting":
        return f"stage {stage} has not begun"
    if state == "interrupted":
        return f"stage {stage} was interrupted: its process has died"
    if not work:
        return f"stage {stage} runs"
    waits = f" waits for {work['waiting']}" if work.get("waiting") else " runs"
    since = max(0, facts.now - int(work.get("since", facts.now)))
    return f"stage {stage}, step {work.get('step', '?')}{waits}, since {since} s"


def _failures(facts: Facts) -> list[str]:
    """Return what has failed, by kind: steps with their items, stages that reached no step, devices."""
    steps, stages = list[str](), list[str]()
    for stage in Stage:
        entry = facts.document["stages"].get(stage, {})
        steps += [_step(step) for step in entry.get("steps", []) if step["outcome"] == Outcome.FAILED]
        if stage_state(facts, stage) == "failed" and entry.get("state") != "failed":
            stages.append(f"{stage} ({unit(facts, stage).get('Result', '')})")
    devices = [name for name, entry in sorted(facts.document["devices"].items()) if _has_failed(entry)]
    found = (("step", steps), ("stage", stages), ("device", devices))
    return [f"{_count(len(names), kind)} failed: {_listed(names)}" for kind, names in found if names]


def _step(step: dict[str, Any]) -> str:
    names = [item["name"] for item in step["items"] if item["outcome"] == Outcome.FAILED]
    return str(step["step"]) if names == [step["step"]] else f"{step['step']} ({_listed(names)})"


def _has_failed(entry: dict[str, Any]) -> bool:
    items = entry.get("items", [])
    return Outcome.FAILED in (entry.get("outcome"), *(item["outcome"] for item in items))


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'s' if number > 1 else ''}"
