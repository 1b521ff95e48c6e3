"""The running system as the disk handler sees it: udev's answers, systemd's mount units, writers in
transient units.

One replaceable value, so that the same handler runs against a real kernel where PID 1 is not systemd and
no udev runs.
"""

from __future__ import annotations

import re
from functools import partial

from agent.block import mounts, storage
from agent.block.transport import attachment
from agent.disks.base.record import Records
from agent.host.sysfs import devnode
from agent.lib.errors import HostError
from agent.lib.records import dataclass
from agent.systemd import transient
from agent.udev import database

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agent.block.storage import Disk
    from agent.host.host import Host

#: Seconds that mounting one filesystem may take; a journal replay of a large disk is part of it.
MOUNT_TIMEOUT = 600.0
#: Seconds that a check or a growth may take before PID 1 stops it.
WRITER_TIMEOUT = 4 * 3600.0
#: Seconds that an unmount may take: what has not been written yet is written.
RELEASE_TIMEOUT = 600.0
#: Characters of a device or mountpoint in the name of its unit, which may have 255.
_UNIT_NAME = 200
#: Seconds that a writer waits for the lock on the whole disk.
_LOCK_TIMEOUT = 60
#: Seconds that udev may take to finish with a disk that it has seen.
UDEV_TIMEOUT = 10


def read(host: Host, name: str) -> Disk | None:
    """The disk as it is now, once udev has finished with it (bounded; then libblkid is asked directly).

    Of a disk that we have dealt with already, only udev is asked: an administrator who is at work on it must
    not find one of its partitions open. Where udev has not finished with one, its event is still to come.
    """
    path = storage.devpath(host, name)
    known = partial(database.block, host)
    if path and not attachment(host, path)[1] and "USEC_INITIALIZED" not in known(name):
        asked = ("udevadm", "wait", f"--timeout={UDEV_TIMEOUT}", devnode(name))
        host.run(asked, changes=False, check=False, timeout=UDEV_TIMEOUT + 5)
    is_ours = Records(host).has_done(name)
    return storage.read(host, name, partial(_answered, host) if is_ours else known, opened=not is_ours)


def _answered(host: Host, name: str) -> dict[str, str]:
    found = database.block(host, name)
    return {"USEC_INITIALIZED": "0", **found} if found else found


def mount(host: Host, node: str, at: str, fstype: str, options: str) -> None:
    """Mount by a transient unit that is bound to the device."""
    transient.mount(host, node, at, fstype=fstype, options=options, timeout=MOUNT_TIMEOUT)


def unmount(host: Host, at: str) -> None:
    """Stop the mount unit, whoever uses what is mounted: for a device that has gone. A mount that the
    automounter made has no lazy unit; there umount(8) does it, in PID 1's view of the machine.
    """
    try:
        transient.unmount(host, at, timeout=60)
    except HostError:
        if not _is_mounted(host, at):
            raise
    if _is_mounted(host, at):
        command = ("umount", "--lazy", "--no-canonicalize", "--", at)  # a dead path answers nothing
        transient.run(host, unit_name("umount", at.strip("/")), command, timeout=60)


def _is_mounted(host: Host, at: str) -> bool:
    return any(mount.at == at for mount in mounts.mounts(host))


def release(host: Host, at: str) -> None:
    """Unmount in PID 1's view of the machine, as umount(8) does: raises HostError when somebody uses it."""
    command = ("umount", "--", at)
    transient.run(host, unit_name("umount", at.strip("/")), command, timeout=RELEASE_TIMEOUT)


def write(host: Host, unit: str, disk: str, argv: Sequence[str], stdin: str = "") -> None:
    """Run what writes a disk's metadata under the lock on the whole disk, in a unit that outlives the
    daemon.

    A unit of that name that still runs is joined instead. The caller judges by the result: ``udevadm
    lock`` of systemd 252 ends with 0 even when its command fails.
    """
    locked = ("udevadm", "lock", f"--timeout={_LOCK_TIMEOUT}", f"--device={disk}", "--", *argv)
    transient.run(host, unit, locked, timeout=WRITER_TIMEOUT, stdin=stdin)


def unit_name(purpose: str, device: str) -> str:
    """The name of a writer's unit, ``gandi-grow-vdb1``."""
    return f"gandi-{purpose}-{re.sub(r'[^A-Za-z0-9]', '-', device)[:_UNIT_NAME]}"


def environment(node: str, action: str, udev: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a hook about a device finds in its environment."""
    return {**(udev or {}), "ACTION": action, "DEVNAME": node}


@dataclass(frozen=True, slots=True)
class System:
    """How disks are read and acted upon."""

    read: Callable[[Host, str], Disk | None] = read
    names: Callable[[Host], list[str]] = storage.names
    mount: Callable[[Host, str, str, str, str], None] = mount
    unmount: Callable[[Host, str], None] = unmount
    write: Callable[..., None] = write
    release: Callable[[Host, str], None] = release


SYSTEMD = System()
