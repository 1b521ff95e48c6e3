"""Find the disk of a mounted image, for its boot loader, and refuse one that this machine uses itself."""

from __future__ import annotations

import os

from agent.block import mounts, storage
from agent.host.sysfs import attribute, devnode, listed
from agent.image.boot_loader import Target
from agent.lib.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.host.host import Host


def find(host: Host, root: str, *, is_written: bool = True) -> Target:
    """Return the disk of the image that is mounted at ``root``. ``is_written``: beside that mount.

    Raise ConfigError if that is no partition of a disk or the machine's own, and with ``is_written`` also if
    this machine uses the disk for anything else.
    """
    if root == "/":
        raise ConfigError(
            "/: no image, but this machine: nothing was changed", hint="mount the image elsewhere"
        )
    here = mounts.mounts(host)
    mount = next((one for one in reversed(here) if one.mountpoint == root), None)
    name = storage.name_of(host, mount.devno) if mount else ""
    disk = _disk(host, name)
    if mount is None or not disk:
        raise ConfigError(
            f"{root}: no partition of a disk is mounted there",
            hint="mount the root filesystem of the image there, from a partition of its disk",
        )
    for use in _uses(host, here, root, disk) if is_written else ():
        raise ConfigError(
            f"{disk}: {use}: a disk that is in use gets no boot loader",
            hint="release it, if it is the image's: its ESP is written without a mount",
        )
    # The checksum of a superblock in use is right only when it has been written.
    host.run(("sync", "-f", root))
    found = storage.probe(host, devnode(name))
    return Target(disk, found.get("ID_FS_UUID", ""), mount.fstype)


def _disk(host: Host, name: str) -> str:
    """Return the path of the disk of a partition, or of the file or disk that a loop device has a part of;
    "" for a device on others.
    """
    path = storage.devpath(host, name) if name else ""
    if not path or listed(host, f"{path}/slaves"):
        return ""
    if attribute(host, f"{path}/loop/offset") not in ("", "0"):
        return os.path.realpath(attribute(host, f"{path}/loop/backing_file"))
    return devnode(storage.whole_disk(host, name))


def _uses(host: Host, here: tuple[mounts.Mount, ...], root: str, disk: str) -> Iterator[str]:
    """Yield each use of the disk by this machine, beside the mount at ``root``."""
    for one in here:
        names = (storage.name_of(host, number) for number in sorted(one.devnos))
        if one.mountpoint != root and disk in {_disk(host, name) for name in names}:
            yield f"is mounted at {one.mountpoint} too"
    for name in mounts.swap_names(host):
        if _disk(host, os.path.basename(name)) == disk:
            yield f"{name} is swap of this machine"
    for part in storage.with_partitions(host, os.path.basename(disk)):
        if listed(host, f"{storage.BLOCK}/{part}/holders"):
            yield f"{part} is part of a volume of this machine"
