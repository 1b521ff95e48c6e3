"""A file is replaced whole or not at all, never visible with a wrong mode or owner. For Host alone."""

from __future__ import annotations

import contextlib
import os
import stat

#: Characters of the file's name in that of its temporary file; a name has 255 bytes at the most.
_STEM = 60


def may_own() -> bool:
    """Whether this process can give files away; an ordinary user's test run cannot."""
    return os.geteuid() == 0


def same(target: str, content: bytes, mode: int, owner: tuple[int, int]) -> bool:
    """Whether ``target`` already is a regular file of that content, mode and owner (uid, gid)."""
    try:
        info = os.lstat(target)
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(info.st_mode) or info.st_size != len(content):
        return False
    if stat.S_IMODE(info.st_mode) != mode or (may_own() and (info.st_uid, info.st_gid) != owner):
        return False
    with open(target, "rb") as file:
        return file.read() == content


def replace(target: str, content: bytes, mode: int, owner: tuple[int, int], *, sync: bool) -> None:
    """Put a new file in ``target``'s place; ``sync`` returns only when its name is on the disk as well.

    The content always is before the name is: otherwise a power cut can leave an empty file under it (ext4
    with a new name, XFS with any). Raises OSError; the old file is untouched then and no temporary file is
    left.
    """
    folder, name = os.path.split(target)
    temporary = f"{folder}/.{name[:_STEM]}.gandi-{os.getpid()}-{os.urandom(4).hex()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(temporary, flags, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            if may_own():
                os.fchown(file.fileno(), *owner)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    if sync:
        _sync_folder(folder)


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
