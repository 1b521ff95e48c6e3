"""The verbs about attached disks and other resources: tables, and detaching or mounting a disk by hand."""

from __future__ import annotations

import os
import time

from agent.context import context, record
from agent.host import terminal
from agent.lib.records import asdict
from agent.lib.text import gib, printable
from agent.report import Item, Outcome, StepReport
from agent.systemd.journal import Journal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent.context import Context
    from agent.disks.survey import Row
    from agent.host.host import Host

#: Outcomes of success.
_FINE = frozenset({Outcome.CHANGED, Outcome.UNCHANGED})
#: Largest width of a column, in characters: a label may have 255.
_WIDEST = 40


def disks(host: Host, *, as_json: bool) -> int:
    """Print each disk's state, what the agent does with it, and why. Return 0."""
    from agent.disks import survey

    rows = survey.disks(context(host))
    if as_json:
        terminal.print_json([asdict(row) for row in rows])
    elif rows:
        table = [
            (row.device, _size(row), _content(row), row.state, row.mountpoint, row.reason) for row in rows
        ]
        _table(("DEVICE", "SIZE", "CONTENT", "STATE", "MOUNTPOINT", "WHY"), table)
    else:
        terminal.print_lines("no disks")
    return 0


def resources(host: Host, *, as_json: bool) -> int:
    """Print the same for disks, CPUs, memory and NICs. Return 0."""
    from agent.disks import survey

    found = survey.resources(context(host))
    if as_json:
        terminal.print_json([asdict(resource) for resource in found])
    else:
        table = [(r.kind, r.name, r.state, r.decision, r.reason) for r in found]
        _table(("KIND", "NAME", "STATE", "DECISION", "WHY"), table)
    return 0


def detach(host: Host, what: str) -> int:
    """Release a disk; return 0, or 1 if that is impossible and nothing was changed."""
    from agent.disks import detach

    os.chdir("/")  # started in a folder of the disk, this process would keep it busy
    ctx = context(host)
    return _print_items(ctx, "detach", detach.detach(ctx, what))


def mount(host: Host, what: str) -> int:
    """Mount a released or unmounted disk; return 0, or 1 if it is then neither mounted nor in autofs."""
    from agent.disks import detach

    ctx = context(host)
    return _print_items(ctx, "mount", detach.take_back(ctx, what))


def _print_items(ctx: Context, verb: str, work: Iterable[Item]) -> int:
    """Print each item as it is done, and return the exit status.

    For detach the last item decides: a hook that failed is printed, and the disk is released nevertheless.
    """
    done, begun = list[Item](), time.monotonic()
    for item in work:
        terminal.print_lines(item)
        done.append(item)
    report = StepReport(verb, tuple(done), time.monotonic() - begun)
    Journal(ctx.host).device(verb, report)
    if done and ctx.settings.metrics_file:
        from agent.metrics import file as metrics

        record(ctx, lambda: metrics.event_ended(ctx, "disk", report))
    if not done:
        terminal.print_lines("nothing on it to mount")
        return 1
    outcomes = {item.outcome for item in done}
    if verb == "detach":
        return int(done[-1].outcome is Outcome.FAILED)
    return int(Outcome.FAILED in outcomes or not outcomes & _FINE)


def _size(row: Row) -> str:
    return gib(row.size) if row.size else "-"


def _content(row: Row) -> str:
    return " ".join(word for word in (row.fstype, repr(row.label) if row.label else "") if word) or "-"


def _table(head: Sequence[str], table: Sequence[Sequence[str]]) -> None:
    """Print aligned columns; a cell longer than ``_WIDEST`` does not widen its column."""
    lines = [head, *([printable(cell) or "-" for cell in line] for line in table)]
    widths = [
        max(len(line[column]) for line in lines if len(line[column]) <= _WIDEST)
        for column in range(len(head))
    ]
    terminal.print_lines(
        *(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip(" ")
            for line in lines
        )
    )
