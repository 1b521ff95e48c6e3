"""Commands as transient units, requested over PID 1's private socket (no D-Bus needed).

What writes metadata or belongs to the customer must outlive the daemon and stay out of its cgroup and
sandbox. Each service has DefaultDependencies=no: the default, After=basic.target, deadlocks a stage
that waits for it before that target. A oneshot's start job ends when its command does.
"""

from __future__ import annotations

import contextlib

from agent.lib.errors import HostError
from agent.lib.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.host.host import Host
    from agent.systemd.libsystemd import Property

#: For a unit that may run before basic.target and is stopped in order at shutdown.
_UNBOUND: tuple[Property, ...] = (
    ("DefaultDependencies", "b", "no"),
    ("Conflicts", "as", "shutdown.target"),
    ("Before", "as", "shutdown.target"),
)
#: Forget a unit once it has ended, even if it failed.
_COLLECT: Property = ("CollectMode", "s", "inactive-or-failed")
#: Here PID 1 keeps the file of a transient unit for as long as the unit is loaded (systemd.unit(5)).
_TRANSIENT = "/run/systemd/transient"
#: Seconds beyond a unit's own timeout to wait for PID 1's answer.
_MARGIN = 10
#: Seconds to wait until a program has been executed.
_EXECUTED = 60


def run(
    host: Host,
    unit: str,
    argv: Sequence[str],
    *,
    timeout: float,
    description: str = "",
    stdin: str = "",
    environment: Mapping[str, str] | None = None,
    properties: Sequence[Property] = (),
) -> None:
    """Run ``argv`` in a oneshot unit and wait for its end; a running unit of that name is joined instead.

    ``timeout`` is in seconds; PID 1 stops the command then. ``stdin`` is one line; neither it nor
    ``environment`` may be secret. The output goes to the journal under the unit's name, unless
    ``properties`` redirect it. Raise HostError naming the unit if the command fails; the result of a joined
    unit is not checked.
    """
    from agent.systemd import libsystemd

    service = f"{unit}.service"
    if not host.allows(f"run {' '.join(argv)} in {service}"):
        return
    if is_running(host, unit):
        with contextlib.suppress(HostError):  # it may have ended, and be forgotten, before this call
            libsystemd.start(service, timeout=timeout + _MARGIN)
        return
    stdin_properties = (
        (("StandardInput", "s", "data"), ("StandardInputData", "ay", f"{stdin}\n")) if stdin else ()
    )
    timeout_property = ("TimeoutStartUSec", "t", f"{timeout * 1e6:.0f}")
    program = _service(host, unit, argv, "oneshot", description, environment or {})
    all_properties = (*program, timeout_property, *stdin_properties, *properties)
    try:
        libsystemd.start_transient(service, all_properties, timeout=timeout + _MARGIN)
    except HostError as error:
        why = error.message.removeprefix(f"{service}: ")
        hint = f"see: journalctl -b -u {service}"
        raise HostError(f"{' '.join(argv)}: failed in {service}: {why}", hint=hint) from error


def start(
    host: Host,
    unit: str,
    argv: Sequence[str],
    *,
    description: str = "",
    environment: Mapping[str, str] | None = None,
    properties: Sequence[Property] = (),
) -> None:
    """Start ``argv`` in its own unit and return once it has been executed (Type=exec), before it ends."""
    from agent.systemd import libsystemd

    all_properties = (*_service(host, unit, argv, "exec", description, environment or {}), *properties)
    if host.allows(f"start {' '.join(argv)} in {unit}.service"):
        libsystemd.start_transient(f"{unit}.service", all_properties, timeout=_EXECUTED)


def is_running(host: Host, unit: str) -> bool:
    """Return whether the transient service is starting, running or stopping.

    Without its file in ``_TRANSIENT``, which is the usual case, PID 1 is not queried.
    """
    if not host.exists(f"{_TRANSIENT}/{unit}.service"):
        return False
    from agent.systemd import libsystemd

    state = libsystemd.active_state(f"{unit}.service", timeout=_MARGIN)
    return state in ("activating", "active", "deactivating", "reloading")


def _service(
    host: Host,
    unit: str,
    argv: Sequence[str],
    kind: str,
    description: str,
    environment: Mapping[str, str],
) -> tuple[Property, ...]:
    # PID 1 expands a dollar in an argument as a variable (systemd.service(5)).
    words = (word.replace("$", "$$") for word in argv[1:])
    return (
        ("Description", "s", printable(description or unit)),
        ("Type", "s", kind),
        _COLLECT,
        *_UNBOUND,
        ("Environment", "as", *(f"{name}={value}" for name, value in environment.items())),
        ("ExecStart", "a(sasb)", host.which(argv[0]) or argv[0], *words),
    )
