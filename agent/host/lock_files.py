"""The locks of the account files, as the passwd package takes them, below any root.

Each of its programs locks /etc/.pwd.lock (lckpwdf(3), fcntl(2)), and then each file that it changes by a
lock file: it writes its PID to NAME.PID and links that to NAME.lock (link(2) makes only one of two). A lock
file of a process that has ended is left over, and replaced.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import struct
import time

from agent.lib.errors import Busy, HostError
from agent.lib.text import number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.host.descriptor_walk import Place
    from agent.host.host import Host

_MUTEX = "/etc/.pwd.lock"
#: Seconds to wait for another process, as lckpwdf(3) does.
WAIT = 15.0
#: Seconds between two attempts: neither kind of lock has a wait with a timeout.
_RETRY = 0.05
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
#: struct flock: type, whence, start, length, and the PID of the holder.
_FLOCK = "hhqqi4x"
#: Most bytes that are read of a lock file.
_PID = 16


@contextlib.contextmanager
def held(host: Host, paths: tuple[str, ...], *, wait: float = WAIT) -> Iterator[None]:
    """Hold the locks of the files during the block; nothing in a dry run. Raise Busy if another process has
    one for ``wait`` seconds, HostError for what is in place of a lock file.
    """
    if host.dry_run:
        yield
        return
    with contextlib.ExitStack() as locks:
        mutex = locks.enter_context(host.opened(_MUTEX, os.O_RDWR | os.O_CREAT))
        _retry(_MUTEX, lambda: _lock(mutex), wait)
        for path in paths:
            locks.enter_context(_lock_file(host, path, wait))
        yield


@contextlib.contextmanager
def _lock_file(host: Host, path: str, wait: float) -> Iterator[None]:
    lock = f"{path}.lock"
    with host.place(lock, follow=False) as place:
        _retry(lock, lambda: _link(place, lock), wait)
        try:
            yield
        finally:
            os.unlink(place.name, dir_fd=place.folder)


def _retry(name: str, take: Callable[[], int], wait: float) -> None:
    """Call until it returns 0; it returns the PID of the process that has the lock, or -1."""
    deadline = time.monotonic() + wait
    while holder := take():
        if time.monotonic() >= deadline:
            who = f"process {holder}" if holder > 0 else "another process"
            raise Busy(f"{name}: {who} has held it for {wait:g} s", hint="wait for its end, then try again")
        time.sleep(_RETRY)


def _lock(descriptor: int) -> int:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, *_, holder = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
        return -1 if kind == fcntl.F_UNLCK else int(holder)
    return 0


def _link(place: Place, lock: str) -> int:
    """Make the lock file; return 0, or the PID of the process that has it."""
    mine = f"{place.name.removesuffix('.lock')}.{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(mine, dir_fd=place.folder)
    with open(os.open(mine, _NEW, 0o600, dir_fd=place.folder), "wb") as file:
        file.write(f"{os.getpid()}\0".encode())
    try:
        os.link(mine, place.name, src_dir_fd=place.folder, dst_dir_fd=place.folder, follow_symlinks=False)
    except FileExistsError:
        holder = _holder(place, lock)
        if not holder:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(place.name, dir_fd=place.folder)
        return holder or -1
    finally:
        os.unlink(mine, dir_fd=place.folder)
    return 0


def _holder(place: Place, lock: str) -> int:
    """Return the PID of the living process that made the lock file, -1 if it is gone, 0 for one that is
    left over: its process has ended, or a power cut has left it empty.
    """
    info, content = place.lstat(), b""
    if info is None:
        return -1
    if stat.S_ISREG(info.st_mode):
        try:
            descriptor = os.open(place.name, _READ, dir_fd=place.folder)
        except FileNotFoundError:
            return -1
        with open(descriptor, "rb", buffering=0) as file:
            content = file.read(_PID) or b""
    pid = number(content.strip(b"\0\n").decode("latin-1"))
    if not stat.S_ISREG(info.st_mode) or (pid is None and content.strip(b"\0\n")):
        raise HostError(f"{lock}: not a lock file of the passwd package", hint="remove it, then try again")
    return pid if pid and _lives(pid) else 0


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
