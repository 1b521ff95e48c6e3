"""Find the users of a filesystem: processes that have a file of it open, mapped or running or a folder of it
as their own, and the kernel (loop devices, swap files).

Files are matched by device number, not by path: a process keeps its files after a lazy unmount, and in its
own mount namespace, where no path leads to them. The search can hang if a process has a file of a server
that does not answer, so its time is limited; what was found by then counts, and what was not searched is
named. A process's own memory (its command line) is never read: the process can block that.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading

from agent.block import mounts
from agent.host.sysfs import listed
from agent.lib.errors import HostError
from agent.lib.parallel import run_parallel
from agent.lib.records import dataclass, replace
from agent.lib.text import printable
from agent.systemd.journal import Journal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from agent.host.host import Host

#: Seconds to search all processes while a caller waits for the result.
_TIMEOUT = 20.0
#: Characters of a file's name that are shown.
_SHOWN = 200
#: Number of things that one line names.
_NAMED = 5
#: Filesystem types for which /sys/fs shows each filesystem in use: folder of the type there; below it one by
#: device name, or for btrfs by UUID.
_IN_SYSFS = {
    "ext2": "ext4",
    "ext3": "ext4",
    "ext4": "ext4",
    "xfs": "xfs",
    "f2fs": "f2fs",
    "btrfs": "btrfs",
}


@dataclass(frozen=True, slots=True)
class Holder:
    """A process (``pid`` 0: the kernel) and the first file or folder found that it uses."""

    pid: int
    name: str
    path: str

    def __str__(self) -> str:
        path = printable(self.path)
        path = path if len(path) <= _SHOWN else f"{path[:_SHOWN]}…"
        return f"{printable(self.name)[:_SHOWN]} ({self.pid or 'kernel'}): {path}"


@dataclass(frozen=True, slots=True)
class Search:
    """The users that were found, ordered by process id, and texts for what could not be searched."""

    found: tuple[Holder, ...] = ()
    missed: tuple[str, ...] = ()


def summary(things: Sequence[object]) -> str:
    """Return the first few as one line, with the number of the others."""
    more = f" and {len(things) - _NAMED} more" if len(things) > _NAMED else ""
    return "; ".join(str(thing) for thing in things[:_NAMED]) + more


def find_by_mountpoint(host: Host, mountpoints: Collection[str]) -> Search:
    """Return the users of the filesystems at these mountpoints, through any of their mounts. All processes
    are searched once, for any number of filesystems.
    """
    top = {mount.mountpoint: mount for mount in mounts.mounts(host) if mount.mountpoint in mountpoints}
    if not top:
        return Search()
    numbers = frozenset(number for mount in top.values() for number in mount.devnos | devnos_of(host, mount))
    search = find_by_devno(host, numbers)
    inside = dict.fromkeys(holder for mountpoint in top for holder in used_by_kernel(host, mountpoint))
    return replace(search, found=(*inside, *search.found))


def devnos_of(host: Host, mount: mounts.Mount) -> frozenset[str]:
    """Return the device numbers that stat(2) and the kernel give to the files of a mounted filesystem."""
    try:
        return frozenset({mount.devno, _spelled(os.stat(host.path(mount.mountpoint)).st_dev)})
    except OSError:
        return frozenset({mount.devno})


def alias(host: Host, mountpoint: str, fstype: str) -> str:
    """Return the device number that stat(2) returns for files at the mountpoint if it is not the device's
    own (btrfs), or "".
    """
    try:
        return _spelled(os.stat(host.path(mountpoint)).st_dev) if fstype == "btrfs" else ""
    except OSError:
        return ""


def find_by_devno(host: Host, numbers: frozenset[str], seconds: float = _TIMEOUT) -> Search:
    """Return the processes that use a filesystem with these device numbers, mounted or not. The search takes
    at most ``seconds``.
    """
    found, missed, is_over = dict[int, Holder](), dict[int, str](), threading.Event()

    def look() -> str:
        for pid, answer in _processes(host, numbers):
            if is_over.is_set():
                break
            if isinstance(answer, Holder):
                found.setdefault(pid, answer)
            else:
                missed.setdefault(pid, answer)
        return ""

    def broken(_name: str, error: Exception) -> str:
        Journal(host).defect("holders", error)
        return f"the processes, after {len(found)} (unexpected {type(error).__name__})"

    done, late = run_parallel({"look": look}, seconds, broken)
    is_over.set()
    unsearched = [f"all processes (not within {seconds:g} s)"] if late else list(filter(None, done.values()))
    holders = tuple(found[pid] for pid in sorted(found))
    return Search(holders, (*unsearched, *(missed[pid] for pid in sorted(missed) if pid not in found)))


def used_by_kernel(host: Host, mountpoint: str) -> list[Holder]:
    """Return the loop devices and swap files below the mountpoint, which the kernel uses."""
    inside = mountpoint.rstrip("/") + "/"
    found = [
        Holder(0, name, path)
        for name in listed(host, "/sys/class/block")
        if (path := _backing(host, name)).startswith(inside)
    ]
    return found + [Holder(0, "swap", path) for path in mounts.swap_names(host) if path.startswith(inside)]


def may_be_in_use(host: Host, name: str, fstype: str, uuid: str) -> bool:
    """Return whether a filesystem that is mounted nowhere may still be in use. For types without a folder in
    /sys/fs only a search shows it: then True.
    """
    return fstype not in _IN_SYSFS or is_in_sysfs(host, name, fstype, uuid)


def is_in_sysfs(host: Host, name: str, fstype: str, uuid: str) -> bool:
    """Return whether /sys/fs shows the filesystem of this device."""
    kind = _IN_SYSFS.get(fstype, "")
    entry = uuid if kind == "btrfs" else name
    return bool(kind and entry) and host.exists(f"/sys/fs/{kind}/{entry}")


def _backing(host: Host, name: str) -> str:
    return (host.read(f"/sys/class/block/{name}/loop/backing_file") or "").removesuffix("\n")


def _processes(host: Host, numbers: frozenset[str]) -> Iterator[tuple[int, Holder | str]]:
    """Yield each process that uses the filesystem, or why it could not be searched.

    Folders and open files of all processes come first: mapped files take long to read, and on a busy machine
    the time may end before. New processes come first: the oldest are the kernel's own.
    """
    import psutil

    psutil.PROCFS_PATH = host.path("/proc")
    pids = sorted(psutil.pids(), reverse=True)
    for look in (_held, _mapped):
        for pid in pids:
            if pid == os.getpid():
                continue
            try:
                if path := look(host, pid, numbers):
                    yield pid, Holder(pid, _name(host, pid), path)
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended
            except OSError as error:
                yield pid, f"{printable(_name(host, pid))} ({pid}): {error.strerror}"


def _name(host: Host, pid: int) -> str:
    """Return the name of a process, at most 15 bytes of any kind (proc_pid_comm(5))."""
    try:
        return (host.read(f"/proc/{pid}/comm") or "").removesuffix("\n") or "?"
    except HostError:
        return "?"


def _held(host: Host, pid: int, numbers: frozenset[str]) -> str:
    """Return a folder or an open file of the process on the filesystem, or "". Raise OSError if the process
    has ended or may not be read.
    """
    folder = f"{host.path('/proc')}/{pid}"
    links = [f"{folder}/{name}" for name in ("cwd", "root", "exe")]
    links += [f"{folder}/fd/{name}" for name in os.listdir(f"{folder}/fd")]
    for link in links:
        if _number(link) in numbers:
            with contextlib.suppress(OSError):
                return os.readlink(link)
    return ""


def _mapped(host: Host, pid: int, numbers: frozenset[str]) -> str:
    """Return a file of the filesystem that the process has mapped, or "" (proc_pid_maps(5): of a file's
    name, only newlines are escaped). Raise OSError as ``_held``.
    """
    pairs = (each.partition(":") for each in numbers)
    wanted = {b"%02x:%02x" % (int(major), int(minor)) for major, _, minor in pairs}
    with open(f"{host.path('/proc')}/{pid}/maps", "rb") as lines:
        for line in lines:
            fields = line.split(b" ", 5)
            if len(fields) == 6 and fields[3] in wanted:
                return os.fsdecode(fields[5].lstrip(b" ").removesuffix(b"\n"))
    return ""


def _number(path: str) -> str:
    """Return the device number of the file to which a link in /proc leads, or "".

    After its device has gone, XFS supports only statfs(2); its filesystem id is the device number, encoded
    by the kernel's new_encode_dev().
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
