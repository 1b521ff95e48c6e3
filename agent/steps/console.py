"""Step: start a login prompt on every console of the machine that has none.

systemd-getty-generator(8) does so for the consoles that the kernel uses, and for hvc0, if they exist when
the boot begins. This step covers those with a driver that loads later, as that of hvc0, and a serial port
where the kernel command line names no console of that kind. It enables a getty below /run, for this boot
only, so that the next boot does not wait for a console that is gone by then.
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
    from agent.host.host import Host
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
_VIRTUAL = r"tty[0-9]+"
_OFF = r"(?<![^ \t\r\n])systemd\.getty_auto=(?:0|no|false|off|n|f)(?![^ \t\r\n])"
#: A hypervisor's console: the kernel makes the terminal when the machine has such a device.
_HYPERVISOR = "hvc0"
#: The first serial port of each kind that hypervisors have, and the kernel's list of its driver's ports:
#: 8250 (amd64), PL011 (arm64).
_SERIALS = {"ttyS0": "/proc/tty/driver/serial", "ttyAMA0": "/proc/tty/driver/ttyAMA"}
#: The first port's line in such a list (uart_line_info in drivers/tty/serial/serial_core.c): type, place,
#: counts and modem lines. One that does not exist is of unknown type.
_PORT = r"(?m)^0: uart:(?!unknown)([^\n]*)$"
#: The kernel sets this modem line as long as a program has the port open.
_OPEN = r"[ |]DTR(?:\||$)"


def apply(ctx: Context) -> Iterator[Item]:
    """Start a getty on each console that has none; masked units are kept."""
    host = ctx.host
    consoles = words(attribute(host, _ACTIVE))
    if consoles and re.search(_OFF, host.read("/proc/cmdline") or ""):
        yield skipped("consoles", "the kernel command line has systemd.getty_auto=0")
        return
    for unit, console in {_unit(one): one for one in (*consoles, *_unnamed(host, consoles))}.items():
        if units.is_masked(host, unit) or units.is_masked(host, _template(unit)):
            yield kept(unit)
        elif units.is_wanted(host, unit, *_FOLDERS):
            yield unchanged(unit)
        elif not host.exists(f"{_TEMPLATES}/{_template(unit)}"):
            yield skipped(unit, f"there is no {_template(unit)}")
        elif console not in consoles and _is_open(host, console):
            yield skipped(unit, f"another program uses {console}")
        else:
            host.symlink(f"{_RUNTIME}/{unit}", f"{_TEMPLATES}/{_template(unit)}")
            if host.live:
                # A getty is ordered after the boot's services, this stage among them: do not wait.
                host.run(("systemctl", "--no-block", "start", unit))
            yield changed(unit, "started")


def _unnamed(host: Host, consoles: list[str]) -> Iterator[str]:
    """Yield the consoles of the machine that the kernel does not use.

    A kernel with a serial console has it from its command line or firmware, which is a choice; so is none.
    """
    if not consoles:
        return
    if host.exists(f"/sys/class/tty/{_HYPERVISOR}"):
        yield _HYPERVISOR
    if all(re.fullmatch(_VIRTUAL, console) for console in consoles):
        yield from (serial for serial in _SERIALS if _port(host, serial))


def _port(host: Host, serial: str) -> str:
    """Return what the kernel says of the first serial port of its kind, "" if there is none."""
    found = re.search(_PORT, host.read(_SERIALS[serial]) or "")
    return found[1] if found else ""


def _is_open(host: Host, console: str) -> bool:
    return console in _SERIALS and bool(re.search(_OPEN, _port(host, console)))


def _unit(console: str) -> str:
    """Return the name of the console's getty unit; for a virtual terminal that is the getty on tty1."""
    return "getty@tty1.service" if re.fullmatch(_VIRTUAL, console) else f"serial-getty@{console}.service"


def _template(unit: str) -> str:
    return f"{unit.partition('@')[0]}@.service"
