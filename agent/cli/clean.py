"""The verb ``clean``: prepare a machine, or a mounted system, to become an image.

Removed is what identifies a machine: the agent's state, the delivered document, host keys and machine-id.
What users installed, configured or created stays, and so do the network's files: the first boot of a new
instance rewrites those.
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

    from agent.config.model import InstanceConfig
    from agent.report import Item

#: Seconds to wait for a stage that runs.
_LOCK_TIMEOUT = 10.0
MACHINE_ID = "/etc/machine-id"
_DBUS_MACHINE_ID = "/var/lib/dbus/machine-id"
#: Files of gandi-hostkeys in /etc/ssh: the mark of a run that was cut, its keys, and the types to make.
_KEY_FILES = (".gandi-host-keys", ".gandi-host-keys.new", ".gandi-host-key-types")
#: Folders of the delivered document, and of the log files of the agent and its predecessors.
_DOCUMENTS, _LOGS = "/gandi", "/var/log"
_LOG = re.compile(r"gandi(?:[-.].*)?")


def image_host(root: Path) -> Host:
    """Return the system below ``root``: the running one or an image's. Raise ConfigError without one."""
    host = Host(root.resolve(), offline=root.resolve() != root.resolve().parent)
    if not host.exists("/etc/passwd"):
        raise ConfigError(f"{root}: no system is mounted there", hint="mount the image's root filesystem")
    return host


def clean(host: Host, *, dry_run: bool = False) -> int:
    """Clean the system, print what was or would be done, and return 0."""
    host.dry_run = dry_run
    # False when chrooted into an image.
    runs = not host.offline and host.exists("/run/systemd/system")
    if dry_run or not runs:
        _clean(host)
        return 0
    with stages.stage_lock(host, "clean", _LOCK_TIMEOUT):
        _clean(host)
    terminal.print_lines("power off now; the next boot is treated as a first boot")
    return 0


def _clean(host: Host) -> None:
    for item in (*_remove_state(host), *host_keys(host), *machine_id(host)):
        terminal.print_lines(
            f"would be {item}" if host.dry_run and item.outcome is Outcome.CHANGED else item
        )


def _remove_state(host: Host) -> Iterator[Item]:
    """Remove the agent's state, the delivered document and log files."""
    folders = [f"{json_file.FOLDER}/{name}" for name in listed(host, json_file.FOLDER)]
    folders += [f"{_DOCUMENTS}/{name}" for name in listed(host, _DOCUMENTS) if _delivered(name)]
    folders += [f"{_LOGS}/{name}" for name in listed(host, _LOGS) if _LOG.fullmatch(name)]
    removed = [name for folder in folders if host.exists(folder) for name in trees.remove(host, folder)]
    empty = host.exists(_DOCUMENTS) and all(map(_delivered, listed(host, _DOCUMENTS)))
    if empty and host.remove(_DOCUMENTS):
        removed.append(_DOCUMENTS)
    removed += boot_mounts.remove_all(host)
    for name in removed:
        yield changed(name, "removed")
    if not removed:
        yield unchanged("state", "nothing to remove")


def _delivered(name: str) -> bool:
    """Return whether it is a file of the platform's archive; others in the folder are the customer's."""
    member = f"gandi/{name}"
    known = (archive_layout.CONFIG, archive_layout.SCRIPT, archive_layout.INIT)
    return member in known or archive_layout.modules_release(member) is not None


def host_keys(host: Host, config: InstanceConfig | None = None) -> Iterator[Item]:
    """Remove the SSH host keys, except those that the document delivers."""
    present = listed(host, hostkeys.FOLDER)
    names = [*hostkeys.keys(host, config), *(name for name in _KEY_FILES if name in present)]
    for name in names:
        trees.remove(host, f"{hostkeys.FOLDER}/{name}")
    is_delivered = config is not None and config.sshd is not None and config.sshd.has_keys
    left = "only the delivered ones" if is_delivered else "none: the first boot makes them"
    yield (changed if names else unchanged)("host keys", left)


def machine_id(host: Host) -> Iterator[Item]:
    """Make /etc/machine-id empty: systemd then makes a new id, without treating the boot as a first boot, as
    it does if the file is missing or contains "uninitialized" (machine-id(5)).
    """
    empty = host.write(MACHINE_ID, b"", mode=0o444)
    if not os.path.islink(os.path.join(host.path("/var/lib/dbus"), "machine-id")):
        empty |= host.remove(_DBUS_MACHINE_ID)
    yield (changed if empty else unchanged)("machine-id", "empty: the first boot makes one")
