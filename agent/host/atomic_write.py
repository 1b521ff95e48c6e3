"""Replace a file as a whole or not at all, never visible with a wrong mode or owner. Only for Host.

Every call uses the folder's descriptor (see walk). The name is replaced, and the file that it named is not
changed: that may have other hard links.
"""

from __future__ import annotations

import contextlib
import os
import stat

from agent.host import temporary_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agent.host.descriptor_walk import Place

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


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
    with temporary_files.name(place) as temporary:
        with open(os.open(temporary, _NEW, 0o600, dir_fd=place.folder), "wb") as file:
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


def link(place: Place, target: str) -> None:
    """Put a symbolic link under the place's name; it replaces a file or link there. Raise OSError."""
    with temporary_files.name(place) as temporary:
        os.symlink(target, temporary, dir_fd=place.folder)
        os.replace(temporary, place.name, src_dir_fd=place.folder, dst_dir_fd=place.folder)
