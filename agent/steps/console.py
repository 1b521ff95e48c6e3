"""Step: start a login prompt on every console that the kernel uses.

systemd-getty-generator(8) does so for the consoles that exist when the boot begins. This step covers those
with a driver that loads later, as that of hvc0. It enables a getty below /run, for this boot only, so that
the next boot does not wait for a console that is gone by then.
"""

from __future__ import annotations

import re

from agent.host.sysfs import attribute
from agent.lib.text import words
from agent.report import changed, kept, skipped, unchanged
from agent.systemd import units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context
    from agent.report import Item

_ACTIVE = "/sys/class/tty/console/active"
#: Folders with "*.wants": the administrator's, the generators', the distribution's, the agent's.
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
    """Start a getty on each active console that has none; masked units are kept."""
    host = ctx.host
    consoles = words(attribute(host, _ACTIVE))
    if consoles and _OFF.search(host.read("/proc/cmdline") or ""):
        yield skipped("consoles", "the kernel command line has systemd.getty_auto=0")
        return
    for unit in dict.fromkeys(map(_unit, consoles)):
        if units.is_masked(host, unit) or units.is_masked(host, _template(unit)):
            yield kept(unit)
        elif units.is_wanted(host, unit, *_FOLDERS):
            yield unchanged(unit)
        elif not host.exists(f"{_TEMPLATES}/{_template(unit)}"):
            yield skipped(unit, f"there is no {_template(unit)}")
        else:
            host.symlink(f"{_RUNTIME}/{unit}", f"{_TEMPLATES}/{_template(unit)}")
            if host.live:
                # A getty is ordered after the boot's services, this stage among them: do not wait.
                host.run(("systemctl", "--no-block", "start", unit))
            yield changed(unit, "started")


def _unit(console: str) -> str:
    """Return the name of the console's getty unit; for a virtual terminal that is the getty on tty1."""
    return "getty@tty1.service" if _VIRTUAL.fullmatch(console) else f"serial-getty@{console}.service"


def _template(unit: str) -> str:
    return f"{unit.partition('@')[0]}@.service"
