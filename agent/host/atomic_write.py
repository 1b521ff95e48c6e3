"""Replace a file as a whole or not at all, never visible with a wrong mode or owner. Only for Host.

Every call uses the folder's descriptor (see walk). The name is replaced, and the file that it named is not
changed: that may have other hard links.

Until then the new file has a temporary name, which contains the process that made it, so that the next run
can remove what an interrupted one has left. In one of FOLDERS, ``sweep`` finds it by listing the folder;
elsewhere a symbolic link (a note) in one of them has its path. The note is made before the file, by one
system call, and removed after it. A note needs no flush of its own if both are on one filesystem: ext4 and
XFS write names to the disk in the order in which they were made. Otherwise the note is flushed first.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat

from agent.host import processes
from agent.host.descriptor_walk import walk
from agent.lib.errors import HostError
from agent.lib.text import number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agent.host.descriptor_walk import Place

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
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


def can_chown() -> bool:
    """Return whether this process can change owners: not in the tests of an ordinary user."""
    return os.geteuid() == 0


def is_same(place: Place, content: bytes, mode: int, owner: tuple[int, int]) -> bool:
    """Return whether a regular file with that content, mode and owner (uid, gid) exists already."""
    if place.info is None or not _fits(place.info, len(content), mode, owner):
        return False
    with open_regular(place) as descriptor:
        if descriptor is None or not _fits(os.fstat(descriptor), len(content), mode, owner):
            return False
        with open(descriptor, "rb", buffering=0, closefd=False) as file:
            return file.read() == content


def _fits(info: os.stat_result, size: int, mode: int, owner: tuple[int, int]) -> bool:
    fits = stat.S_ISREG(info.st_mode) and info.st_size == size and stat.S_IMODE(info.st_mode) == mode
    return fits and not (can_chown() and (info.st_uid, info.st_gid) != owner)


@contextlib.contextmanager
def open_regular(place: Place) -> Iterator[int | None]:
    """Open the regular file for reading and yield its descriptor, None if there is none. Raise OSError,
    ELOOP for a link.
    """
    # The type is checked before the open: opening a device may have an effect.
    if place.info is None or not stat.S_ISREG(place.info.st_mode):
        yield None
        return
    try:
        descriptor = os.open(place.name, _READ, dir_fd=place.folder)
    except FileNotFoundError:
        yield None
        return
    try:
        yield descriptor if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
    finally:
        os.close(descriptor)


def replace(
    place: Place,
    chunks: Iterable[bytes],
    mode: int,
    owner: tuple[int, int],
    *,
    sync: bool = False,
    flush: bool = True,
) -> None:
    """Put a new file under the place's name; it replaces a file or link there.

    With ``flush``, the content is on the disk before the file has its name: otherwise a power cut can leave
    an empty file (on ext4 under a new name, on XFS under any); without it, the caller syncs many files at
    once. With ``sync``, the name is on the disk too. Raise OSError; the old file is then unchanged and no
    temporary file is left.
    """
    with temporary_name(place) as temporary:
        with (
            place.labelled(stat.S_IFREG),
            open(os.open(temporary, _NEW, 0o600, dir_fd=place.folder), "wb") as file,
        ):
            for chunk in chunks:
                file.write(chunk)
            if can_chown():
                os.fchown(file.fileno(), *owner)
            os.fchmod(file.fileno(), mode)
            file.flush()
            if flush:
                os.fsync(file.fileno())
        os.replace(temporary, place.name, src_dir_fd=place.folder, dst_dir_fd=place.folder)
    if sync:
        place.sync()


def link(place: Place, target: str, owner: tuple[int, int]) -> None:
    """Put a symbolic link under the place's name; it replaces a file or link there. Raise OSError."""
    with temporary_name(place) as temporary:
        with place.labelled(stat.S_IFLNK):
            os.symlink(target, temporary, dir_fd=place.folder)
        if can_chown() and owner != (0, 0):
            os.chown(temporary, *owner, dir_fd=place.folder, follow_symlinks=False)
        os.replace(temporary, place.name, src_dir_fd=place.folder, dst_dir_fd=place.folder)


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


@contextlib.contextmanager
def temporary_name(place: Place) -> Iterator[str]:
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
