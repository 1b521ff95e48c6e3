"""Files in a folder that somebody else controls: a user's home.

Whoever owns a folder can put a symbolic link in it and have a root process write to /etc through it. So
every name below the home is opened by descriptor from its parent, no link is followed, and what is found
must belong to the user or to root.
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

#: Bytes read at the most.
READ_LIMIT = 1 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def read(host: Host, home: str, parts: Sequence[str], owner: tuple[int, int]) -> bytes | None:
    """The file ``home``/``parts``, or None where there is none. Raises HostError for a link or a stranger's
    file.
    """
    with _refusals(home, parts):
        try:
            with _inside(host, home, parts, owner, make=False) as place:
                descriptor = os.open(place.name, _FILE, dir_fd=place.folder)
        except FileNotFoundError:
            return None
        with open(descriptor, "rb", buffering=0) as file:
            info = os.fstat(descriptor)
            # A second name of the same file may be one that its user must not have copied or replaced.
            if not stat.S_ISREG(info.st_mode) or not _may_read(info, owner) or info.st_nlink != 1:
                raise HostError(
                    f"{'/'.join((home, *parts))}: not a file of this user's own",
                    hint="make it a regular file with one name, owned by the user",
                )
            if info.st_size > READ_LIMIT:  # what is read in part would be written back in part
                raise HostError(f"{'/'.join((home, *parts))}: larger than {READ_LIMIT >> 20} MiB: not read")
            return file.read(READ_LIMIT)


def write(host: Host, home: str, parts: Sequence[str], content: bytes, owner: tuple[int, int]) -> None:
    """Put the file there whole, mode 0600; the folders below ``home`` become 0700. ``owner`` is (uid, gid).

    Raises HostError for a link in the way, a stranger's folder, or the system's reason.
    """
    if not host.effect(f"write {'/'.join((home, *parts))} (0600, {len(content)} bytes)"):
        return
    with _refusals(home, parts), _inside(host, home, parts, owner, make=True) as place:
        host.put(place, content, mode=0o600, owner=owner)


@contextlib.contextmanager
def _inside(
    host: Host, home: str, parts: Sequence[str], owner: tuple[int, int], *, make: bool
) -> Iterator[Place]:
    """The place of the file; with ``make``, folders that are missing are made, and all are 0700."""
    # The home's own name belongs to root (its parent does): a link there is the administrator's.
    with host.place(f"{home}/{parts[0]}", follow=False) as place:
        _own(place.folder, home, owner)
        for part in parts[:-1]:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o700, dir_fd=place.folder)
            if not place.enter(part, make=False):
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            _own(place.folder, part, owner)
            if make:
                _close(place, owner)
        place.name = parts[-1]
        yield place


def _close(place: Place, owner: tuple[int, int]) -> None:
    """Close the folder to all but its owner. One that is root's, closed and empty was made here, now or by a
    run that was cut, since sshd has no use for it: it is given to ``owner``. Of one that holds something the
    user can at most have changed the name.
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
    """Whether a file is the user's, or one of root's that the user may read. Who owns the folder can move
    any file of root's within it: what is in one that is closed must not come into a file of the user's.
    """
    if info.st_uid == owner[0]:
        return True
    return info.st_uid == 0 and bool(
        info.st_mode & (stat.S_IRGRP if info.st_gid == owner[1] else stat.S_IROTH)
    )


def _own(descriptor: int, name: str, owner: tuple[int, int]) -> None:
    if os.fstat(descriptor).st_uid not in (0, owner[0]):
        raise HostError(f"{name}: belongs to another user", hint="give it to the account's own user")


@contextlib.contextmanager
def _refusals(home: str, parts: Sequence[str]) -> Iterator[None]:
    name = "/".join((home, *parts))
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise HostError(
                f"{name}: a symbolic link is in the way; not followed",
                hint="replace the link by what it names",
            ) from error
        raise HostError(f"{name}: {error.strerror}") from error
