"""The operator's hooks: programs of GANDI_HOOK_DIR that are run at certain moments, and how any program of
the operator's or the customer's is run.

Each runs in a transient unit of its own, not in our cgroup or sandbox, bounded in time, its output in the
journal under its name. One that fails is reported and stops nothing. What others than root could have
written is not run: it would make them root.
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
#: What systemd takes for a variable (environ(7)); udev's private properties begin with a dot.
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNSAFE = re.compile(r"[^A-Za-z0-9-]+")


def run(ctx: Context, name: str, *args: str, environment: Mapping[str, str]) -> Iterator[Item]:
    """Run the hook ``name`` with ``args``, and wait for its end; nothing where there is no such hook.

    ``environment`` is what the hook sees besides PATH and HOME: a device's udev properties, ACTION, and
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
    ``timeout`` seconds. One item, under the program's name: changed when it ended with 0.

    Without an interpreter line it is run by /bin/sh. Neither arguments nor environment may hold a secret:
    everybody can read them.
    """
    name, host = os.path.basename(path), ctx.host
    if why := _disabled(host, path):
        yield skipped(name, why)
        return
    why, remedy = ownership.untrusted(os.path.realpath(host.path("/")), path)
    if why:
        yield failed(
            name, f"not run: {why}", f"it runs as root, so only root may be able to change it: {remedy}"
        )
        return
    ctx.waiting(f"{name} (at most {timeout:g} s)")
    try:
        head = host.read_bytes(path, limit=command_line.HEAD) or b""
        transient.run(
            host,
            unit,
            command_line.words(path, head, args),
            timeout=timeout,
            description=f"gandi-agent: {name}",
            environment={"HOME": "/root", **_passed(environment)},
            properties=(("SyslogIdentifier", "s", name),),
        )
    except HostError as error:
        yield failed(name, error.message, error.hint)
    else:
        yield changed(name, "would run" if host.dry_run else "was run")
    finally:
        ctx.waiting("")


def _disabled(host: Host, path: str) -> str:
    try:
        mode = os.stat(host.path(path)).st_mode
    except OSError as error:
        return f"cannot be examined: {error.strerror}"
    if not stat.S_ISREG(mode):
        return "not a regular file"
    return "" if mode & 0o111 else "not executable"


def _passed(environment: Mapping[str, str]) -> dict[str, str]:
    """What can be passed on: systemd takes UTF-8 alone."""
    found = {}
    for name, value in environment.items():
        try:
            value.encode()
        except UnicodeEncodeError:
            continue
        if _VARIABLE.fullmatch(name) and "\0" not in value:
            found[name] = value
    return found
