"""Facts about systemd's units, all but ``active`` from files alone: true of an image that does not run, and
before anything can be asked.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.host import Host

_ETC = "/etc/systemd/system"


def masked(host: Host, unit: str) -> bool:
    """Whether the administrator has made it impossible to start (systemctl mask: a link to /dev/null)."""
    try:
        return os.readlink(host.path(_ETC) / unit) == "/dev/null"
    except OSError:
        return False


def enabled(host: Host, unit: str) -> bool:
    """Whether a target pulls it in (systemctl enable: a link in its ``.wants``) and it is not masked."""
    folder = host.path(_ETC)
    targets = os.listdir(folder) if folder.is_dir() else []
    wanted = any((folder / name / unit).is_symlink() for name in targets if name.endswith(".wants"))
    return wanted and not masked(host, unit)


def active(host: Host, unit: str) -> bool:
    """Whether it runs now, of the running system; PID 1 is asked without D-Bus."""
    asked = ("systemctl", "is-active", "--quiet", unit)
    return host.live and not host.run(asked, changes=False, check=False).returncode
