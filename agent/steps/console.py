"""Step: a login prompt on every console that the kernel uses.

systemd's generator (systemd-getty-generator(8)) does that for the consoles that are there when the boot
begins. What is left are those whose driver came later, as hvc0's does: their getty is started here, for this
boot only, so that a console that goes away with the next boot is not waited for.
"""

from __future__ import annotations

import os
import re

from agent.host.sysfs import attribute, listed
from agent.lib.text import words
from agent.report import changed, kept, skipped, unchanged
from agent.systemd import units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context
    from agent.host.host import Host
    from agent.report import Item

_ACTIVE = "/sys/class/tty/console/active"
#: Where something makes a target pull a unit in: the administrator, the generator, the distribution, us.
_FOLDERS = (
    "/etc/systemd/system",
    "/run/systemd/generator",
    "/usr/lib/systemd/system",
    "/run/systemd/system",
)
_RUNTIME = "/run/systemd/system/getty.target.wants"
_TEMPLATES = "/usr/lib/systemd/system"
_VIRTUAL = re.compile(r"tty[0-9]+")
_OFF = re.compile(r"(?<![^ \t\r\n])systemd\.getty_auto=(?:0|no|false|off|n|f)(?![^ \t\r\n])")


def apply(ctx: Context) -> Iterator[Item]:
    """See to each console in the kernel's list."""
    host = ctx.host
    consoles = words(attribute(host, _ACTIVE))
    if consoles and _OFF.search(host.read("/proc/cmdline") or ""):
        yield skipped("consoles", "the kernel command line says systemd.getty_auto=0")
        return
    for unit in dict.fromkeys(map(_unit, consoles)):
        if units.masked(host, unit) or units.masked(host, _template(unit)):
            yield kept(unit)
        elif _wanted(host, unit):
            yield unchanged(unit)
        elif not host.exists(f"{_TEMPLATES}/{_template(unit)}"):
            yield skipped(unit, f"there is no {_template(unit)}")
        else:
            host.symlink(f"{_RUNTIME}/{unit}", f"{_TEMPLATES}/{_template(unit)}")
            if host.live:
                # Gettys come after the end of the boot's services, so this must not be waited for.
                host.run(("systemctl", "--no-block", "start", unit))
            yield changed(unit, "started")


def _unit(console: str) -> str:
    """The unit that asks for a login there. The kernel's virtual terminals are one console to it; the login
    is on the first.
    """
    return "getty@tty1.service" if _VIRTUAL.fullmatch(console) else f"serial-getty@{console}.service"


def _template(unit: str) -> str:
    return f"{unit.partition('@')[0]}@.service"


def _wanted(host: Host, unit: str) -> bool:
    for folder in _FOLDERS:
        for name in listed(host, folder):
            if name.endswith(".wants") and os.path.lexists(
                os.path.join(host.path(f"{folder}/{name}"), unit)
            ):
                return True
    return False
