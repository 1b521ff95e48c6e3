"""A file is replaced whole or not at all, never visible with a wrong mode or owner. For Host alone.

All is done in the descriptor of the folder (see walk), and the name is replaced, never the file that bears
it: that may have other names.
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


def may_own() -> bool:
    """Whether this process can give files away; an ordinary user's test run cannot."""
    return os.geteuid() == 0


def same(place: Place, content: bytes, mode: int, owner: tuple[int, int]) -> bool:
    """Whether there already is a regular file of that content, mode and owner (uid, gid)."""
    if place.info is None or not _looks(place.info, len(content), mode, owner):
        return False
    with regular(place) as found:
        if found is None or not _looks(os.fstat(found), len(content), mode, owner):
            return False
        with open(found, "rb", buffering=0, closefd=False) as file:
            return file.read() == content


def _looks(info: os.stat_result, size: int, mode: int, owner: tuple[int, int]) -> bool:
    is_so = stat.S_ISREG(info.st_mode) and info.st_size == size and stat.S_IMODE(info.st_mode) == mode
    return is_so and not (may_own() and (info.st_uid, info.st_gid) != owner)


@contextlib.contextmanager
def regular(place: Place) -> Iterator[int | None]:
    """A descriptor for reading on the regular file that is there; None where there is none. Raises OSError,
    of ELOOP for a link.
    """
    # Looked at first: opening a device may have an effect.
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
    """Put a new file in the place of what is there; ``sync`` returns only when its name is on the disk as
    well.

    The content always is before the name is (unless not ``flush``, for who syncs many at once): otherwise a
    power cut can leave an empty file under it (ext4 with a new name, XFS with any). Raises OSError; the old
    file is untouched then and no temporary file is left.
    """
    with temporary_files.name(place) as temporary:
        with open(os.open(temporary, _NEW, 0o600, dir_fd=place.folder), "wb") as file:
            for chunk in chunks:
                file.write(chunk)
            if may_own():
                os.fchown(file.fileno(), *owner)
            os.fchmod(file.fileno(), mode)
            file.flush()
            if flush:
                os.fsync(file.fileno())
        os.replace(temporary, place.name, src_dir_fd=place.folder, dst_dir_fd=place.folder)
    if sync:
        place.sync()


def link(place: Place, target: str) -> None:
    """Put a symbolic link in the place of what is there. Raises OSError."""
    with temporary_files.name(place) as temporary:
        os.symlink(target, temporary, dir_fd=place.folder)
        os.replace(temporary, place.name, src_dir_fd=place.folder, dst_dir_fd=place.folder)
