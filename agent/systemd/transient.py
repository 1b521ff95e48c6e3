"""Commands and mounts as transient units, requested over PID 1's private socket (no D-Bus needed).

What writes metadata or belongs to the customer must outlive the daemon and stay out of its cgroup and
sandbox. Each service has DefaultDependencies=no: the default, After=basic.target, deadlocks a stage
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

#: For a unit that may run before basic.target and is stopped in order at shutdown.
_UNBOUND: tuple[Property, ...] = (
    ("DefaultDependencies", "b", "no"),
    ("Conflicts", "as", "shutdown.target"),
    ("Before", "as", "shutdown.target"),
)
#: Forget a unit once it has ended, even if it failed.
_COLLECT: Property = ("CollectMode", "s", "inactive-or-failed")
#: Properties of each mount of the agent. LazyUnmount: a busy disk that vanishes leaves no mount on a dead
#: device. Before local-fs.target: a shutdown unmounts only after the services that may use the mount have
#: ended; a lazy unmount would remove it while in use. Not before basic.target: a boot would wait for a disk
#: that hangs, whereas local-fs.target is reached before any stage begins.
_MOUNT: tuple[Property, ...] = (
    ("LazyUnmount", "b", "yes"),
    ("DefaultDependencies", "b", "no"),
    ("Conflicts", "as", "shutdown.target"),
    ("Before", "as", "shutdown.target", "local-fs.target"),
)
#: Here PID 1 keeps the file of a transient unit for as long as the unit is loaded (systemd.unit(5)).
_TRANSIENT = "/run/systemd/transient"
#: Longest name of a unit, in characters (UNIT_NAME_MAX).
LONGEST = 255
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


def mount(host: Host, device: str, mountpoint: str, *, fstype: str, options: str, timeout: float) -> None:
    """Mount ``device`` by a transient mount unit that is bound to it, and wait until it is mounted.

    ``timeout`` is in seconds. No fsck is run: see agent/disks/mounting.py. Raise HostError on failure.
    """
    from agent.systemd import libsystemd

    unit = units.of_path(mountpoint, "mount")
    if len(unit) > LONGEST:
        # systemd shortens such a name by a hash; systemd-mount computes it, and is given the path.
        mount_properties = (("Where", "s", mountpoint), *_MOUNT)
        extra = (f"--property={name}={' '.join(values)}" for name, _, *values in mount_properties)
        switches = ("--collect", "--fsck=no", "--automount=no", f"--type={fstype}", f"--options={options}")
        host.run(("systemd-mount", *switches, *extra, device, mountpoint), timeout=timeout)
    elif host.allows(f"mount {device} at {mountpoint} ({fstype}, {options})"):
        properties = (("What", "s", device), ("Type", "s", fstype), ("Options", "s", options))
        if boot_mounts.is_ours(boot_mounts.read(host, unit) or ""):
            # It is for a boot without stages. PID 1 has loaded it only if another unit refers to it.
            is_loaded = bool(libsystemd.fragment(unit, timeout=_MARGIN))
            state = libsystemd.active_state(unit, timeout=_MARGIN) if is_loaded else ""
            if state in ("activating", "deactivating"):
                # PID 1's own mount, of a disk that hung, is about to end. A mount that has not begun is not
                # stopped: that would cancel the start of units that require it.
                host.run(("systemctl", "stop", unit), timeout=timeout, check=False)
            boot_mounts.remove_unit(host, unit)
            if is_loaded:
                host.run(("systemctl", "daemon-reload"))
            if state not in ("", "inactive"):
                host.run(("systemctl", "reset-failed", unit), check=False)
        if _is_kept(host, unit):
            # Starting it as it is would mount the former device. Without its file it can be made again.
            host.remove(f"{_TRANSIENT}/{unit}")
            host.run(("systemctl", "daemon-reload"))
        libsystemd.start_transient(unit, (*properties, _COLLECT, *_MOUNT), timeout=timeout)


def _is_kept(host: Host, unit: str) -> bool:
    """Return whether PID 1 still has a transient unit that has ended.

    It keeps a unit that a running one requires, and refuses to make another of that name.
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
