"""Temporary names, and how those that a run that was cut has left are removed by the next. For atomic.

A temporary name says which process made it. In one of FOLDERS it is found by looking; elsewhere a symbolic
link in one of them says where it is, for as long as it may be: made before it, as one system call, and
removed after it. A link needs no flush of its own where both are on one filesystem: ext4 and XFS bring names
to the disk in the order in which they were made. Where they are on two, the link is flushed first.
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

#: What outlives the boot, and what does not.
LASTING, PASSING = "/var/lib/gandi", "/run/gandi"
FOLDERS = (LASTING, PASSING)
#: Of a temporary file: what is to replace; of a link: this word. Then who made it, and a number.
_NOTE = "unfinished"
#: Bytes of the file's name in that of its temporary file; a name has 255 bytes at the most.
_STEM = 60
_count = itertools.count()
#: This process, as its temporary names spell it.
_me: tuple[int, str] = (0, "")


@contextlib.contextmanager
def name(place: Place) -> Iterator[str]:
    """A free name in the place's folder, of which nothing is left when the block is left, nor, once the next
    run has called ``sweep``, after the end of this process at any moment.
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
    above = place.above
    if above in FOLDERS:
        yield
        return
    with contextlib.ExitStack() as noted:
        # What lies in /run is gone after a power cut; and where the disk is full, /run may have room.
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
    """Remove what processes that live no longer have left; return its paths below the root. What cannot be
    removed now is tried again at the next run.
    """
    found = list[str]()
    for folder in FOLDERS:
        with contextlib.suppress(OSError, HostError), walk(root, f"{folder}/{_NOTE}", follow=False) as place:
            for left in place.names():
                stem, who = _parsed(left)
                if who and not _lives(who):
                    found += _swept(root, place, left, is_note=stem == _NOTE)
    return found


def _swept(root: str, place: Place, left: str, *, is_note: bool) -> list[str]:
    path = f"{place.above}/{left}"
    try:
        if is_note:
            path = os.readlink(left, dir_fd=place.folder)
            _remove(root, path)
        os.unlink(left, dir_fd=place.folder)
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
        _me = (pid, f"{pid}-{processes.started(pid)}-{_boot()}")
    return f".{stem}.gandi-{_me[1]}-{next(_count)}"


def _parsed(name: str) -> tuple[str, tuple[str, ...]]:
    """What a temporary name is for, and who made it (pid, start, boot); nobody for any other name."""
    stem, _, made = name.rpartition(".gandi-")
    who = made.split("-")
    is_one = stem.startswith(".") and len(who) == 4 and number(who[0]) is not None is not number(who[3])
    return stem[1:], tuple(who[:3]) if is_one else ()


def _lives(who: tuple[str, ...]) -> bool:
    """Whether that process still runs: the one of its number began when it did, in this boot."""
    pid, started, boot = who
    return boot == _boot() and processes.lives({"pid": number(pid), "started": number(started)})


def _boot() -> str:
    """The beginning of this boot's id; "" where there is no /proc."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb", buffering=0) as file:
            return os.fsdecode(file.read(8))
    except OSError:
        return ""
