"""Mount units that the agent leaves in /etc/systemd/system, where PID 1 reads them before any of us runs.

The first line of each says that it is the agent's, with a digest of the rest. One that somebody has changed
is his, and so is any other of that name: neither written nor removed. gandi-disks.target wants them, and is
started only in a boot in which no stage runs, so that in any other one PID 1 has not loaded them.
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
#: Bytes of one at the most.
_LIMIT = 1 << 16


def signed(text: str) -> str:
    """The text of a unit behind the line that makes it the agent's."""
    return f"{_OURS}{sha256(os.fsencode(text)).hexdigest()}\n{text}"


def is_ours(text: str) -> bool:
    """Whether the agent has written a unit, and nobody has changed it since."""
    return text.startswith(_OURS) and text == signed(text.partition("\n")[2])


def read(host: Host, unit: str) -> str | None:
    """The text of a unit there; None where there is none, or a link, or something else."""
    name = f"{FOLDER}/{unit}"
    if os.path.islink(host.path(FOLDER) + f"/{unit}") or not os.path.isfile(host.path(name)):
        return None
    return host.read(name, limit=_LIMIT)


def ours(host: Host) -> list[str]:
    """The names of those that are the agent's."""
    mounts = (name for name in listed(host, FOLDER) if name.endswith(".mount"))
    return [name for name in mounts if is_ours(read(host, name) or "")]


def leave(host: Host, unit: str, text: str) -> bool:
    """Write a unit, and have it wanted; False where one of that name is not the agent's."""
    name, there = f"{FOLDER}/{unit}", os.path.lexists(f"{host.path(FOLDER)}/{unit}")
    if there and not is_ours(read(host, unit) or ""):
        return False
    host.write(name, signed(text), sync=True)
    host.symlink(f"{WANTS}/{unit}", f"../{unit}")
    return True


def forget(host: Host, unit: str) -> None:
    """Remove a unit of the agent's, and the wish for it."""
    host.remove(f"{WANTS}/{unit}")
    host.remove(f"{FOLDER}/{unit}")
    host.remove(WANTS)  # a folder that is empty


def clear(host: Host) -> list[str]:
    """Remove all that are the agent's; their names."""
    names = ours(host)
    for unit in names:
        forget(host, unit)
    return [f"{FOLDER}/{unit}" for unit in names]
