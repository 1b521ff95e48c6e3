"""The text of the metrics. Pure functions.

Format and names: Prometheus' text exposition format 0.0.4 and its rules for metric names. All labels have
values of the agent's own, so there is nothing to escape.
"""

from __future__ import annotations

import re

from agent.lib.records import dataclass, field
from agent.report import Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

PREFIX = "gandi_agent_"
#: What the detail of an item says when a filesystem or a physical volume has grown (agent/disks/growth).
_GROWN = re.compile(r"(?<![a-z])grown (?:from|by) ")

#: One value of a metric: its labels, and the value as text.
Sample = tuple[dict[str, str], str]


@dataclass(slots=True)
class Counts:
    """What is counted since the machine's boot."""

    #: "ROLE OUTCOME" of handled device events.
    events: dict[str, int] = field(default_factory=dict)
    growths: int = 0
    #: Unix time of the last failed item, in seconds; 0 for none.
    last_error: int = 0


def grown(details: Iterable[str]) -> int:
    """Return how many of the items grew something, by their details."""
    return sum(bool(_GROWN.search(detail)) for detail in details)


def render(version: str, stages: Mapping[str, Any], disks: Mapping[str, int], counts: Counts) -> str:
    """Return the file's text. ``stages`` is that section of the status; ``disks`` has a number for each
    state.
    """
    ended = {name: stages[name] for name in sorted(stages) if stages[name]["state"] in ("done", "failed")}
    families = (
        _family("info", "The version of gandi-agent; always 1.", [({"version": version}, "1")]),
        _family(
            "stage_duration_seconds",
            "Seconds that the last run of a boot stage took.",
            (({"stage": name}, f"{entry['seconds']:.3f}") for name, entry in ended.items()),
        ),
        _family(
            "stage_end_timestamp_seconds",
            "Unix time at which the last run of a boot stage ended.",
            (({"stage": name}, str(int(entry["ended"]))) for name, entry in ended.items()),
        ),
        _family(
            "stage_success",
            "Whether the last run of a boot stage ended without a failed item.",
            (({"stage": name}, str(int(entry["state"] == "done"))) for name, entry in ended.items()),
        ),
        _family("items", "Items of the last run of all stages, by outcome.", _items(ended.values())),
        _family(
            "disks",
            "Data disks, by state.",
            (({"state": state}, str(number)) for state, number in disks.items()),
        ),
        _family(
            "growths_total",
            "Filesystems and volumes grown since the boot.",
            [({}, str(counts.growths))],
        ),
        _family("events_total", "Device events handled since the boot.", _events(counts.events)),
        _family(
            "last_error_timestamp_seconds",
            "Unix time of the last failed item since the boot; 0 without one.",
            [({}, str(counts.last_error))],
        ),
    )
    return "".join(f"{line}\n" for lines in families for line in lines)


def _family(name: str, about: str, samples: Iterable[Sample]) -> Iterator[str]:
    # A counter's name ends so, by the format's rules.
    full, kind = PREFIX + name, "counter" if name.endswith("_total") else "gauge"
    yield f"# HELP {full} {about}"
    yield f"# TYPE {full} {kind}"
    for labels, value in samples:
        inside = ",".join(f'{label}="{text}"' for label, text in labels.items())
        yield f"{full}{{{inside}}} {value}" if inside else f"{full} {value}"


def _items(stages: Iterable[Mapping[str, Any]]) -> Iterator[Sample]:
    found = [item["outcome"] for stage in stages for step in stage["steps"] for item in step["items"]]
    for outcome in Outcome:
        yield {"outcome": str(outcome)}, str(found.count(outcome))


def _events(counted: Mapping[str, int]) -> Iterator[Sample]:
    for name, number in sorted(counted.items()):
        role, _, outcome = name.partition(" ")
        yield {"role": role, "outcome": outcome}, str(number)
