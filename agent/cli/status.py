"""``gandi-agent status``: gather the state; works without the daemon and for users other than root."""

from __future__ import annotations

import os
import time

from agent.cli import status_text
from agent.context import context
from agent.daemon import control_socket
from agent.disks.decide import mounted_data_disks
from agent.host import processes, terminal
from agent.lib.errors import HostError
from agent.lib.records import asdict
from agent.lib.text import lines
from agent.report import STATUS
from agent.reporting import verdict
from agent.stages import Stage
from agent.state import settled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agent.context import Context
    from agent.host.host import Host

#: Seconds that --wait waits by default.
WAIT = 300.0
#: Seconds between two checks of --wait, each one stat(). The standard library has no inotify, and the
#: daemon, which could notify, may be dead or closed to the user.
_POLL_INTERVAL = 0.25
#: Seconds between two queries of systemd while waiting.
_SYSTEMD_INTERVAL = 5.0
#: State of a daemon that has exited because it was idle.
NOT_RUNNING = "at rest (systemd starts it for the next device event or request)"
_UNITS = tuple(f"gandi-{stage}.service" for stage in Stage)


def status(host: Host, *, form: str, wait: float | None) -> int:
    """Print the state. ``form``: short (the verdict alone), text (the whole view) or json.

    Return the exit status: 0 (done), 1 (failed) or 2 (not ended, with ``wait`` after that many seconds).
    """
    ctx = context(host)
    facts = _wait(ctx, wait) if wait is not None else gather_facts(ctx)
    match form:
        case "json":
            terminal.print_json(document(facts), sort_keys=True)
        case "short":
            terminal.print_lines(verdict.verdict(facts))
        case _:
            terminal.print_lines(*text(facts))
            if wait is not None and verdict.exit_status(facts) == 2:
                for line in status_text.unfinished(facts):
                    terminal.print_lines(f"still running after {wait:g} s: {line}")
    return verdict.exit_status(facts)


def text(facts: verdict.Facts) -> list[str]:
    """Return the lines of the text form: the verdict, then the whole view."""
    return [verdict.verdict(facts), *status_text.render(facts)]


def gather_facts(ctx: Context) -> verdict.Facts:
    """Return the current state of everything that the view shows."""
    # Query the daemon first: it then writes its work in progress to the status.
    daemon = _daemon(ctx.host, ctx.status.read())
    document = ctx.status.read()
    ctx.settings_file.current()
    at_work = (*document["work"].values(), *document["stages"].values())
    return verdict.Facts(
        document=document,
        daemon=daemon,
        now=int(time.time()),
        instance=_instance(ctx),
        units=_units(ctx.host),
        settings_file=ctx.settings_file.name,
        settled=settled.is_settled(ctx.host),
        data_disks=mounted_data_disks(ctx),
        settings=[asdict(problem) for problem in ctx.settings_file.problems],
        alive=frozenset(processes.key(entry) for entry in at_work if processes.is_alive(entry)),
    )


def _wait(ctx: Context, seconds: float) -> verdict.Facts:
    """Return the facts once all stages have ended, or after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        facts, stamp, checked_at = gather_facts(ctx), _modification_times(ctx), time.monotonic()
        if verdict.exit_status(facts) != 2:
            return facts
        while _modification_times(ctx) == stamp and time.monotonic() - checked_at < _SYSTEMD_INTERVAL:
            left = deadline - time.monotonic()
            if left <= 0:
                return gather_facts(ctx)
            time.sleep(min(_POLL_INTERVAL, left))


def _modification_times(ctx: Context) -> tuple[int, int]:
    """Return a value that changes whenever status.json is replaced."""
    try:
        info = os.stat(ctx.host.path(STATUS))
    except OSError:
        return (0, 0)
    return info.st_ino, info.st_mtime_ns


def document(facts: verdict.Facts) -> dict[str, object]:
    """Return what --json prints: status.json, and what is not in that file."""
    return facts.document | {
        "instance": facts.instance,
        "daemon": facts.daemon,
        "units": facts.units,
        "settings": {"file": facts.settings_file, "problems": facts.settings},
        "states": {stage: verdict.stage_state(facts, stage) for stage in Stage},
        "state": verdict.WORDS[verdict.exit_status(facts)],
        "verdict": verdict.verdict(facts),
    }


def _daemon(host: Host, document: dict[str, Any]) -> str:
    process = document.get("daemon", {}).get("process", {})
    if not processes.is_alive(process):
        return NOT_RUNNING if "left" in process or host.exists(settled.ASLEEP) else "not running"
    pid = process["pid"]
    if processes.state(pid) in ("T", "t"):
        return f"stopped (process {pid}); systemd's watchdog ends it"
    try:
        answers = control_socket.ping(host)
    except PermissionError:  # not root: it is only known that the process exists
        return f"running (process {pid})"
    return f"running (process {pid})" + ("" if answers else ", but it does not answer")


def _instance(ctx: Context) -> str:
    try:
        identity = ctx.state.identity()
    except HostError as error:
        return "shown to root only" if os.geteuid() else str(error)
    return f"{identity.source} {identity.id}" if identity else ""


def _units(host: Host) -> dict[str, dict[str, str]]:
    """Return systemd's state of the stages' units; empty if it does not answer (an image, early boot)."""
    command = ("systemctl", "show", "--property=Id,ActiveState,Result", *_UNITS)
    try:
        answer = host.run(command, timeout=5, check=False, changes=False)
    except HostError:
        return {}
    found = {}
    for block in answer.stdout.split("\n\n"):
        fields = dict(line.split("=", 1) for line in lines(block) if "=" in line)
        if "Id" in fields:
            found[fields.pop("Id")] = fields
    return found
