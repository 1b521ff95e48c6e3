"""Facts about systemd's units; all but the last two are from files alone: true of an image that does not
run, and before anything can be asked.
"""

from __future__ import annotations

import os

from agent.errors import HostError
from agent.sysfs import listed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.host import Host

_ETC = "/etc/systemd/system"


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
    """Whether it runs now, of the running system; PID 1 is asked without D-Bus."""
    asked = ("systemctl", "is-active", "--quiet", unit)
    return host.live and not host.run(asked, changes=False, check=False).returncode


def system_state(host: Host) -> str:
    """What systemd says of the whole running system (starting, running, degraded, stopping); "" when it does
    not answer.
    """
    asked = ("systemctl", "is-system-running")
    try:
        return host.run(asked, timeout=5, check=False, changes=False).stdout.strip()
    except HostError:
        return ""
