"""Count what a stage or a device event did, and replace the file of CONFIG_METRICS_FILE.

It is written when something has changed, never by a timer. The file outlives the boot on purpose: a boot in
which nothing is new runs no stage and does not write it, and each stage has the time of its end.
"""

from __future__ import annotations

import json
import os
import stat
import time

from agent import __version__
from agent.disks.base.record import DiskState, Records, exclusive
from agent.disks.decide import mounted_data_disks
from agent.lib.canonical_json import parsed
from agent.lib.errors import HostError
from agent.lib.text import number
from agent.metrics import exposition
from agent.metrics.exposition import Counts
from agent.report import Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from agent.context import Context
    from agent.host.host import Host
    from agent.report import Item, StageReport, StepReport

#: What is counted since the boot. A lock is held while it and the metrics are written.
COUNTS = "/run/gandi/metrics.json"
#: Seconds to wait for another writer, which needs milliseconds.
_LOCK_TIMEOUT = 5.0
#: Bytes that are read of the counts.
_LIMIT = 1 << 16
#: States by the agent's records; the mounted ones are those of the kernel.
_RECORDED = (DiskState.OFFERED, DiskState.ANNOUNCED, DiskState.RELEASED, DiskState.REMOVED)


def stage_ended(ctx: Context, report: StageReport) -> None:
    """Count a stage's items and write the file. Raise HostError."""
    _update(ctx, [item for step in report.steps for item in step.items])


def event_ended(ctx: Context, role: str, report: StepReport) -> None:
    """Count a device event with its items and write the file. Raise HostError."""
    _update(ctx, report.items, event=f"{role} {report.outcome}")


def _update(ctx: Context, items: Sequence[Item], *, event: str = "") -> None:
    with exclusive(ctx.host, "metrics", _LOCK_TIMEOUT):
        write(ctx, counted(_read(ctx.host), items, event))


def counted(before: Counts, items: Iterable[Item], event: str) -> Counts:
    """Return the counts with these items, and with the event if there is one."""
    events = dict(before.events)
    if event:
        events[event] = events.get(event, 0) + 1
    done = list(items)
    growths = exposition.grown(item.detail for item in done if item.outcome is Outcome.CHANGED)
    has_failed = any(item.outcome is Outcome.FAILED for item in done)
    return Counts(events, before.growths + growths, int(time.time()) if has_failed else before.last_error)


def write(ctx: Context, counts: Counts) -> None:
    """Store the counts, and replace the file (0644). Raise HostError, also if users can change its folder:
    they could then have another file of root's replaced.
    """
    host, name, document = ctx.host, ctx.settings.metrics_file, ctx.status.read()
    known = {"events": counts.events, "growths": counts.growths, "last_error": counts.last_error}
    host.write(COUNTS, json.dumps(known, sort_keys=True) + "\n")
    text = exposition.render(__version__, document["stages"], _disks(ctx, document), counts)
    try:
        with host.place(name, follow=False) as place:
            folder = os.fstat(place.folder)
            if folder.st_uid not in (0, os.geteuid()) or folder.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise HostError(
                    f"CONFIG_METRICS_FILE: {os.path.dirname(name)} is not root's alone: not written",
                    hint="use a folder that belongs to root and that only root can change",
                )
            host.write_at(place, text.encode(), mode=0o644, owner=(0, 0))
    except OSError as error:
        raise HostError(
            f"CONFIG_METRICS_FILE: {name}: cannot be written: {error.strerror}", hint="make its folder"
        ) from error


def _read(host: Host) -> Counts:
    """Return the counts so far; none if their file is missing or damaged."""
    try:
        found = parsed(host.read(COUNTS, limit=_LIMIT) or "{}")
        return Counts(
            {str(name): int(number) for name, number in found.get("events", {}).items()},
            int(found.get("growths", 0)),
            int(found.get("last_error", 0)),
        )
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return Counts()


def _disks(ctx: Context, document: Mapping[str, Any]) -> dict[str, int]:
    """Return how many data disks are in each state."""
    records = Records(ctx.host)
    states = [record.state for record in (records.all() | records.removed()).values()]
    found = {"mounted": mounted_data_disks(ctx)}
    found |= {str(state): states.count(state) for state in _RECORDED}
    return found | {"failed": len(_failed(document))}


def _failed(document: Mapping[str, Any]) -> set[str]:
    """Return the disks with a failure: what an event has found since the mount stage counts."""
    steps = document["stages"].get("mount", {}).get("steps", ())
    items = [item for step in steps for item in step["items"]]
    failed = {item["name"] for item in items if item["outcome"] == Outcome.FAILED}
    devices = {name: entry for name, entry in document["devices"].items() if entry.get("role") == "disk"}
    later = {name for name, entry in devices.items() if entry.get("outcome") == Outcome.FAILED}
    return {name for name in failed if not any(_is_of(name, disk) for disk in devices)} | later


def _is_of(name: str, disk: str) -> bool:
    """Return whether it is the disk's name or a partition's: nvme0n1p1 and vda1, but not sdaa of sda."""
    rest = name.removeprefix(disk)
    return name.startswith(disk) and (not rest or number(rest.removeprefix("p")) is not None)
