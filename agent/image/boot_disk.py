"""Find the disk of a mounted image, for its boot loader, and refuse one that this machine uses itself."""

from __future__ import annotations

import os
import stat

from agent.block import mounts, storage
from agent.host.sysfs import attribute, devnode, listed
from agent.image.boot_loader import Target
from agent.lib.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.host.host import Host

_MOUNT = "mount the root filesystem of the image there, from a partition of its disk"


def find(host: Host, root: str) -> Target:
    """Return the disk of the image that is mounted at ``root``.

    Raise ConfigError if that is no partition of a disk, or if this machine uses the disk for anything else.
    """
    here = mounts.mounts(host)
    mount = next((one for one in reversed(here) if one.mountpoint == root), None)
    name = storage.name_of(host, mount.devno) if mount else ""
    disk = _disk(host, name)
    if mount is None or not disk:
        raise ConfigError(f"{root}: no partition of a disk is mounted there", hint=_MOUNT)
    _check_use(host, here, root, disk)
    found = storage.probe(host, devnode(name))
    return Target(disk, found.get("ID_FS_UUID", ""), mount.fstype)


def _disk(host: Host, name: str) -> str:
    """Return the path of the disk of a partition, or of the part of a disk that a loop device has; "" for
    another device.
    """
    path = storage.devpath(host, name) if name else ""
    if not path:
        return ""
    if host.exists(f"{path}/partition"):
        return devnode(storage.whole_disk(host, name))
    if attribute(host, f"{path}/loop/offset") not in ("", "0"):
        return attribute(host, f"{path}/loop/backing_file")
    return devnode(name) if not listed(host, f"{path}/slaves") else ""


def _check_use(host: Host, here: tuple[mounts.Mount, ...], root: str, disk: str) -> None:
    """Raise ConfigError if this machine has anything else of the disk."""
    try:
        info = os.stat(disk)
    except OSError as error:
        raise ConfigError(
            f"{disk}: {error.strerror}: the disk of the image is not known", hint=_MOUNT
        ) from error
    if not stat.S_ISBLK(info.st_mode):
        return
    number = f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}"
    parts = storage.with_partitions(host, storage.name_of(host, number))
    numbers = {storage.devno_of(host, part): part for part in parts}
    for one in here:
        if one.mountpoint != root and not one.devnos.isdisjoint(numbers):
            raise ConfigError(
                f"{disk}: is mounted at {one.mountpoint} too: a disk in use gets no boot loader",
                hint="unmount it there, if it is the image's: its ESP is written without a mount",
            )
    used = sorted(numbers[number] for number in mounts.swaps(host) if number in numbers)
    used += [part for part in parts if listed(host, f"{storage.BLOCK}/{part}/holders")]
    if used:
        raise ConfigError(
            f"{disk}: {used[0]} is in use by this machine, which gets no boot loader",
            hint="release it, if it is the image's",
        )
