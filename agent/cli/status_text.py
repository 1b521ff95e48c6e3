"""The text of ``gandi-agent status``: pure functions of ``Facts``."""

from __future__ import annotations

from agent.host import processes
from agent.report import Outcome
from agent.reporting.verdict import stage_state, unit
from agent.stages import NO_STEPS, Stage
from agent.state.settled import NOTHING_NEW

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agent.reporting.verdict import Facts

#: Outcomes that need no line of their own.
_PLAIN = (Outcome.UNCHANGED, Outcome.CHANGED)


def unfinished(facts: Facts) -> list[str]:
    """Return a line for each stage that has not ended: its step, and what that waits for."""
    lines = []
    for stage in Stage:
        state = stage_state(facts, stage)
        if state in ("done", "failed"):
            continue
        text = f"stage {stage}: {'not begun' if state == 'waiting' else state}"
        work = facts.document["work"].get(stage)
        if work:
            text += f", {_at(work, facts.now)}"
        lines.append(text)
    return lines


def render(facts: Facts) -> list[str]:
    """Return the lines of the whole view, without the verdict."""
    lines = [f"instance: {facts.instance or 'none yet'}", f"daemon: {facts.daemon}", ""]
    for stage in Stage:
        lines += _stage(facts, stage)
    devices = facts.document["devices"]
    if devices:
        lines += [
            "",
            "devices:",
            *(line for name in sorted(devices) for line in _device(name, devices[name])),
        ]
    work = {
        n: w
        for n, w in facts.document["work"].items()
        if n not in list(Stage) and processes.key(w) in facts.alive
    }
    if work:
        lines += ["", "at work:", *(f"  {name}: {_at(w, facts.now)}" for name, w in sorted(work.items()))]
    if facts.settings:
        lines += ["", "settings:", *(f"  {problem(facts.settings_file, p)}" for p in facts.settings)]
    notes = {name: text for name, text in facts.document["notes"].items() if name != "settings"}
    if notes:
        lines += ["", "notes:", *(f"  {name}: {note}" for name, note in sorted(notes.items()))]
    return lines


def _stage(facts: Facts, stage: Stage) -> list[str]:
    entry, state = facts.document["stages"].get(stage, {}), stage_state(facts, stage)
    if not entry and state == "done":
        return [f"{stage}: {NOTHING_NEW}"]
    if state in ("done", "failed") and entry.get("state") == state:
        steps = entry.get("steps", [])
        note = "" if steps else f" ({NO_STEPS})"
        return [f"{stage}: {state}{note} [{entry['seconds']:.2f} s]", *(x for s in steps for x in _step(s))]
    if state == "failed":
        return [
            f"{stage}: failed ({unit(facts, stage).get('Result', '')}; see: systemctl status gandi-{stage})"
        ]
    work = facts.document["work"].get(stage)
    text = "not begun" if state == "waiting" else state
    return [f"{stage}: {text}" + (f", {_at(work, facts.now)}" if work else "")]


def _step(step: dict[str, Any]) -> list[str]:
    lines = [f"  {_item(item)}" for item in step["items"] if item["outcome"] not in _PLAIN]
    if not lines:
        return []
    return [
        f"  {step['step']}: {step['outcome']} [{step['seconds']:.2f} s]",
        *(f"  {line}" for line in lines),
    ]


def _device(name: str, entry: dict[str, Any]) -> list[str]:
    items, outcome = entry.get("items", []), entry.get("outcome", "")
    if len(items) == 1 and items[0]["outcome"] == outcome:
        return [f"  {name}: {_item(items[0], of=name)}"]
    return [f"  {name}: {outcome}", *(f"    {_item(item)}" for item in items)]


def _item(item: dict[str, str], *, of: str = "") -> str:
    """Return an item's line, without its name if that is ``of``."""
    name = item["name"] if item["name"] != of else ""
    hint = f" ({item['hint']})" if item.get("hint") else ""
    return ": ".join(filter(None, (item["outcome"], name, item.get("detail")))) + hint


def _at(work: dict[str, Any], now: int) -> str:
    text = f"at {work.get('step', '?')}"
    if work.get("waiting"):
        text += f", waiting for {work['waiting']}"
    return f"{text}, since {max(0, now - int(work.get('since', now)))} s"


def problem(file: str, found: dict[str, Any]) -> str:
    """Return the line of a problem in the settings."""
    hint = f" ({found['hint']})" if found.get("hint") else ""
    return f"{file}:{found['line']}: {found['message']}{hint}"
