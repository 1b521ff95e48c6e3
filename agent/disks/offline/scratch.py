"""A copy of a system's files that is thrown away: the files below, and in memory above them what is written
(overlayfs). What is done in it is done to nothing else.

The caller has a mount namespace of its own (mounting.leave_shared_mounts), with which all of it ends.
"""

from __future__ import annotations

import contextlib
import os

from agent.block import mounts
from agent.disks.base.system import MOUNT_TIMEOUT, RELEASE_TIMEOUT
from agent.disks.offline.mounting import PLACE
from agent.host.host import COMMAND_TIMEOUT, Completed, Host
from agent.lib.errors import HostError, NeedsProgram
from agent.lib.records import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

#: Where the filesystem of an image may be mounted, once there is room.
IMAGE = f"{PLACE}/image"
_LAYERED = f"{PLACE}/layers"
_COPY = f"{_LAYERED}/copy"
_OPTIONS = "mode=0755,size=256m,nosuid,nodev"
_MEMORY = ("mount", "--internal-only", "-t", "tmpfs", "-o", _OPTIONS, "gandi-plan")
#: Nothing of the files below is trusted: neither what overlayfs could have noted in them, nor links.
_LAYERS = "nosuid,nodev,index=off,metacopy=off,redirect_dir=nofollow,xino=off"
#: Within a user namespace overlayfs keeps its notes in attributes that users may set.
_USERS_LAYERS = "nosuid,nodev,userxattr"
#: How the effects begin that are on files of the copy, though by system calls of their own.
_ON_FILES = ("write /", "sync /")
#: Folders on which a tree may have what is the machine's own.
_MACHINES = ("dev", "proc", "run", "sys")


@dataclass(slots=True)
class ScratchHost(Host):
    """The system in a copy. What is written there is recorded (``planned``); programs are recorded only."""

    offline: bool = True
    runs_programs: bool = False

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout: float = COMMAND_TIMEOUT,
        check: bool = True,
        changes: bool = True,
        environment: Mapping[str, str] | None = None,
        limit: int | None = None,
    ) -> Completed:
        """Record the command. Raise NeedsProgram for one that is run for its answer."""
        if not changes:
            raise NeedsProgram(argv[0])
        self.planned.append("run " + " ".join(argv))
        return Completed(tuple(argv), 0, "", "")

    def allows(self, description: str) -> bool:
        """Record the effect; return whether it is one on files, and not on this machine."""
        self.planned.append(description)
        return description.startswith(_ON_FILES)

    def _plan(self, what: str) -> bool:
        self.planned.append(what)
        return False


@contextlib.contextmanager
def room(host: Host) -> Iterator[None]:
    """Have room in memory at PLACE, until the end of the block. Raise HostError."""
    host.run((*_MEMORY, PLACE))
    try:
        host.mkdir(IMAGE)
        yield
    finally:
        host.run(("umount", "--lazy", "--", PLACE), timeout=RELEASE_TIMEOUT)


@contextlib.contextmanager
def copied(host: Host, root: str, *, in_user_namespace: bool = False) -> Iterator[str]:
    """Yield the path of a copy of the files below ``root``, with the filesystems that are mounted there.
    There is room; nothing of it holds those filesystems after the block. Raise HostError.
    """
    host.mkdir(_LAYERED)
    host.run((*_MEMORY, _LAYERED))
    try:
        host.mkdir(_COPY)
        for number, name in enumerate(_mounted(host, root)):
            base = f"{_LAYERED}/{number}"
            host.mkdir(f"{base}/lower")
            host.mkdir(f"{base}/work")
            # With what is mounted there: a user namespace may not look below it.
            host.run(("mount", "--rbind", "--", name, f"{base}/lower"), timeout=MOUNT_TIMEOUT)
            top = os.stat(f"{base}/lower")
            host.mkdir(f"{base}/upper", mode=top.st_mode & 0o7777, owner=(top.st_uid, top.st_gid))
            layers = f"lowerdir={base}/lower,upperdir={base}/upper,workdir={base}/work"
            options = f"{_USERS_LAYERS if in_user_namespace else _LAYERS},{layers}"
            target = _COPY + name.removeprefix(root.rstrip("/") or "/")
            argv = ("mount", "--internal-only", "-t", "overlay", "-o", options, "gandi-plan", target)
            try:
                host.run(argv, timeout=MOUNT_TIMEOUT)
            except HostError as error:
                hint = "overlayfs must be able to lie above it: mount it from its own disk, or use --image"
                raise HostError(f"{name}: no copy in memory: {error.message}", hint=hint) from error
        yield _COPY
    finally:
        host.run(("umount", "--lazy", "--", _LAYERED), timeout=RELEASE_TIMEOUT)


def _mounted(host: Host, root: str) -> list[str]:
    """Return the root, and what is mounted below it, from the top."""
    below = (root.rstrip("/")) + "/"
    found = {mount.mountpoint for mount in mounts.mounts(host) if mount.mountpoint.startswith(below)}
    first = {name: name.removeprefix(below).partition("/")[0] for name in found}
    is_ours = f"{PLACE}/"
    own = (name for name in found if first[name] not in _MACHINES and not f"{name}/".startswith(is_ours))
    return [root, *sorted(own)]
