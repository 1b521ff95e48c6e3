"""Who sits on a filesystem: processes with a file open, mapped or run from it or with a folder in it, and
what the kernel itself keeps there (loop devices, swap files).

Told apart by device numbers, not by paths: a process keeps its place after a lazy unmount and in a mount
namespace of its own, where no path leads to it. Looking can hang where a process holds a file of a server
that does not answer, so it is bounded; what was found by then counts.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading

from agent import mounts
from agent.hotplug.together import together
from agent.plain import dataclass
from agent.sysfs import listed
from agent.text import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.host import Host

#: Seconds that looking at all processes may take while somebody waits for the answer.
_TIMEOUT = 20.0
#: Filesystems of which the kernel tells whether anybody still has one: a folder for each, by device name
#: (or, for btrfs, by UUID).
_ANNOUNCED = {"ext2": "ext4", "ext3": "ext4", "ext4": "ext4", "xfs": "xfs", "f2fs": "f2fs", "btrfs": "btrfs"}


@dataclass(frozen=True, slots=True)
class Holder:
    """One process (``pid`` 0: the kernel) and the first file or folder that it holds."""

    pid: int
    name: str
    path: str

    def __str__(self) -> str:
        return f"{self.name} ({self.pid or 'kernel'}): {self.path}"


def of(host: Host, mountpoint: str) -> list[Holder]:
    """Who uses the filesystem that is mounted there, through whichever mount of it."""
    found = [mount for mount in mounts.mounts(host) if mount.at == mountpoint]
    if not found:
        return []
    top = found[-1]
    return [*kernel(host, mountpoint), *on(host, top.numbers | known_as(host, top))]


def known_as(host: Host, mount: mounts.Mount) -> frozenset[str]:
    """The numbers that stat(2) and the kernel give to the files of a mounted filesystem."""
    try:
        return frozenset({mount.number, _spelled(os.stat(host.path(mount.at)).st_dev)})
    except OSError:
        return frozenset({mount.number})


def alias(host: Host, mountpoint: str, fstype: str) -> str:
    """The number under which stat(2) knows the files of what is mounted there, where it is not the device's
    own; "" where it is.
    """
    try:
        return _spelled(os.stat(host.path(mountpoint)).st_dev) if fstype == "btrfs" else ""
    except OSError:
        return ""


def on(host: Host, numbers: frozenset[str], seconds: float = _TIMEOUT) -> list[Holder]:
    """The processes that hold something on a filesystem, mounted or not, that goes by these device numbers;
    by process id. ``seconds``: how long it may take to look.
    """
    found, over = dict[int, Holder](), threading.Event()

    def look() -> None:
        for holder in _processes(host, numbers):
            if not over.is_set():
                found.setdefault(holder.pid, holder)

    together({"holders": look}, seconds)
    over.set()
    return [found[pid] for pid in sorted(found)]


def kernel(host: Host, mountpoint: str) -> list[Holder]:
    """Loop devices and swap files that lie below the mountpoint: no process holds them."""
    inside = mountpoint.rstrip("/") + "/"
    found = [
        Holder(0, name, path)
        for name in listed(host, "/sys/class/block")
        if (path := _backing(host, name)).startswith(inside)
    ]
    return found + [Holder(0, "swap", path) for path in mounts.swap_names(host) if path.startswith(inside)]


def left(host: Host, name: str, fstype: str, uuid: str) -> bool:
    """Whether a filesystem that is mounted nowhere may still be held. The kernel tells of most at once; of
    the rest it has to be looked for.
    """
    return fstype not in _ANNOUNCED or announced(host, name, fstype, uuid)


def announced(host: Host, name: str, fstype: str, uuid: str) -> bool:
    """Whether the kernel says that it still has the filesystem of this device."""
    kind = _ANNOUNCED.get(fstype, "")
    return bool(kind) and host.exists(f"/sys/fs/{kind}/{uuid if kind == 'btrfs' else name}")


def _backing(host: Host, name: str) -> str:
    return (host.read(f"/sys/class/block/{name}/loop/backing_file") or "").rstrip("\n")


def _processes(host: Host, numbers: frozenset[str]) -> Iterator[Holder]:
    """Those with a folder or an open file there first: what is mapped takes long to read, and who is found
    late is found too late on a machine that is busy. The youngest first: the kernel's own are the oldest.
    """
    import psutil

    pids = [pid for pid in reversed(psutil.pids()) if pid != os.getpid()]
    for look in (_held, _mapped):
        for pid in pids:
            if path := look(host, pid, numbers):
                with contextlib.suppress(psutil.NoSuchProcess):
                    yield Holder(pid, psutil.Process(pid).name() or "?", path)


def _held(host: Host, pid: int, numbers: frozenset[str]) -> str:
    """A folder or an open file of the process there, "" when it has none. It may end meanwhile, or be none
    of ours to look at.
    """
    folder = f"{host.path('/proc')}/{pid}"
    links = [f"{folder}/{name}" for name in ("cwd", "root", "exe")]
    with contextlib.suppress(OSError):
        links += [f"{folder}/fd/{name}" for name in os.listdir(f"{folder}/fd")]
    for link in links:
        if _number(link) in numbers:
            with contextlib.suppress(OSError):
                return os.readlink(link)
    return ""


def _mapped(host: Host, pid: int, numbers: frozenset[str]) -> str:
    """A file that is mapped from there (proc_pid_maps(5); its numbers are hexadecimal)."""
    path = f"{host.path('/proc')}/{pid}/maps"
    with contextlib.suppress(OSError), open(path, errors="backslashreplace", newline="\n") as lines:
        for line in lines:
            fields = words(line, 5)
            if len(fields) == 6 and fields[4] != "0":
                major, _, minor = fields[3].partition(":")
                if f"{int(major, 16)}:{int(minor, 16)}" in numbers:
                    return fields[5].rstrip("\n")
    return ""


def _number(path: str) -> str:
    """The device number of the file that a link of /proc leads to, "" where there is none.

    XFS answers nothing but statfs(2) once its device has gone; its filesystem id is the device number, as
    the kernel's new_encode_dev() spells it.
    """
    try:
        return _spelled(os.stat(path).st_dev)
    except OSError as error:
        if error.errno != errno.EIO:
            return ""
    try:
        code = os.statvfs(path).f_fsid & 0xFFFFFFFF
    except OSError:
        return ""
    return f"{(code & 0xFFF00) >> 8}:{(code & 0xFF) | ((code >> 12) & 0xFFF00)}"


def _spelled(device: int) -> str:
    return f"{os.major(device)}:{os.minor(device)}"
