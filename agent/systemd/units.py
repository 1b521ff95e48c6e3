"""Facts about systemd's units. All but ``is_active``, ``active_state``, ``main_process`` and
``system_state`` read files alone, so that they hold for an image and before PID 1 answers.
"""

from __future__ import annotations

import os

from agent.host.chroot_path import link_target
from agent.host.sysfs import listed
from agent.lib.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.host.host import Host

_ETC = "/etc/systemd/system"
#: Seconds to wait for PID 1's answer.
_ANSWER = 5.0
#: Characters that are not escaped in a unit's name.
_PLAIN = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz:_.")


def of_path(path: str, kind: str) -> str:
    """Return the name of a path's unit (systemd.unit(5), "String Escaping for Inclusion in Unit Names")."""
    name = os.fsencode(os.path.normpath(path).strip("/")).decode("latin-1") or "/"
    escaped = "".join(
        char if char in _PLAIN and (place or char != ".") else "-" if char == "/" else f"\\x{ord(char):02x}"
        for place, char in enumerate(name)
    )
    return f"{escaped}.{kind}"


def is_masked(host: Host, unit: str) -> bool:
    """Return whether the administrator has masked the unit (systemctl mask: a link to /dev/null)."""
    return link_target(host, f"{_ETC}/{unit}") == "/dev/null"


def is_enabled(host: Host, unit: str) -> bool:
    """Return whether the unit is enabled (systemctl enable: a link in a ``.wants``) and not masked."""
    return is_wanted(host, unit, _ETC) and not is_masked(host, unit)


def is_wanted(host: Host, unit: str, *folders: str) -> bool:
    """Return whether a link in a ``.wants`` of one of the folders names the unit."""
    return any(
        name.endswith(".wants") and link_target(host, f"{folder}/{name}/{unit}") is not None
        for folder in folders
        for name in listed(host, folder)
    )


def is_active(host: Host, unit: str) -> bool:
    """Return whether the unit is active in the running system; False if PID 1 does not answer."""
    return active_state(host, unit) in ("active", "reloading", "refreshing")


def active_state(host: Host, unit: str) -> str:
    """Return the unit's state in the running system (active, failed, activating...); "" if it was not
    started in this boot, or PID 1 does not answer.

    A unit that was not started in this boot has no link below /run (since systemd 237): PID 1, which is busy
    during a boot, is not queried then.
    """
    if not host.live or not os.path.islink(host.path(f"/run/systemd/units/invocation:{unit}")):
        return ""
    from agent.systemd import libsystemd

    try:
        return libsystemd.active_state(unit, timeout=_ANSWER)
    except HostError:
        return ""


def main_process(host: Host, service: str) -> int:
    """Return the process id of a service of the running system; 0 if none, or if PID 1 does not answer."""
    if not host.live:
        return 0
    from agent.systemd import libsystemd

    try:
        return libsystemd.main_process(service, timeout=_ANSWER)
    except HostError:
        return 0


def system_state(host: Host) -> str:
    """Return the state of the whole running system (starting, running, degraded, stopping...).

    Return "" if PID 1 does not answer.
    """
    if not host.live:
        return ""
    from agent.systemd import libsystemd

    try:
        return libsystemd.system_state(timeout=_ANSWER)
    except HostError:
        return ""
