"""The rig's folders: all below `.cache/` of the project, except sockets."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .command import RigError

PROJECT = Path(__file__).resolve().parents[3]
# Resolved: the agent follows no link in a folder that others can write, and .cache may be one.
CACHE = (PROJECT / ".cache").resolve() / "vm"
LOGS = CACHE.with_name("vm-logs")

TREES = CACHE / "trees"  # unpacked Debian trees and package layers on them
KERNELS = CACHE / "kernels"  # what the quick boot of a kernel needs
IMAGES = CACHE / "images"  # disk images with their kernel and initrd
STATES = CACHE / "states"  # saved running machines
RUNS = CACHE / "run"  # overlays and disks of machines that run now
LOCKS = CACHE / "locks"

UNFINISHED = "tmp-"  # how the names of entries begin while they are being made
#: Seconds for which a cache keeps every used entry, whatever its limit.
IN_USE = 3 * 3600


@contextmanager
def locked(name: str, timeout: float = 900) -> Iterator[None]:
    """Hold the cache lock `name` across processes. Raise RigError when it is not free after `timeout`
    seconds.
    """
    LOCKS.mkdir(parents=True, exist_ok=True)
    with open(LOCKS / f"{name}.lock", "a+") as lock:
        end = time.monotonic() + timeout
        while not try_lock(lock.fileno()):
            if time.monotonic() > end:
                raise RigError(f"{lock.name} is held by another process since more than {timeout} s")
            time.sleep(0.1)
        yield


def try_lock(fd: int) -> bool:
    """Take an exclusive flock on `fd` if it is free now."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def hold(folder: Path) -> int:
    """Return a descriptor that keeps `discard_unheld` from an entry of a cache until it is closed."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(fd, fcntl.LOCK_SH)
    return fd


def discard_unheld(folders: Iterable[Path]) -> None:
    """Delete those entries that no process holds."""
    for folder in folders:
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # another run has deleted it
        try:
            if try_lock(fd):
                discard([folder])
        finally:
            os.close(fd)


def keep_newest(folder: Path, count: int, in_use: float = IN_USE) -> list[Path]:
    """Return what to delete from a cache `folder`: all but its `count` most recently used, and stale
    leftovers.

    What was used in the last `in_use` seconds always stays: another run of tests may need it.
    """
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(UNFINISHED)]
    entries.sort(key=lambda entry: entry.stat().st_mtime, reverse=True)
    long_ago = time.time() - in_use
    old = [entry for entry in entries[count:] if entry.stat().st_mtime < long_ago]
    return old + stale(folder, UNFINISHED)


def stale(folder: Path, prefix: str) -> list[Path]:
    """Return leftovers of killed processes in `folder`, older than a day and not mounted."""
    yesterday = time.time() - 24 * 3600
    old = [entry for entry in folder.glob(f"{prefix}*") if entry.stat().st_mtime < yesterday]
    return [entry for entry in old if not (entry / "tree").is_mount()]


def discard(folders: Iterable[Path]) -> None:
    """Delete entries that are not needed any more; skip those that another run is deleting."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def mark_used(entry: Path) -> None:
    """Mark `entry` as the most recently used of its cache."""
    os.utime(entry)
