"""Step: spread the periodic jobs of /etc/crontab, which otherwise start at the same minute on all machines.

A machine's times are derived from its identity and do not change. Only jobs at the times that Debian ships,
or that the agent set, are moved. A drop-in does not work here: a second table would run the jobs twice.
"""

from __future__ import annotations

import re
from functools import partial

from agent.host import machine_uuid
from agent.lib.text import words
from agent.report import kept
from agent.state.json_file import digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context
    from agent.host.host import Host
    from agent.report import Item

FILE = "/etc/crontab"
#: As Debian's package cron ships them: minute, hour, day of month, month, day of week.
SHIPPED = {
    "hourly": ("17", "*", "*", "*", "*"),
    "daily": ("25", "6", "*", "*", "*"),
    "weekly": ("47", "6", "*", "*", "7"),
    "monthly": ("52", "6", "1", "*", "*"),
}
#: At night. Not two o'clock: where clocks change, there are nights without it, and nights with two.
HOURS = (0, 1, 3, 4, 5, 6)
_JOB = r"(?m)^((?:[^ \t\n#][^ \t\n]*[ \t]+){5})(?=root[ \t].*/etc/cron\.(hourly|daily|weekly|monthly)\b)"


def apply(ctx: Context) -> Iterator[Item]:
    """Reconcile each job's time as one item; yield nothing if there is no /etc/crontab."""
    text = ctx.host.read(FILE)
    if text is None or not (seed := _seed(ctx)):
        return
    for found in re.finditer(_JOB, text, re.ASCII):
        yield _reconcile(ctx, found[2], tuple(words(found[1])), seed)


def _reconcile(ctx: Context, job: str, live: tuple[str, ...], seed: str) -> Item:
    state, name, now = ctx.state.system(), f"cron:{job}", " ".join(live)
    if live != SHIPPED[job] and live != spread_times(job, seed) and not state.is_as_applied(name, now):
        return kept(name)
    wanted = " ".join(spread_times(job, seed))
    return state.reconcile(
        name,
        delivered=seed,
        wanted=wanted,
        live=now,
        apply=partial(_write, ctx.host, job, wanted),
        detail=wanted,
    )


def spread_times(job: str, seed: str) -> tuple[str, ...]:
    """Return the five time fields of a job for a machine's seed."""
    number = int(digest(f"{seed}\n{job}")[:12], 16)
    _, hour, *days = SHIPPED[job]
    return (str(number % 60), hour if hour == "*" else str(HOURS[number // 60 % len(HOURS)]), *days)


def _seed(ctx: Context) -> str:
    """Return what identifies this machine for good: the instance's identity, else the DMI UUID, else the
    machine-id; "" if there is none.
    """
    now = ctx.state.identity()
    return (
        f"{now.source} {now.id}"
        if now
        else machine_uuid.read_uuid(ctx.host) or machine_uuid.fallback_id(ctx.host)
    )


def _write(host: Host, job: str, wanted: str) -> None:
    there, (minute, hour, *days) = host.read_file(FILE), words(wanted)

    def line(found: re.Match[str]) -> str:
        return f"{minute} {hour}\t{' '.join(days)}\t" if found[2] == job else found[0]

    if there is not None:
        text = there.content.decode("utf-8", "surrogateescape")
        host.write(FILE, re.sub(_JOB, line, text, flags=re.ASCII), mode=there.mode)
