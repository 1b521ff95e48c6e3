"""The disk handler's interface to the running system: udev's database, systemd's mount units, writers in
transient units.

It is one replaceable value, so that the handler can run with a real kernel but without systemd and udev.
"""

from __future__ import annotations

import contextlib
import re
from functools import partial

from agent.block import mounts, storage
from agent.block.transport import attachment
from agent.disks.base.record import Records
from agent.host.sysfs import devnode
from agent.lib.errors import HostError
from agent.lib.records import dataclass
from agent.systemd import boot_mounts, transient, units
from agent.udev import database

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agent.block.storage import Disk
    from agent.host.host import Host

#: Seconds that mounting one filesystem may take, with the journal replay of a large disk.
MOUNT_TIMEOUT = 600.0
#: Seconds after which PID 1 stops a check or a growth.
WRITER_TIMEOUT = 4 * 3600.0
#: The mount namespace of the whole machine, for mount(8) and umount(8).
_NAMESPACE = "--namespace=/proc/1/ns/mnt"
#: Seconds until PID 1 has stopped a mount unit and the services that require it.
_STOP_TIMEOUT = 60.0
#: Seconds that an unmount may take, with writing all cached data.
RELEASE_TIMEOUT = 600.0
#: Characters of a device or mountpoint in the name of a unit, which may have 255.
_UNIT_NAME = 200
#: Seconds that a writer waits for the lock on the whole disk.
_LOCK_TIMEOUT = 60
#: Seconds to wait for udev to finish with a disk.
UDEV_TIMEOUT = 10


def read(host: Host, name: str) -> Disk | None:
    """Return the disk as it is now, or None if it has gone. Wait until udev has finished with it, at most
    UDEV_TIMEOUT seconds; then use libblkid directly.

    For a disk that the agent has used before, read udev's database only: opening it could disturb an
    administrator's work on its partitions. If udev has not finished with one, its event is still to come.
    """
    path = storage.devpath(host, name)
    known = partial(database.block, host)
    if path and not attachment(host, path)[1] and "USEC_INITIALIZED" not in known(name):
        command = ("udevadm", "wait", f"--timeout={UDEV_TIMEOUT}", devnode(name))
        host.run(command, changes=False, check=False, timeout=UDEV_TIMEOUT + 5)
    is_used = Records(host).has_done(name)
    return storage.read(host, name, partial(_answered, host) if is_used else known, opened=not is_used)


def _answered(host: Host, name: str) -> dict[str, str]:
    found = database.block(host, name)
    return {"USEC_INITIALIZED": "0", **found} if found else found


def mount(host: Host, node: str, mountpoint: str, fstype: str, options: str) -> None:
    """Mount with mount(8) in PID 1's mount namespace, since a mount in the daemon's own would end with it.
    PID 1 makes the mount unit when it sees the mount. Raise HostError.

    No helper (mount.TYPE) is run: one of FUSE (exfat-fuse) serves the mount, and would end with the daemon.
    """
    if not host.allows(f"mount {node} at {mountpoint} ({fstype}, {options})"):
        return
    boot_mounts.replace_unit(host, units.of_path(mountpoint, "mount"), timeout=MOUNT_TIMEOUT)
    command = ("mount", _NAMESPACE, "--internal-only", "-t", fstype, "-o", options, "--", node, mountpoint)
    try:
        host.run(command, timeout=MOUNT_TIMEOUT)
    except HostError as error:
        raise HostError(error.message, hint=error.hint or "see: journalctl -b -k") from error


def unmount(host: Host, mountpoint: str) -> None:
    """Stop the mount unit of a device that has gone, and with it the services that require it. Then end the
    mount in PID 1's mount namespace if it is still there, since it is in use. Raise HostError.

    If several filesystems are mounted at this place, end the topmost mount only: PID 1 would end all.
    """
    if not host.allows(f"unmount {mountpoint}"):
        return
    from agent.systemd import libsystemd

    if len({mount.devno for mount in mounts_at(host, mountpoint)}) < 2:
        # PID 1 knows no unit of a longer name: the mount shows the result.
        with contextlib.suppress(HostError):
            libsystemd.stop(units.of_path(mountpoint, "mount"), timeout=_STOP_TIMEOUT)
    if is_mounted(host, mountpoint):
        # --no-canonicalize: stat(2) fails on the path of a dead device.
        command = ("umount", _NAMESPACE, "--lazy", "--no-canonicalize", "--", mountpoint)
        host.run(command, timeout=_STOP_TIMEOUT)


def is_mounted(host: Host, mountpoint: str) -> bool:
    """Return whether a filesystem is mounted at a place."""
    return bool(mounts_at(host, mountpoint))


def mounts_at(host: Host, mountpoint: str) -> list[mounts.Mount]:
    """Return the mounts at a place, the topmost last, without an automounter that mounts there on access."""
    return [m for m in mounts.mounts(host) if m.mountpoint == mountpoint and m.fstype != "autofs"]


def release(host: Host, mountpoint: str) -> None:
    """Unmount with umount(8) in PID 1's mount namespace. Raise HostError if the filesystem is in use."""
    command = ("umount", "--", mountpoint)
    transient.run(host, unit_name("umount", mountpoint.strip("/")), command, timeout=RELEASE_TIMEOUT)


def write(host: Host, unit: str, disk: str, argv: Sequence[str], stdin: str = "") -> None:
    """Run a command that writes a disk's metadata, with the lock on the whole disk, in a unit that outlives
    the daemon.

    If a unit of that name still runs, wait for it instead. The caller must check the result on the disk:
    ``udevadm lock`` of systemd 252 exits with 0 even if its command fails.
    """
    locked = ("udevadm", "lock", f"--timeout={_LOCK_TIMEOUT}", f"--device={disk}", "--", *argv)
    transient.run(host, unit, locked, timeout=WRITER_TIMEOUT, stdin=stdin)


def unit_name(purpose: str, device: str) -> str:
    """Return the name of a writer's unit, as ``gandi-grow-vdb1``."""
    return f"gandi-{purpose}-{re.sub(r'[^A-Za-z0-9]', '-', device)[:_UNIT_NAME]}"


def environment(node: str, action: str, udev: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment variables of a hook for a device."""
    return {**(udev or {}), "ACTION": action, "DEVNAME": node}


@dataclass(frozen=True, slots=True)
class System:
    """The functions that read and change disks."""

    read: Callable[[Host, str], Disk | None] = read
    names: Callable[[Host], list[str]] = storage.names
    name_of: Callable[[Host, str], str] = storage.name_of
    mount: Callable[[Host, str, str, str, str], None] = mount
    unmount: Callable[[Host, str], None] = unmount
    write: Callable[..., None] = write
    release: Callable[[Host, str], None] = release


SYSTEMD = System()
