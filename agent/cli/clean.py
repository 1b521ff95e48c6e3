"""The verb ``clean``: a machine, or the tree of one, is made ready to become an image.

What tells one machine from another goes: the agent's memory of it, the delivered document, host keys and
the machine-id. What somebody installed, configured or created stays, and so do the network's files: the
first boot of a new instance writes those anew.
"""

from __future__ import annotations

import os
import re

from agent import stages
from agent.host import terminal, trees
from agent.host.host import Host
from agent.host.sysfs import listed
from agent.lib.errors import ConfigError
from agent.reader.common import archive_layout
from agent.report import Outcome, changed, unchanged
from agent.state import json_file
from agent.steps import hostkeys
from agent.systemd import boot_mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.report import Item

#: Seconds for which a stage that runs may hold it up.
_PATIENCE = 10.0
MACHINE_ID = "/etc/machine-id"
_DBUS_MACHINE_ID = "/var/lib/dbus/machine-id"
#: Left in /etc/ssh by gandi-hostkeys when it is cut short: its mark, and the folder of unfinished keys.
_UNFINISHED_KEYS = (".gandi-host-keys", ".gandi-host-keys.new")
#: The document as it was delivered, and what the agent and its predecessors logged to files.
_DOCUMENTS, _LOGS = "/gandi", "/var/log"
_LOG = re.compile(r"gandi(?:[-.].*)?")


def tree(root: Path) -> Host:
    """The system below ``root``: the running one, or an image's. Raises ConfigError when there is none."""
    host = Host(root.resolve(), offline=root.resolve() != root.resolve().parent)
    if not host.exists("/etc/passwd"):
        raise ConfigError(f"{root}: no system is mounted there", hint="mount the image's root filesystem")
    return host


def clean(host: Host, *, dry_run: bool = False) -> int:
    """Clean the system and say what was, or would be, done."""
    host.dry_run = dry_run
    # Not so chrooted into a tree.
    runs = not host.offline and host.exists("/run/systemd/system")
    if dry_run or not runs:
        _clean(host)
        return 0
    with stages.alone(host, "clean", _PATIENCE):
        _clean(host)
    terminal.say("switch this machine off now: its next boot is that of a new one")
    return 0


def _clean(host: Host) -> None:
    for item in (*_memory(host), *host_keys(host), *machine_id(host)):
        terminal.say(f"would be {item}" if host.dry_run and item.outcome is Outcome.CHANGED else item)


def _memory(host: Host) -> Iterator[Item]:
    """What the agent remembers, what it was delivered, and what it said."""
    folders = [f"{json_file.FOLDER}/{name}" for name in listed(host, json_file.FOLDER)]
    folders += [f"{_DOCUMENTS}/{name}" for name in listed(host, _DOCUMENTS) if _delivered(name)]
    folders += [f"{_LOGS}/{name}" for name in listed(host, _LOGS) if _LOG.fullmatch(name)]
    gone = [name for folder in folders if host.exists(folder) for name in trees.remove(host, folder)]
    empty = host.exists(_DOCUMENTS) and all(map(_delivered, listed(host, _DOCUMENTS)))
    if empty and host.remove(_DOCUMENTS):
        gone.append(_DOCUMENTS)
    gone += boot_mounts.clear(host)
    for name in gone:
        yield changed(name, "removed")
    if not gone:
        yield unchanged("memory", "nothing was remembered")


def _delivered(name: str) -> bool:
    """Whether it is a file of the platform's archive; what else lies in the folder is the customer's."""
    member = f"gandi/{name}"
    known = (archive_layout.CONFIG, archive_layout.SCRIPT, archive_layout.INIT)
    return member in known or archive_layout.MODULES.fullmatch(member) is not None


def host_keys(host: Host) -> Iterator[Item]:
    """Remove the keys by which SSH knows this machine."""
    there = listed(host, hostkeys.FOLDER)
    names = [*hostkeys.keys(host), *(name for name in _UNFINISHED_KEYS if name in there)]
    for name in names:
        trees.remove(host, f"{hostkeys.FOLDER}/{name}")
    yield (changed if names else unchanged)("host keys", "none: the first boot makes them")


def machine_id(host: Host) -> Iterator[Item]:
    """Leave /etc/machine-id present and empty: systemd then makes a new one, and does not take the boot for
    that of a new system, as it does where the file is missing or says "uninitialized" (machine-id(5)).
    """
    empty = host.write(MACHINE_ID, b"", mode=0o444)
    if not os.path.islink(os.path.join(host.path("/var/lib/dbus"), "machine-id")):
        empty |= host.remove(_DBUS_MACHINE_ID)
    yield (changed if empty else unchanged)("machine-id", "empty: the first boot makes one")
