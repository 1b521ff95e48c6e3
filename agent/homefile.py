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

from agent.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.host import Host

#: Bytes read at the most.
READ_LIMIT = 1 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def read(host: Host, home: str, parts: Sequence[str], owner: tuple[int, int]) -> bytes | None:
    """The file ``home``/``parts``, or None where there is none. Raises HostError for a link or a stranger's
    file.
    """
    with _refusals(home, parts):
        try:
            with _folder(host, home, parts[:-1], owner, make=False) as folder:
                descriptor = os.open(parts[-1], _FILE, dir_fd=folder)
        except FileNotFoundError:
            return None
        with open(descriptor, "rb", buffering=0) as file:
            info = os.fstat(descriptor)
            # A second name of the same file may be one that its user must not have copied or replaced.
            if not stat.S_ISREG(info.st_mode) or info.st_uid not in (0, owner[0]) or info.st_nlink != 1:
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
    temporary = f".{parts[-1][:60]}.gandi-{os.urandom(4).hex()}"
    with _refusals(home, parts), _folder(host, home, parts[:-1], owner, make=True) as folder:
        try:
            with open(os.open(temporary, _NEW, 0o600, dir_fd=folder), "wb") as file:
                file.write(content)
                os.fchown(file.fileno(), *owner)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, parts[-1], src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=folder)
            raise


@contextlib.contextmanager
def _folder(
    host: Host, home: str, parts: Sequence[str], owner: tuple[int, int], *, make: bool
) -> Iterator[int]:
    """A descriptor on the folder that holds the file; with ``make``, missing ones are made, and all are
    0700.
    """
    with contextlib.ExitStack() as opened:
        # The home's own name belongs to root (its parent does): a link there is the administrator's.
        descriptor = os.open(host.path(home), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        opened.callback(os.close, descriptor)
        _own(descriptor, home, owner)
        for part in parts:
            made = make and _mkdir(part, descriptor)
            descriptor = os.open(part, _FOLDER, dir_fd=descriptor)
            opened.callback(os.close, descriptor)
            if made:
                os.fchown(descriptor, *owner)
            _own(descriptor, part, owner)
            if make:
                os.fchmod(descriptor, 0o700)
        yield descriptor


def _mkdir(name: str, folder: int) -> bool:
    try:
        os.mkdir(name, 0o700, dir_fd=folder)
    except FileExistsError:
        return False
    return True


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
