"""Commands and mounts as systemd's own transient units, asked for over PID 1's private socket (no D-Bus
needed).

What writes metadata or belongs to the customer must outlive the daemon and stay out of its cgroup and
sandbox. Each service says DefaultDependencies=no: the default, After=basic.target, deadlocks a stage
that waits for it before that target. A oneshot's start job ends when its command does.
"""

from __future__ import annotations

import contextlib

from agent.lib.errors import HostError
from agent.lib.text import printable
from agent.systemd import boot_mounts, units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.host.host import Host
    from agent.systemd.libsystemd import Property

#: A unit that may run before basic.target and is stopped in order at shutdown.
_UNBOUND: tuple[Property, ...] = (
    ("DefaultDependencies", "b", "no"),
    ("Conflicts", "as", "shutdown.target"),
    ("Before", "as", "shutdown.target"),
)
#: Nothing is kept of a unit that has ended, well or badly.
_COLLECT: Property = ("CollectMode", "s", "inactive-or-failed")
#: What every mount of ours has. LazyUnmount: a busy disk that vanishes leaves no mount on a dead device.
#: Before local-fs.target: so a shutdown takes it away only when the services that may use it have ended;
#: what is lazy would be gone under their hands. Not before basic.target: a boot would wait for a disk that
#: hangs, whereas local-fs.target has been reached before any stage begins.
_MOUNT: tuple[Property, ...] = (
    ("LazyUnmount", "b", "yes"),
    ("DefaultDependencies", "b", "no"),
    ("Conflicts", "as", "shutdown.target"),
    ("Before", "as", "shutdown.target", "local-fs.target"),
)
#: Where PID 1 keeps the text of a transient unit for as long as it knows the unit (systemd.unit(5)).
_TRANSIENT = "/run/systemd/transient"
#: Characters of the longest name of a unit (UNIT_NAME_MAX).
LONGEST = 255
#: Seconds beyond a unit's own timeout that its client waits for PID 1's answer.
_MARGIN = 10
#: Seconds in which a program has been executed.
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
    """Run ``argv`` to its end in a oneshot unit; one of that name that runs already is joined instead.

    ``timeout`` is in seconds; PID 1 stops the command then. ``stdin`` is one line; neither it nor
    ``environment`` is secret. The output is in the journal under the unit's name, unless ``properties`` say
    another. Raises HostError naming the unit when the command failed; how one that was joined ended is for
    the caller to see.
    """
    from agent.systemd import libsystemd

    service = f"{unit}.service"
    if not host.effect(f"run {' '.join(argv)} in {service}"):
        return
    if is_running(host, unit):
        with contextlib.suppress(HostError):  # it may have ended, and gone, before this asks for it
            libsystemd.start(service, timeout=timeout + _MARGIN)
        return
    given = (("StandardInput", "s", "data"), ("StandardInputData", "ay", f"{stdin}\n")) if stdin else ()
    bound = ("TimeoutStartUSec", "t", f"{timeout * 1e6:.0f}")
    program = _service(host, unit, argv, "oneshot", description, environment or {})
    what = (*program, bound, *given, *properties)
    try:
        libsystemd.start_transient(service, what, timeout=timeout + _MARGIN)
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
    """Start ``argv`` in a unit of its own and return once it has been executed (Type=exec), not when it
    ends.
    """
    from agent.systemd import libsystemd

    what = (*_service(host, unit, argv, "exec", description, environment or {}), *properties)
    if host.effect(f"start {' '.join(argv)} in {unit}.service"):
        libsystemd.start_transient(f"{unit}.service", what, timeout=_EXECUTED)


def is_running(host: Host, unit: str) -> bool:
    """Whether the transient service is starting, running or stopping now. Where PID 1 has no text of it,
    which is nearly always, none is asked for.
    """
    if not host.exists(f"{_TRANSIENT}/{unit}.service"):
        return False
    from agent.systemd import libsystemd

    state = libsystemd.active_state(f"{unit}.service", timeout=_MARGIN)
    return state in ("activating", "active", "deactivating", "reloading")


def mount(host: Host, device: str, mountpoint: str, *, fstype: str, options: str, timeout: float) -> None:
    """Mount ``device`` by a transient mount unit that is bound to it, and wait until it is mounted.

    ``timeout`` is in seconds. No fsck here: see hotplug/mounting.py. Raises HostError.
    """
    from agent.systemd import libsystemd

    unit = units.of_path(mountpoint, "mount")
    if len(unit) > LONGEST:
        # systemd makes a hash of its own of such a name; its client knows it, and says the path too.
        said = (("Where", "s", mountpoint), *_MOUNT)
        words = (f"--property={name}={' '.join(values)}" for name, _, *values in said)
        how = ("--collect", "--fsck=no", "--automount=no", f"--type={fstype}", f"--options={options}")
        host.run(("systemd-mount", *how, *words, device, mountpoint), timeout=timeout)
    elif host.effect(f"mount {device} at {mountpoint} ({fstype}, {options})"):
        what = (("What", "s", device), ("Type", "s", fstype), ("Options", "s", options))
        if boot_mounts.is_ours(boot_mounts.read(host, unit) or ""):
            # It is for a boot without stages. Where nobody has referred to it, PID 1 has not loaded it.
            is_loaded = bool(libsystemd.fragment(unit, timeout=_MARGIN))
            state = libsystemd.active_state(unit, timeout=_MARGIN) if is_loaded else ""
            if state in ("activating", "deactivating"):
                # Its own mount, of a disk that hung, is about to end. One that has not begun is not stopped:
                # that would take back the start of what requires it.
                host.run(("systemctl", "stop", unit), timeout=timeout, check=False)
            boot_mounts.forget(host, unit)
            if is_loaded:
                host.run(("systemctl", "daemon-reload"))
            if state not in ("", "inactive"):
                host.run(("systemctl", "reset-failed", unit), check=False)
        if _is_kept(host, unit):
            # To start it as it is would mount what it was made for. Without its file it may be made again.
            host.remove(f"{_TRANSIENT}/{unit}")
            host.run(("systemctl", "daemon-reload"))
        libsystemd.start_transient(unit, (*what, _COLLECT, *_MOUNT), timeout=timeout)


def _is_kept(host: Host, unit: str) -> bool:
    """Whether PID 1 still has a transient unit that has ended: it keeps one that a unit which runs requires,
    and lets nobody make another of that name.
    """
    from agent.systemd import libsystemd

    if not host.exists(f"{_TRANSIENT}/{unit}"):
        return False
    return libsystemd.active_state(unit, timeout=_MARGIN) in ("inactive", "failed")


def unmount(host: Host, mountpoint: str, *, timeout: float) -> None:
    """Stop the mount unit of ``mountpoint`` and wait until it has gone."""
    host.run(("systemd-mount", "--umount", mountpoint), timeout=timeout)


def _service(
    host: Host,
    unit: str,
    argv: Sequence[str],
    kind: str,
    description: str,
    environment: Mapping[str, str],
) -> tuple[Property, ...]:
    # PID 1 takes a dollar in an argument for one of the environment's (systemd.service(5)).
    words = (word.replace("$", "$$") for word in argv[1:])
    return (
        ("Description", "s", printable(description or unit)),
        ("Type", "s", kind),
        _COLLECT,
        *_UNBOUND,
        ("Environment", "as", *(f"{name}={value}" for name, value in environment.items())),
        ("ExecStart", "a(sasb)", host.which(argv[0]) or argv[0], *words),
    )
