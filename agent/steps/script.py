"""Step: run the customer's programs in order, in one transient unit: each once for the instance, at each
boot, or once on this machine. Before and after them run those that the agent writes for a part of the
document (agent/programs/system_programs.py).

The unit runs a shell file that is written here, so the programs' arguments are in no property of the unit
(while a program runs, they are in its argv). The file marks each program as started, so that after a power
cut during the first one the next boot goes on with the second, and records how each ended.

The unit is Type=exec: with a oneshot, or with ordered units, the system would stay "starting" for as long as
a program waits for the boot to end. Processes that a program leaves running are not killed
(KillMode=process), so the time limit is that of timeout(1) and not the unit's.
"""

from __future__ import annotations

import os
import shlex
import time

from agent.config.model import PER_BOOT, PER_INSTANCE, PER_ONCE
from agent.host import processes
from agent.lib.records import dataclass
from agent.lib.text import lines, number, words
from agent.network import online
from agent.programs.command_line import stored
from agent.report import changed, failed, guarded, skipped, unchanged
from agent.systemd import transient, units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config.model import Script
    from agent.context import Context
    from agent.host.host import Host
    from agent.programs.system_programs import SystemProgram
    from agent.report import Item

UNIT = "gandi-script"
#: How this boot's programs ended, one per line: name, exit status, seconds.
ENDED = "/run/gandi/programs.ended"
#: Folder of the marks of programs that run at each boot.
_BOOT = "/run/gandi/programs"
#: Seconds that the last stage waits for the programs to end, so that it can report how they did.
WAIT_TIMEOUT = 60.0
#: timeout(1): its exit status when the limit was reached, and the seconds between SIGTERM and SIGKILL.
_TIMED_OUT = 124
_GRACE = 10
_PROPERTIES = (
    ("SyslogIdentifier", "s", UNIT),
    ("KillMode", "s", "process"),
    ("Before", "as", "apt-daily.service", "apt-daily-upgrade.service"),
)
_PRELUDE = f"""\
#!/bin/sh
# Written by gandi-agent: the document's programs, one after the other. "once" marks one as it starts,
# "repeat" when it has ended.
cd /
mark() {{
    true >"$mark" || return
    sync "$mark" "${{mark%/*}}" || true
}}
once() {{
    name=$1 mark=$2
    shift 2
    # What cannot be marked would run again at the next boot.
    mark || return
    run "$@"
}}
repeat() {{
    name=$1 mark=$2
    shift 2
    run "$@"
    mark
}}
run() {{
    read -r begun _ </proc/uptime
    "$@"
    status=$?
    read -r now _ </proc/uptime
    took=$((${{now%.*}} - ${{begun%.*}}))
    echo "gandi-agent: $name ended with exit status $status after $took s"
    echo "$name $status $took" >>{ENDED}
}}
"""


@dataclass(frozen=True, slots=True)
class _Job:
    """A program to run; ``own`` if the agent has written it."""

    script: Script
    own: SystemProgram | None = None

    @property
    def repeats(self) -> bool:
        """Whether it is started again until it has ended once."""
        return bool(self.own and self.own.repeats)


def apply(ctx: Context) -> Iterator[Item]:
    """Start the programs that have not been started yet, and report how each ended or since when it runs."""
    jobs = [*map(_Job, ctx.config.scripts if ctx.config else ())]
    yield from guarded("packages", _add_own(ctx, jobs))
    if jobs and not ctx.host.live:
        yield skipped("scripts", "they run when this machine boots")
        return
    pending: list[_Job] = []
    for job in jobs:
        script = job.script
        if _started(ctx, script):
            yield unchanged(script.name, "was started before")
        elif script.frequency == PER_BOOT and _is_before_us(ctx):
            yield skipped(script.name, "this machine stays as it was before the agent")
        elif script.name in ctx.files and not job.own:
            yield skipped(script.name, "not run: it could not be stored, and would run again at each boot")
        else:
            pending.append(job)
    if pending:
        yield from _run(ctx, pending)


def _add_own(ctx: Context, jobs: list[_Job]) -> Iterator[Item]:
    """Add what runs before and after the customer's programs. No item is yielded: an error becomes one."""
    config = ctx.config
    system = config.system if config else None
    if not config or not system:
        return
    if not (system.packages or system.phone_home or system.final_message or system.power):
        return
    from agent import __version__
    from agent.programs import system_programs

    jobs += [_Job(one.script, one) for one in system_programs.after(config, __version__)]
    jobs[:0] = [_Job(one.script, one) for one in system_programs.before(ctx.host, config)]
    yield from ()


