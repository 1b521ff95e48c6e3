"""The records, made of status.json's items alone, which have no secret. Format: docs/report.md."""

from __future__ import annotations

import time

from agent.lib.text import printable
from agent.report import Outcome
from agent.reporting.verdict import WORDS, exit_status, verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from agent.report import StepReport
    from agent.reporting.verdict import Facts

    #: One record: the fields of its line of JSON. Texts are printable, on one line, and bounded.
    Record = dict[str, Any]

#: To be raised when a program on the host would misread the new format.
VERSION = 1
#: The value of ``type``.
STAGE, ITEM, DEVICE, BOOT = "stage", "item", "device", "boot"
#: Most characters of a text; the verdict has several names.
_TEXT, _VERDICT = 500, 2000
#: Results of a device's item that are reported: the others have changed nothing.
_OUTCOMES = (Outcome.CHANGED, Outcome.FAILED)


def of_stage(stage: str, entry: Mapping[str, Any]) -> Iterator[Record]:
    """Yield a record for each failed item of a stage that has ended, and then its own. ``entry`` is the
    stage's in status.json.
    """
    for step in entry.get("steps", ()):
        for item in step["items"]:
            if item["outcome"] == Outcome.FAILED:
                yield _record(ITEM, stage=stage, step=step["step"], result="failed") | _texts(item)
    yield _record(STAGE, stage=stage, result=entry["state"], seconds=entry["seconds"])


def of_unrun(stage: str, message: str, hint: str) -> Iterator[Record]:
    """Yield the records of a stage that could not be run."""
    item = {"name": f"stage {stage}", "detail": message, "hint": hint}
    yield _record(ITEM, stage=stage, step="", result="failed") | _texts(item)
    yield _record(STAGE, stage=stage, result="failed", seconds=0.0)


def of_device(device: str, role: str, action: str, report: StepReport) -> Iterator[Record]:
    """Yield a record for each changed and each failed item of a device."""
    for item in report.items:
        if item.outcome in _OUTCOMES:
            head = _record(DEVICE, device=device, role=role, action=action, result=str(item.outcome))
            yield head | _texts({"name": item.name, "detail": item.detail, "hint": item.hint})


def of_boot(facts: Facts) -> Record | None:
    """Return the record of the end of a boot; None as long as a stage has not ended."""
    status = exit_status(facts)
    if WORDS[status] == "starting":
        return None
    return _record(BOOT, result=WORDS[status], verdict=_shown(verdict(facts), _VERDICT))


def ready(result: str, verdict: str) -> Record:
    """Return the record that everything is done, for a receiver to which systemd has reported it too."""
    return _record(BOOT, result=result, verdict=verdict, ready=True)


def _record(kind: str, **values: object) -> Record:
    moment = {"time": int(time.time()), "uptime": round(time.monotonic(), 1)}
    return {"version": VERSION, "type": kind} | moment | values


def _texts(item: Mapping[str, str]) -> dict[str, str]:
    texts = {"item": item["name"], "detail": item.get("detail", ""), "hint": item.get("hint", "")}
    return {name: _shown(text) for name, text in texts.items() if text}


def _shown(text: str, most: int = _TEXT) -> str:
    return printable(text)[:most]
