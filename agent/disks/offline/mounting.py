"""Mount the filesystems of an image where only this process and its children see them.

The mount namespace, with what is mounted in it, ends with the last of these processes, also if they are
killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os

from agent.disks.base.system import MOUNT_TIMEOUT, RELEASE_TIMEOUT
from agent.lib.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.host.host import Host

#: A folder that every machine has; what is in it is hidden from this process only.
PLACE = "/mnt"
_NEW_MOUNTS = 0x00020000  # CLONE_NEWNS of linux/sched.h
#: Nothing on it counts on this machine: programs with the rights of their owner, device nodes.
_OPTIONS = "nosuid,nodev,noatime"
#: A copy of a filesystem that is mounted may be mounted beside it.
_MORE = {"xfs": ",nouuid"}
#: A filesystem with a journal is written to also by a mount that is read-only.
_UNWRITTEN = {
    "ext3": ",noload",
    "ext4": ",noload",
    "xfs": ",norecovery",
    "btrfs": ",rescue=nologreplay",
}


def leave_shared_mounts(host: Host) -> None:
    """Give this process a mount namespace of its own, in which what the machine unmounts is unmounted, too:
    a copy would keep its disk in use. Raise HostError if it may not have one.
    """
    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(_NEW_MOUNTS):
        raise HostError(
            f"no mount namespace: {os.strerror(ctypes.get_errno())}",
            hint="work where root may make namespaces and mounts: not in a container",
        )
    host.run(("mount", "--make-rslave", "/"))


@contextlib.contextmanager
def mounted(
    host: Host, node: str, fstype: str, *, read_only: bool = False, place: str = PLACE
) -> Iterator[None]:
    """Mount the filesystem at ``place``; with ``read_only``, without its journal, which would be written.
    Raise HostError if it cannot be mounted, or unmounted at the end.
    """
    access = f"ro{_UNWRITTEN.get(fstype, '')}" if read_only else "rw"
    options = f"{access},{_OPTIONS}{_MORE.get(fstype, '')}"
    # No helper (mount.TYPE) is run.
    argv = ("mount", "--internal-only", "-t", fstype, "-o", options, "--", node, place)
    try:
        host.run(argv, timeout=MOUNT_TIMEOUT)
    except HostError as error:
        hint = f"does this machine's kernel have {fstype}? is the filesystem whole?"
        raise HostError(error.message, hint=error.hint or hint) from error
    try:
        yield
    finally:
        host.run(("umount", "--", place), timeout=RELEASE_TIMEOUT)
