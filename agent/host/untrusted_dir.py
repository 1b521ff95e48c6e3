"""Read and write files in a folder that another user controls: a home.

The owner of a folder can make a symbolic link in it to have a root process write to /etc. So every name
below the home is opened in the descriptor of its parent, no link is followed, and each folder and file must
belong to the user or to root.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from agent.lib.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.host.descriptor_walk import Place
    from agent.host.host import Host

#: Most bytes that are read.
READ_LIMIT = 1 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def read(host: Host, home: str, parts: Sequence[str], owner: tuple[int, int]) -> bytes | None:
    """Return the content of ``home``/``parts``, None if there is no such file. ``owner`` is (uid, gid).

    Raise HostError for a link in the path, another user's file or folder, a file that the user may not
    read, one with several hard links, one larger than READ_LIMIT, or with the system's reason.
    """
    with _refusals(home, parts):
        try:
            with _inside(host, home, parts, owner, make=False) as place:
                descriptor = os.open(place.name, _FILE, dir_fd=place.folder)
        except FileNotFoundError:
            return None
        with open(descriptor, "rb", buffering=0) as file:
            info = os.fstat(descriptor)
            # Another hard link may name a file that the user must not get a copy of, or replace.
            if not stat.S_ISREG(info.st_mode) or not _may_read(info, owner) or info.st_nlink != 1:
                raise HostError(
                    f"{'/'.join((home, *parts))}: not a regular file of this user's own",
                    hint="make it a regular file with one hard link, owned by the user",
                )
            if info.st_size > READ_LIMIT:  # a part of the file could be written back as the whole
                raise HostError(f"{'/'.join((home, *parts))}: larger than {READ_LIMIT >> 20} MiB: not read")
            return file.read(READ_LIMIT)


def write(host: Host, home: str, parts: Sequence[str], content: bytes, owner: tuple[int, int]) -> None:
    """Replace the file ``home``/``parts`` (0600); the folders below ``home`` become 0700. ``owner`` is (uid,
    gid).

    Raise HostError for a link in the path, another user's folder, or with the system's reason.
    """
    if not host.allows(f"write {'/'.join((home, *parts))} (0600, {len(content)} bytes)"):
        return
    with _refusals(home, parts), _inside(host, home, parts, owner, make=True) as place:
        host.write_at(place, content, mode=0o600, owner=owner)


@contextlib.contextmanager
def _inside(
    host: Host, home: str, parts: Sequence[str], owner: tuple[int, int], *, make: bool
) -> Iterator[Place]:
    """Yield the place of the file; with ``make``, make missing folders and set all to 0700."""
    # The home's parent belongs to root, so a link in place of the home is the administrator's.
    with host.place(f"{home}/{parts[0]}", follow=False) as place:
        _own(place.folder, home, owner)
        for part in parts[:-1]:
            if make:
                with contextlib.suppress(FileExistsError), place.labelled(stat.S_IFDIR, part):
                    os.mkdir(part, 0o700, dir_fd=place.folder)
            if not place.enter(part, make=False):
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            _own(place.folder, part, owner)
            if make:
                _close(place, owner)
        place.name = parts[-1]
        yield place


def _close(place: Place, owner: tuple[int, int]) -> None:
    """Set the folder to 0700. If it is root's, 0700 and empty, change its owner to ``owner``: this run or an
    interrupted one made it, as sshd has no use for such a folder. A folder of root's that is not empty keeps
    its owner: the user may have renamed it from elsewhere.
    """
    folder = os.open(".", _FOLDER, dir_fd=place.folder)
    try:
        info = os.fstat(folder)
        if info.st_uid != owner[0] and stat.S_IMODE(info.st_mode) == 0o700 and not os.listdir(folder):
            os.fchown(folder, *owner)
        os.fchmod(folder, 0o700)
    finally:
        os.close(folder)


def _may_read(info: os.stat_result, owner: tuple[int, int]) -> bool:
    """Return whether a file is the user's, or root's and readable for the user. The owner of a folder can
    move files of root's within it: the content of one that is private must not get into the user's file.
    """
    if info.st_uid == owner[0]:
        return True
    return info.st_uid == 0 and bool(
        info.st_mode & (stat.S_IRGRP if info.st_gid == owner[1] else stat.S_IROTH)
    )


def _own(descriptor: int, name: str, owner: tuple[int, int]) -> None:
    if os.fstat(descriptor).st_uid not in (0, owner[0]):
        raise HostError(f"{name}: belongs to another user", hint="make the account's user its owner: chown")


@contextlib.contextmanager
def _refusals(home: str, parts: Sequence[str]) -> Iterator[None]:
    name = "/".join((home, *parts))
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise HostError(
                f"{name}: a symbolic link is in the way; not followed",
                hint="replace the link by its target",
            ) from error
        raise HostError(f"{name}: {error.strerror}") from error
