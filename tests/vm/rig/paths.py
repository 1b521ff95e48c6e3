"""Where the rig keeps things: everything below `.cache/` of the project, nothing elsewhere but sockets."""

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
IMAGES = CACHE / "images"  # disk images with their kernel and initrd
STATES = CACHE / "states"  # saved running machines
RUNS = CACHE / "run"  # overlays and disks of machines that run now
LOCKS = CACHE / "locks"

UNFINISHED = "tmp-"  # how the names of entries begin while they are being made
#: Seconds for which a cache keeps whatever was used, however much that is.
IN_USE = 3 * 3600


@contextmanager
def locked(name: str, timeout: float = 900) -> Iterator[None]:
    """Hold the cache lock `name` across processes; RigError when not had after `timeout` seconds."""
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


def keep_newest(folder: Path, count: int) -> list[Path]:
    """What to delete of a cache `folder`: all but its `count` most recently used, and stale leftovers.

    What was used in the last hours stays in any case: another run of tests may hold on to it.
    """
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(UNFINISHED)]
    entries.sort(key=lambda entry: entry.stat().st_mtime, reverse=True)
    long_ago = time.time() - IN_USE
    old = [entry for entry in entries[count:] if entry.stat().st_mtime < long_ago]
    return old + stale(folder, UNFINISHED)


def stale(folder: Path, prefix: str) -> list[Path]:
    """What killed processes left in `folder` more than a day ago; nothing that is still mounted."""
    yesterday = time.time() - 24 * 3600
    old = [entry for entry in folder.glob(f"{prefix}*") if entry.stat().st_mtime < yesterday]
    return [entry for entry in old if not (entry / "tree").is_mount()]


def discard(folders: Iterable[Path]) -> None:
    """Delete what is not needed any more; what another run is at deleting is left for later."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def mark_used(entry: Path) -> None:
    """Make `entry` the most recently used one of its cache."""
    os.utime(entry)
