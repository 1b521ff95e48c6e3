"""The verb ``clean``: prepare a machine, or a mounted system, to become an image.

Removed is what identifies a machine: the agent's state, the delivered document, host keys and machine-id.
What users installed, configured or created stays, and so do the network's files: the first boot of a new
instance rewrites those. Options remove more: what the machine has logged, the agent's accounts and keys; and
make free blocks empty, at the end, when all else is removed.
"""

from __future__ import annotations

import os
import re

from agent import stages
from agent.host import terminal, trees
from agent.host.chroot_path import unfollowed
from agent.host.host import Host
from agent.host.sysfs import listed
from agent.lib.errors import ConfigError, HostError
from agent.lib.text import lines
from agent.programs import command_line, ownership
from agent.reader.common import archive_layout
from agent.report import Outcome, changed, failed, guarded, unchanged
from agent.state import json_file
from agent.steps import hostkeys
from agent.steps.plugins import enabled_programs
from agent.systemd import boot_mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

    from agent.config.model import InstanceConfig
    from agent.report import Item

#: What may be cleaned besides: the options of the command line.
LOGS, KEYS, USERS, ZERO = "logs", "ssh-keys", "users", "zero"
#: The operator's programs, and seconds for each.
HOOKS, _HOOK_TIMEOUT = "/etc/gandi/clean.d", 120.0
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


def clean(host: Host, *, dry_run: bool = False, also: Collection[str] = ()) -> int:
    """Clean the system, print what was or would be done, and return 0, or 1 if a part failed.

    ``also``: LOGS, KEYS, USERS, ZERO. Raise ConfigError, before anything is changed, if an account that is
    to be removed is in use.
    """
    host.dry_run = dry_run
    # False when chrooted into an image.
    runs = not host.offline and host.exists("/run/systemd/system")
    if dry_run or not runs:
        return _clean(host, also)
    with stages.stage_lock(host, "clean", _LOCK_TIMEOUT):
        status = _clean(host, also)
    if not status:
        terminal.print_lines("power off now; the next boot is treated as a first boot")
    return status


def _clean(host: Host, also: Collection[str]) -> int:
    """Do each part and print its items. The records say which accounts are the agent's: as long as one is
    left, they stay, and so does the rest.
    """
    if (USERS in also or KEYS in also) and not _print(host, _accounts(host, also)):
        terminal.print_error("gandi-agent: clean ended here, so that it can be run again")
        return 1
    parts = [_remove_state(host), host_keys(host), machine_id(host)]
    if LOGS in also:
        from agent.image import traces

        parts.append(traces.remove(host))
    parts.append(_hooks(host, also))
    if ZERO in also:
        from agent.image import free_blocks

        parts.append(guarded("free blocks", free_blocks.empty(host)))
    done = [_print(host, part) for part in parts]
    return int(not all(done))


def _print(host: Host, items: Iterable[Item]) -> bool:
    """Print each item as it is done; return False if one has failed."""
    is_done = True
    for item in items:
        is_planned = host.dry_run and item.outcome is Outcome.CHANGED
        terminal.print_lines(f"would be {item}" if is_planned else item)
        is_done &= item.outcome is not Outcome.FAILED
    return is_done


def _accounts(host: Host, also: Collection[str]) -> Iterator[Item]:
    """Remove the agent's accounts, or only its keys of accounts that stay."""
    from agent.image import made_accounts

    them = made_accounts.accounts(host) if USERS in also else []
    made_accounts.refuse_if_used(host, them)
    yield from made_accounts.remove_accounts(host, them)
    if KEYS in also:
        yield from made_accounts.remove_keys(host, them)


def _hooks(host: Host, also: Collection[str]) -> Iterator[Item]:
    """Run the operator's programs for this command, in byte order; one of an image in its sandbox."""
    for name in enabled_programs(host, HOOKS):
        path = f"{HOOKS}/{name}"
        why, remedy = ownership.why_untrusted(os.path.realpath(host.path("/")), path)
        if why:
            yield failed(name, f"not run: {why}", remedy)
            continue
        head = host.read_bytes(path, limit=command_line.HEAD) or b""
        argv = command_line.words(path, head, ())
        try:
            said = host.run(argv, timeout=_HOOK_TIMEOUT, environment={"GANDI_CLEAN": " ".join(sorted(also))})
        except HostError as error:
            yield failed(name, error.message, error.hint or "correct the program, and run the command again")
        else:
            terminal.print_lines(*(f"{name}: {line}" for line in lines(said.stdout + said.stderr)))
            yield changed(name, "run")


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
    if not os.path.islink(unfollowed(host, _DBUS_MACHINE_ID)):
        empty |= host.remove(_DBUS_MACHINE_ID)
    yield (changed if empty else unchanged)("machine-id", "empty: the first boot makes one")
