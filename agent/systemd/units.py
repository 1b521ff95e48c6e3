"""Facts about systemd's units; all but the last three are from files alone: true of an image that does not
run, and before anything can be asked.
"""

from __future__ import annotations

import os

from agent.host.sysfs import listed
from agent.lib.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.host.host import Host

_ETC = "/etc/systemd/system"
#: Seconds in which PID 1 answers, unless it hangs.
_ANSWER = 5.0
#: Characters that stand for themselves in a unit's name.
_PLAIN = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz:_.")


def of_path(path: str, kind: str) -> str:
    """The name of a path's unit (systemd.unit(5), "String Escaping for Inclusion in Unit Names")."""
    name = os.fsencode(os.path.normpath(path).strip("/")).decode("latin-1") or "/"
    escaped = "".join(
        char if char in _PLAIN and (place or char != ".") else "-" if char == "/" else f"\\x{ord(char):02x}"
        for place, char in enumerate(name)
    )
    return f"{escaped}.{kind}"


def masked(host: Host, unit: str) -> bool:
    """Whether the administrator has made it impossible to start (systemctl mask: a link to /dev/null)."""
    try:
        return os.readlink(os.path.join(host.path(_ETC), unit)) == "/dev/null"
    except OSError:
        return False


def enabled(host: Host, unit: str) -> bool:
    """Whether a target pulls it in (systemctl enable: a link in its ``.wants``) and it is not masked."""
    folder = host.path(_ETC)
    wants = [name for name in listed(host, _ETC) if name.endswith(".wants")]
    wanted = any(os.path.islink(os.path.join(folder, name, unit)) for name in wants)
    return wanted and not masked(host, unit)


def active(host: Host, unit: str) -> bool:
    """Whether it runs now, of the running system; not where PID 1 does not answer.

    One that was not started in this boot has no link below /run (since systemd 237): PID 1, which has most
    to do at a boot, is not asked.
    """
    if not host.live or not os.path.islink(host.path(f"/run/systemd/units/invocation:{unit}")):
        return False
    from agent.systemd import libsystemd

    try:
        return libsystemd.active_state(unit, timeout=_ANSWER) in ("active", "reloading", "refreshing")
    except HostError:
        return False


def main_process(host: Host, service: str) -> int:
    """The process id of a service of the running system; 0 where it has none, or PID 1 does not answer."""
    if not host.live:
        return 0
    from agent.systemd import libsystemd

    try:
        return libsystemd.main_process(service, timeout=_ANSWER)
    except HostError:
        return 0


def system_state(host: Host) -> str:
    """What systemd says of the whole running system (starting, running, degraded, stopping); "" when it does
    not answer.
    """
    if not host.live:
        return ""
    from agent.systemd import libsystemd

    try:
        return libsystemd.system_state(timeout=_ANSWER)
    except HostError:
        return ""
