"""The mounts of a block device that has gone, the administrator's too: such a mount never works again, and
while it stays, the kernel keeps the device's name and number.
"""

from __future__ import annotations

import os

from agent.block import mounts, storage
from agent.disks.base.system import mounts_at
from agent.host.sysfs import devnode
from agent.lib.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

    from agent.block.mounts import Mount
    from agent.disks.base.system import System
    from agent.host.host import Host

#: How the number of a filesystem begins that is on no block device of its own.
_NO_DEVICE = "0:"


def find(host: Host, system: System, name: str, devno: str) -> list[Mount]:
    """Return the dead mounts of a device that has gone, in the kernel's order, by its kernel name and its
    number (major:minor, or "" if that is not known). The system's own disk has none: it cannot be unmounted.
    """
    own = [mount for mount in mounts.mounts(host) if _is_of(host, mount, name, devno)]
    if any(mount.mountpoint in mounts.SYSTEM for mount in own):
        return []
    return [mount for mount in own if not _is_alive(host, system, mount)]


def surviving(host: Host, system: System, name: str) -> str:
    """Return the mountpoint of the btrfs that was on the device and goes on with its other ones, or ""."""
    for mount in mounts.mounts(host):
        if mount.fstype == "btrfs" and _is_of(host, mount, name, "") and _is_alive(host, system, mount):
            return mount.mountpoint
    return ""


def end(host: Host, system: System, name: str, devno: str, places: Container[str]) -> None:
    """End the dead mounts of a device at these mountpoints, the last one first; what another filesystem
    covers stays. Raise HostError if one is left.
    """

    def still() -> list[Mount]:
        return [mount for mount in find(host, system, name, devno) if mount.mountpoint in places]

    problem = None
    for mount in reversed(still()):
        if _is_topmost(host, mount):
            try:
                system.unmount(host, mount.mountpoint)
            except HostError as error:
                # PID 1 may have been faster: then the unit has gone with the mount.
                problem = error
    if left := still():
        raise problem or _stays(host, name, left[-1])


def _stays(host: Host, name: str, mount: Mount) -> HostError:
    at, hint = mount.mountpoint, f"run: umount -l {mount.mountpoint}"
    if not _is_topmost(host, mount):
        hint = f"unmount what covers it there, then {hint}"
    return HostError(f"{at}: still mounted from {name}, which has gone", hint=hint)


def _is_topmost(host: Host, mount: Mount) -> bool:
    """Return whether umount(8) by the mountpoint would end this mount, or another one of its filesystem."""
    here = mounts_at(host, mount.mountpoint)
    return bool(here) and here[-1].devno == mount.devno


def _is_of(host: Host, mount: Mount, name: str, devno: str) -> bool:
    """Return whether the mount is, or was, on the device: by its number, or by the name in the mount's
    source, which any user can choose if there is no block device (FUSE). A btrfs has no device's number.
    """
    if mount.fstype == "btrfs":
        source = os.path.basename(mount.source)
        return mount.source == devnode(name) or name in mounts.btrfs_members(host, source)
    if mount.devno.startswith(_NO_DEVICE):
        return False
    return mount.devno == devno or mount.source == devnode(name)


def _is_alive(host: Host, system: System, mount: Mount) -> bool:
    """Return whether a device of the mount is present. Another device may have its number by now: the
    kernel frees it after the last mount, Xen's driver at once. The device of a mount is claimed, so one that
    is not claimed is not the mount's.
    """
    present = filter(None, (system.name_of(host, number) for number in mount.devnos))
    return any(storage.is_claimed(host, devnode(name)) for name in present)
