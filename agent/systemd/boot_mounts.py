"""Mount units that the agent writes to /etc/systemd/system, where PID 1 reads them before the agent runs.

The first line of each marks it as the agent's, with a digest of the rest. A unit that was changed, or that
the agent did not write, is the administrator's: neither written nor removed. gandi-disks.target wants them;
it is started only in a boot in which no stage runs, so in any other boot PID 1 does not load them.
"""

from __future__ import annotations

import os

from agent.host.sysfs import listed
from agent.lib.digest import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.host.host import Host

FOLDER = "/etc/systemd/system"
WANTS = f"{FOLDER}/gandi-disks.target.wants"
_OURS = "# Made by gandi-agent, and the administrator's once it is changed: "
#: Largest size of a unit file, in bytes.
_LIMIT = 1 << 16
#: Longest name of a unit, in characters (UNIT_NAME_MAX).
LONGEST_NAME = 255
#: Seconds to wait for PID 1's answer.
_ANSWER = 10


def with_header(text: str) -> str:
    """Return the unit's text with the line in front that marks it as the agent's."""
    return f"{_OURS}{sha256(os.fsencode(text)).hexdigest()}\n{text}"


def is_ours(text: str) -> bool:
    """Return whether the agent has written the unit and it is unchanged since."""
    return text.startswith(_OURS) and text == with_header(text.partition("\n")[2])


def read(host: Host, unit: str) -> str | None:
    """Return the text of a unit in ``FOLDER``, or None if it is not a regular file."""
    name = f"{FOLDER}/{unit}"
    if os.path.islink(host.path(FOLDER) + f"/{unit}") or not os.path.isfile(host.path(name)):
        return None
    return host.read(name, limit=_LIMIT)


def agent_units(host: Host) -> list[str]:
    """Return the names of the agent's mount units."""
    mounts = (name for name in listed(host, FOLDER) if name.endswith(".mount"))
    return [name for name in mounts if is_ours(read(host, name) or "")]


def write_unit(host: Host, unit: str, text: str) -> bool:
    """Write a unit and its link in ``WANTS``; return False if one of that name is not the agent's."""
    name, exists = f"{FOLDER}/{unit}", os.path.lexists(f"{host.path(FOLDER)}/{unit}")
    if exists and not is_ours(read(host, unit) or ""):
        return False
    host.write(name, with_header(text), sync=True)
    host.symlink(f"{WANTS}/{unit}", f"../{unit}")
    return True


def remove_unit(host: Host, unit: str) -> None:
    """Remove one of the agent's units and its link in ``WANTS``."""
    host.remove(f"{WANTS}/{unit}")
    host.remove(f"{FOLDER}/{unit}")
    host.remove(WANTS)  # only if it is empty


def replace_unit(host: Host, unit: str, *, timeout: float) -> None:
    """Remove a unit of the agent's because the daemon mounts its disk. If PID 1 has begun a mount, of a disk
    that hung, it is about to end: stop it, waiting at most ``timeout`` seconds. Raise HostError if PID 1
    cannot be reached.
    """
    if not is_ours(read(host, unit) or ""):
        return
    from agent.systemd import libsystemd

    # PID 1 has loaded it only if another unit refers to it.
    is_loaded = bool(libsystemd.fragment(unit, timeout=_ANSWER))
    state = libsystemd.active_state(unit, timeout=_ANSWER) if is_loaded else ""
    if state in ("activating", "deactivating"):
        # A mount that has not begun is not stopped: that would cancel the start of units that require it.
        host.run(("systemctl", "stop", unit), timeout=timeout, check=False)
    remove_unit(host, unit)
    if is_loaded:
        host.run(("systemctl", "daemon-reload"))
    if state not in ("", "inactive"):
        host.run(("systemctl", "reset-failed", unit), check=False)


def remove_all(host: Host) -> list[str]:
    """Remove all of the agent's units and return their paths."""
    names = agent_units(host)
    for unit in names:
        remove_unit(host, unit)
    return [f"{FOLDER}/{unit}" for unit in names]
