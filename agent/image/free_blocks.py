"""Make the free blocks of a root filesystem empty, so that its image is small when it is compressed, and no
removed file is in it: fstrim(8) where the disk discards, else zeros.

The zeros are written to a file without a name (O_TMPFILE), which the kernel removes with its last
descriptor: nothing is left of it when the command is interrupted or killed, or at a power cut.
"""

from __future__ import annotations

import errno
import os

from agent.block import mounts
from agent.host.host import Host
from agent.host.sysfs import attribute
from agent.lib.errors import HostError
from agent.lib.text import gib, number
from agent.report import changed, failed, skipped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.block.mounts import Mount
    from agent.report import Item

_ITEM = "free blocks"
#: Filesystems that write zeros as they are; btrfs and f2fs may compress them.
_ZEROED = ("ext2", "ext3", "ext4", "xfs")
_CHUNK = bytes(4 << 20)
#: Full: the normal end of the file.
_FULL = (errno.ENOSPC, errno.EDQUOT)
#: Seconds for fstrim.
_TIMEOUT = 1800.0


def empty(host: Host) -> Iterator[Item]:
    """Discard or zero the free blocks, as one item. At most as many bytes are written as were free."""
    root = os.path.realpath(host.path("/"))
    # A chroot or a folder on this machine's disk is no root filesystem: its free blocks are this machine's.
    found = [mount for mount in mounts.mounts(Host()) if mount.mountpoint == root and mount.root == "/"]
    if not found or not _nodes(found[-1]):
        yield skipped(_ITEM, f"no filesystem of a disk is mounted at {root}")
        return
    mount, info = found[-1], os.statvfs(root)
    free = info.f_bfree * info.f_frsize
    if _discards(mount):
        if not host.dry_run:
            Host().run(("fstrim", root), timeout=_TIMEOUT)
        yield changed(_ITEM, f"{gib(free)} discarded")
    elif mount.fstype not in _ZEROED:
        yield skipped(_ITEM, f"{mount.fstype} may compress zeros, and its disk does not discard")
    elif host.dry_run:
        yield changed(_ITEM, f"{gib(free)} filled with zeros")
    else:
        yield _zero(host, free)


def _zero(host: Host, free: int) -> Item:
    written = 0
    os.sync()  # the blocks of removed files are free only when that is on the disk
    with host.opened("/", os.O_WRONLY | os.O_TMPFILE) as file:
        try:
            while written < free:
                written += os.write(file, _CHUNK[: free - written])
            os.fsync(file)
        except OSError as error:
            if error.errno not in _FULL:
                return failed(_ITEM, f"not all are zero: {error.strerror}", "see: dmesg")
            _flush(file)
    return changed(_ITEM, f"{gib(written)} filled with zeros")


def _flush(file: int) -> None:
    """Have the zeros on the disk before their blocks are free again."""
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno not in _FULL:
            raise HostError(f"{_ITEM}: not all are zero: {error.strerror}", hint="see: dmesg") from error


def _nodes(mount: Mount) -> list[str]:
    """Return the folders in sysfs of the filesystem's devices, none for one without a disk."""
    nodes = (f"/sys/dev/block/{devno}" for devno in mount.devnos)
    return [node for node in nodes if os.path.exists(node)]


def _discards(mount: Mount) -> bool:
    """Return whether each device discards; a partition has its disk's queue."""
    for node in _nodes(mount):
        queue = next((one for one in (f"{node}/queue", f"{node}/../queue") if os.path.exists(one)), "")
        if not number(attribute(Host(), f"{queue}/discard_max_bytes")):
            return False
    return True