def forget(ctx: Context) -> None:
    """Remove the customer's programs' marks, so that the next run starts them again."""
    for script in ctx.config.scripts if ctx.config else ():
        ctx.host.remove(_mark(ctx, script))
        if script.frequency == PER_ONCE:
            ctx.host.remove(ctx.state.mark_file(script.mark))


def _run(ctx: Context, jobs: list[_Job]) -> Iterator[Item]:
    from agent.systemd import libsystemd

    with libsystemd.session():
        # Another run of this stage may have started them and been killed while it waited.
        if not transient.is_running(ctx.host, UNIT):
            if any(job.repeats or not job.own for job in jobs):
                online.wait(ctx.host, ctx.on_wait)
            _start(ctx, jobs)
        if ctx.host.dry_run:
            return
        process = units.main_process(ctx.host, f"{UNIT}.service")
    with ctx.waiting(f"{jobs[0].script.name} (at most {WAIT_TIMEOUT:g} s)"):
        running = bool(process) and not processes.wait_for_exit(process, WAIT_TIMEOUT)
    yield from (_outcome(ctx, job, running=running) for job in jobs)


def _start(ctx: Context, jobs: list[_Job]) -> None:
    host, order = ctx.host, ctx.state.script(".order")
    host.write(order, _PRELUDE + "".join(_line(ctx, job) for job in jobs), mode=0o700)
    host.remove(ENDED)
    transient.start(
        host,
        UNIT,
        ("/bin/sh", order),
        description="Programs of the platform's document",
        environment={"HOME": "/root"},
        properties=_PROPERTIES,
    )


def _line(ctx: Context, job: _Job) -> str:
    script, mark, own = job.script, _mark(ctx, job.script), job.own
    if own is None:
        return line(script.name, mark, stored(ctx, script), timeout=ctx.settings.script_timeout)
    path = ctx.state.script(script.name)
    ctx.host.write(path, own.text, mode=0o700)
    words = (*own.wrapper, "/bin/sh", path)
    function = "repeat" if own.repeats else "once"
    return line(script.name, mark, words, timeout=own.timeout, function=function) + own.then


def line(name: str, mark: str, words: tuple[str, ...], *, timeout: int, function: str = "once") -> str:
    """Return the program's line of the shell file; ``timeout`` in seconds, 0 for none."""
    limit = ("timeout", f"--kill-after={_GRACE}", str(timeout)) if timeout else ()
    return shlex.join((function, name, mark, *limit, *words)) + "\n"


def finished(host: Host) -> dict[str, tuple[int, int]]:
    """Return exit status and seconds, by name, of each program that has ended in this boot."""
    found = dict[str, tuple[int, int]]()
    for name, *numbers in map(words, filter(None, lines(host.read(ENDED) or ""))):
        match list(map(number, numbers)):
            case [int(status), int(seconds)]:
                found[name] = status, seconds
    return found


def _outcome(ctx: Context, job: _Job, *, running: bool) -> Item:
    name, hint = job.script.name, f"see: journalctl -b -u {UNIT}.service"
    done = finished(ctx.host).get(name)
    if done is not None:
        status, seconds = done
        if status == 0:
            return changed(name, f"exit status 0 after {seconds} s")
        if status == _TIMED_OUT and ctx.settings.script_timeout and not job.own:
            return failed(name, f"stopped after {seconds} s", "raise CONFIG_SCRIPT_TIMEOUT (0: no limit)")
        return failed(name, f"ended with exit status {status} after {seconds} s", hint)
    if job.repeats:
        return (
            changed(name, "running")
            if running
            else failed(name, "was stopped: goes on at the next boot", hint)
        )
    started = _started(ctx, job.script)
    if not running:
        return failed(name, "was stopped" if started else "was not started", hint)
    if not started:
        return changed(name, "starts when the one before it has ended")
    since = os.stat(ctx.host.path(_mark(ctx, job.script))).st_mtime
    return changed(name, f"running since {time.strftime('%H:%M:%S', time.localtime(since))}")


def _mark(ctx: Context, script: Script) -> str:
    """Return the path of the program's mark; create its folder."""
    name = script.mark
    if script.frequency == PER_BOOT:
        ctx.host.mkdir(_BOOT, mode=0o755)
        return f"{_BOOT}/{name}"
    return (ctx.state.system() if script.frequency == PER_ONCE else ctx.state).mark_file(name)


def _started(ctx: Context, script: Script) -> bool:
    if script.frequency != PER_INSTANCE and ctx.host.exists(_mark(ctx, script)):
        return True
    # An adopted machine counts what runs once as done, for its instance.
    return script.frequency != PER_BOOT and ctx.state.is_done(script.mark)


def _is_before_us(ctx: Context) -> bool:
    from agent.state import adopted

    return adopted.has_first_document_only(ctx.host, ctx.state.identity(), ctx.state.folder())
