"""Temporary names, and the removal of those that an interrupted run has left. Only for atomic_write.

A temporary name contains the process that made it. In one of FOLDERS, ``sweep`` finds it by listing the
folder; elsewhere a symbolic link (a note) in one of them has its path. The note is made before the file, by
one system call, and removed after it. A note needs no flush of its own if both are on one filesystem: ext4
and XFS write names to the disk in the order in which they were made. Otherwise the note is flushed first.
"""

from __future__ import annotations

import contextlib
import itertools
import os

from agent.host import processes
from agent.host.descriptor_walk import walk
from agent.lib.errors import HostError
from agent.lib.text import number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.host.descriptor_walk import Place

#: A folder that survives a boot, and one that does not.
LASTING, PASSING = "/var/lib/gandi", "/run/gandi"
FOLDERS = (LASTING, PASSING)
#: The stem of a note's name; the stem of a temporary file's is the name that it will replace. The maker and
#: a counter follow.
_NOTE = "unfinished"
#: Most bytes of the stem; a name has at most 255 bytes.
_STEM = 60
_count = itertools.count()
#: This process's id, and its part of temporary names.
_me: tuple[int, str] = (0, "")


@contextlib.contextmanager
def name(place: Place) -> Iterator[str]:
    """Yield an unused name in the place's folder. Nothing of that name is left after the block; if this
    process ends before, the next run's ``sweep`` removes it.
    """
    temporary = _spelled(os.fsdecode(os.fsencode(place.name)[:_STEM]))
    with _noted(place, temporary):
        try:
            yield temporary
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=place.folder)
            raise


@contextlib.contextmanager
def _noted(place: Place, temporary: str) -> Iterator[None]:
    above = place.folder_path
    if above in FOLDERS:
        yield
        return
    with contextlib.ExitStack() as noted:
        # Files in /run do not survive a power cut, so their note need not. If the disk is full, /run may
        # have room for the note.
        for folder in (PASSING,) if above == "/run" or above.startswith("/run/") else FOLDERS:
            with contextlib.suppress(OSError, HostError):
                note = noted.enter_context(walk(place.root, f"{folder}/{_spelled(_NOTE)}", follow=False))
                os.symlink(f"{above.rstrip('/')}/{temporary}", note.name, dir_fd=note.folder)
                noted.callback(_forgotten, note)
                if folder == LASTING and os.fstat(note.folder).st_dev != os.fstat(place.folder).st_dev:
                    note.sync()
                break
        yield


def _forgotten(note: Place) -> None:
    with contextlib.suppress(OSError):  # the next run removes it
        os.unlink(note.name, dir_fd=note.folder)


def sweep(root: str) -> list[str]:
    """Remove the temporary files and notes of processes that have ended; return the files' paths below the
    root. What cannot be removed now is left for the next run.
    """
    removed = list[str]()
    for folder in FOLDERS:
        with contextlib.suppress(OSError, HostError), walk(root, f"{folder}/{_NOTE}", follow=False) as place:
            for entry in place.names():
                stem, maker = _parsed(entry)
                if maker and not _lives(maker):
                    removed += _swept(root, place, entry, is_note=stem == _NOTE)
    return removed


def _swept(root: str, place: Place, entry: str, *, is_note: bool) -> list[str]:
    path = f"{place.folder_path}/{entry}"
    try:
        if is_note:
            path = os.readlink(entry, dir_fd=place.folder)
            _remove(root, path)
        os.unlink(entry, dir_fd=place.folder)
    except (OSError, HostError):
        return []
    return [path]


def _remove(root: str, path: str) -> None:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        if _parsed(path.rpartition("/")[2])[1]:
            with walk(root, path, follow=False) as place:
                os.unlink(place.name, dir_fd=place.folder)


def _spelled(stem: str) -> str:
    global _me
    pid = os.getpid()
    if _me[0] != pid:
        _me = (pid, f"{pid}-{processes.start_time(pid)}-{_boot()}")
    return f".{stem}.gandi-{_me[1]}-{next(_count)}"


def _parsed(name: str) -> tuple[str, tuple[str, ...]]:
    """Return the stem of a temporary name and its maker (pid, start, boot); no maker for any other name."""
    stem, _, made = name.rpartition(".gandi-")
    maker = made.split("-")
    is_temporary = stem.startswith(".") and len(maker) == 4
    is_temporary = is_temporary and number(maker[0]) is not None is not number(maker[3])
    return stem[1:], tuple(maker[:3]) if is_temporary else ()


def _lives(maker: tuple[str, ...]) -> bool:
    """Return whether that process still runs: in this boot, with that id and start time."""
    pid, started, boot = maker
    return boot == _boot() and processes.is_alive({"pid": number(pid), "started": number(started)})


def _boot() -> str:
    """Return the first 8 characters of this boot's id; "" without /proc."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb", buffering=0) as file:
            return os.fsdecode(file.read(8))
    except OSError:
        return ""
