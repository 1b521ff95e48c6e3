"""The way from the root to a name that is to be changed: each folder by descriptor, in the one above it.

Between a look at a path and its use, whoever owns a folder on the way can put a link in place of what is in
it. So each component is opened in the descriptor of its folder, and what is done to the name is done in the
last of these descriptors: a swap then changes nothing. A symbolic link is followed only where root alone can
have put it: it is root's, and so is every folder that was passed to reach it, writable by root alone. Links
are followed below the root, as in a chroot. What is above the root is not looked at.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from agent.lib.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

_LINKS_FOLLOWED = 40  # as the kernel's MAXSYMLINKS
#: With O_PATH the right to search is enough, and opening has no effect on what is opened.
_ROOT = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_FOLDER = _ROOT | os.O_NOFOLLOW


class Place:
    """A name, and the descriptors of the folders on the way to it, which are closed on leaving."""

    __slots__ = ("_folders", "_names", "info", "name", "root")

    def __init__(self, root: str) -> None:
        #: Where the way began.
        self.root = root
        self._folders = [os.open(root, _ROOT)]
        self._names = list[str]()
        #: The name in ``folder``; "." for the root, and for a path that ends in ``..``.
        self.name = "."
        #: What was there when the way ended, of a link the link itself; None for nothing.
        self.info: os.stat_result | None = None

    def __enter__(self) -> Place:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.leave(0)

    @property
    def folder(self) -> int:
        """The descriptor of the folder that holds the name; opened with O_PATH."""
        return self._folders[-1]

    @property
    def above(self) -> str:
        """The path of that folder below the root, free of links, when the way was gone."""
        return "/" + "/".join(self._names)

    def roots_alone(self) -> bool:
        """Return whether root alone can change what is passed on the way; whoever runs this counts as root,
        in a test. The group's bits of a folder with a POSIX ACL are its mask, so that they tell of any entry
        that lets others write. What FUSE says of owners is what the program behind it makes up.
        """
        found = [os.fstat(folder) for folder in self._folders]
        are_roots = all(_roots(info, stat.S_IWGRP | stat.S_IWOTH) for info in found)
        return are_roots and not _by_fuse({info.st_dev for info in found})

    def make(self, mode: int, owner: tuple[int, int] | None) -> None:
        """Make a folder of that mode, whatever the umask, and of that owner; None is this process's. It is
        nobody else's before it has both. Raises OSError.
        """
        os.mkdir(self.name, mode if owner in (None, (0, 0)) else 0o700, dir_fd=self.folder)
        self.give(mode, owner)

    def give(self, mode: int, owner: tuple[int, int] | None) -> None:
        """Give the folder that is there its owner, unless that is None, and its mode. Raises OSError, for a
        link too.
        """
        with self._readable(self.name) as folder:
            info = os.fstat(folder)
            if owner is not None and (info.st_uid, info.st_gid) != owner:
                os.fchown(folder, *owner)
            if stat.S_IMODE(info.st_mode) != mode:
                os.fchmod(folder, mode)

    def remove(self) -> None:
        """Remove the file, link or empty folder. Raises OSError."""
        if self.info is not None and stat.S_ISDIR(self.info.st_mode):
            os.rmdir(self.name, dir_fd=self.folder)
        else:
            os.unlink(self.name, dir_fd=self.folder)

    def leads_to(self, target: str) -> bool:
        """Return whether there is a link to ``target``."""
        is_link = self.info is not None and stat.S_ISLNK(self.info.st_mode)
        try:
            return is_link and os.readlink(self.name, dir_fd=self.folder) == target
        except OSError:
            return False

    def sync(self) -> None:
        """Have the names in the folder on the disk."""
        with self._readable(".") as folder:
            os.fsync(folder)

    def names(self, name: str = ".") -> list[str]:
        """Return the names in the folder, or in one of its own. Raises OSError, for a link too."""
        with self._readable(name) as folder:
            return os.listdir(folder)

    @contextlib.contextmanager
    def _readable(self, name: str) -> Iterator[int]:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=self.folder)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def enter(self, name: str, *, make: bool) -> bool:
        """Go one folder down; False for a link, or what is no folder. With ``make``, a missing folder is
        made (0755).
        """
        try:
            made = os.open(name, _FOLDER, dir_fd=self.folder)
        except FileNotFoundError:
            if not make:
                raise
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=self.folder)
            return self.enter(name, make=False)
        except NotADirectoryError:
            return False
        self._folders.append(made)
        self._names.append(name)
        return True

    def leave(self, depth: int) -> None:
        """Close the descriptors of all folders that are deeper; the root's own has depth 0 and is closed by
        leaving the block.
        """
        while len(self._folders) > depth:
            os.close(self._folders.pop())
        del self._names[max(0, depth - 1) :]

    def up(self) -> None:
        """Go one folder up; from the root, as in a chroot, to itself."""
        self.leave(max(1, len(self._folders) - 1))

    def look(self) -> os.stat_result | None:
        """Return what is at the name now, of a link the link itself; None for nothing."""
        try:
            return os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def target(self, link: str) -> str:
        """Return where a link in the folder leads. Raises HostError for one that root alone cannot have put
        there, OSError for what is no link.
        """
        target = os.readlink(link, dir_fd=self.folder)
        info = os.stat(link, dir_fd=self.folder, follow_symlinks=False)
        if not (_roots(info, 0) and self.roots_alone()):
            raise HostError(
                f"{self.above.rstrip('/')}/{link} is a symbolic link that a user may have put there;"
                " not followed",
                hint="replace the link by what it names, or let root alone write each folder on the way",
            )
        return target


def walk(root: str, name: str, *, follow: bool = True, make: bool = False) -> Place:
    """Go from ``root`` to the folder that holds ``name``; ``follow`` a link in last place too. With
    ``make``, missing folders are made.

    Raises HostError for a link that is not followed, and for a loop of links; FileNotFoundError where a
    folder is missing, NotADirectoryError where one is none, OSError with the system's reason.
    """
    place = Place(root)
    try:
        _go(place, name, follow=follow, make=make)
    except BaseException:
        place.leave(0)
        raise
    return place


def _go(place: Place, name: str, *, follow: bool, make: bool) -> None:
    pending, links = _parts(name), 0
    while pending:
        part = pending.pop()
        if part == "..":
            place.up()
        elif pending and place.enter(part, make=make):
            continue
        elif not pending and not _is_link(place, part, follow=follow):
            return
        else:
            links += 1
            if links > _LINKS_FOLLOWED:
                raise HostError(f"{name}: too many symbolic links")
            target = _target(place, part)
            if target.startswith("/"):
                place.leave(1)
            pending.extend(_parts(target))
    place.name, place.info = ".", os.fstat(place.folder)


def _is_link(place: Place, name: str, *, follow: bool) -> bool:
    """Take this name for the last; whether it is a link that is to be followed."""
    place.name = name
    place.info = place.look()
    return follow and place.info is not None and stat.S_ISLNK(place.info.st_mode)


def _target(place: Place, link: str) -> str:
    try:
        return place.target(link)
    except OSError as error:
        if error.errno == errno.EINVAL:  # no link
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from error
        raise


def _roots(info: os.stat_result, others: int) -> bool:
    return info.st_uid in (0, os.geteuid()) and not info.st_mode & others


def _by_fuse(devices: set[int]) -> bool:
    """Whether one of these is the number of a FUSE filesystem that is mounted here."""
    numbers = {f"{os.major(device)}:{os.minor(device)}".encode() for device in devices}
    try:
        with open("/proc/self/mountinfo", "rb") as table:
            fields = [line.split(b" ") for line in table]
    except FileNotFoundError:  # chrooted into an image: no user's processes run there
        return False
    # proc_pid_mountinfo(5): the number is the third field, the type is the first after the separator.
    return any(line[2] in numbers and line[line.index(b"-") + 1].startswith(b"fuse") for line in fields)


def _parts(name: str) -> list[str]:
    return [part for part in name.split("/") if part not in ("", ".")][::-1]
