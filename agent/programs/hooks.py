"""Run the operator's hooks, the programs in GANDI_HOOK_DIR, and any other program that is waited for.

Each program runs in a transient unit, outside the daemon's cgroup and sandbox, with a timeout; its output is
in the journal under its name. A failure is reported and stops nothing. A program that users other than root
could change is not run: it would give them root's rights.
"""

from __future__ import annotations

import os
import re
import stat

from agent.lib.errors import HostError
from agent.programs import command_line, ownership
from agent.report import changed, failed, skipped
from agent.systemd import transient

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agent.context import Context
    from agent.host.host import Host
    from agent.report import Item

#: Seconds that one hook may take before PID 1 stops it.
TIMEOUT = 120.0
#: Names of variables that systemd accepts (environ(7)); udev's private properties begin with a dot.
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNSAFE = re.compile(r"[^A-Za-z0-9-]+")


def run(ctx: Context, name: str, *args: str, environment: Mapping[str, str]) -> Iterator[Item]:
    """Run the hook ``name`` with ``args`` if it exists, and wait for its end.

    ``environment`` is added to PATH, HOME and GANDI_SETTINGS: a device's udev properties, ACTION, and
    DEVNAME or INTERFACE.
    """
    path = f"{ctx.settings.hook_dir.rstrip('/')}/{name}"
    if ctx.host.offline or not ctx.host.exists(path):
        return
    device = os.path.basename(environment.get("DEVNAME") or environment.get("INTERFACE") or "")
    unit = f"gandi-hook-{name}" + (f"-{_UNSAFE.sub('-', device)}" if device else "")
    yield from execute(ctx, unit, path, args, environment, TIMEOUT)


def execute(
    ctx: Context,
    unit: str,
    path: str,
    args: Sequence[str],
    environment: Mapping[str, str],
    timeout: float,
) -> Iterator[Item]:
    """Run the program at ``path`` in the transient service ``unit`` and wait for its end, at most
    ``timeout`` seconds. Yield one item with the program's name: changed if it exited with 0.

    Without an interpreter line /bin/sh runs it. Neither arguments nor environment may contain a secret: all
    users can read them.
    """
    name, host = os.path.basename(path), ctx.host
    if why := _disabled(host, path):
        yield skipped(name, why)
        return
    why, remedy = ownership.why_untrusted(os.path.realpath(host.path("/")), path)
    if why:
        yield failed(
            name, f"not run: {why}", f"it runs as root, so only root may be able to change it: {remedy}"
        )
        return
    ctx.on_wait(f"{name} (at most {timeout:g} s)")
    try:
        head = host.read_bytes(path, limit=command_line.HEAD) or b""
        transient.run(
            host,
            unit,
            command_line.words(path, head, args),
            timeout=timeout,
            description=f"gandi-agent: {name}",
            environment={"HOME": "/root", **_settings(ctx), **_accepted(environment)},
            properties=(("SyslogIdentifier", "s", name),),
        )
    except HostError as error:
        yield failed(name, error.message, error.hint)
    else:
        yield changed(name, "would run" if host.dry_run else "was run")
    finally:
        ctx.on_wait("")


def _settings(ctx: Context) -> dict[str, str]:
    """Write the settings in force for the program, and return the variable with the file's path; nothing if
    it cannot be written (/run is full): plugins-lib then asks the command.
    """
    from agent.config import settings_text  # late: a disk event without a hook does not need it

    try:
        ctx.host.write(
            settings_text.FILE, settings_text.shell_text(ctx.settings_file), mode=settings_text.MODE
        )
    except HostError as error:
        if ctx.host.debug:
            ctx.host.debug(f"settings for a program: {error.message}")
        return {}
    return {settings_text.VARIABLE: settings_text.FILE}


def _disabled(host: Host, path: str) -> str:
    try:
        mode = os.stat(host.path(path)).st_mode
    except OSError as error:
        return f"cannot be examined: {error.strerror}"
    if not stat.S_ISREG(mode):
        return "not a regular file"
    return "" if mode & 0o111 else "not executable"


def _accepted(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that systemd accepts: a valid name, and a value in UTF-8 without NUL."""
    found = {}
    for name, value in environment.items():
        try:
            value.encode()
        except UnicodeEncodeError:
            continue
        if _VARIABLE.fullmatch(name) and "\0" not in value:
            found[name] = value
    return found
