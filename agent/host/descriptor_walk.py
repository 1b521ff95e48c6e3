"""Walk from the root to a name that is to be changed, opening each folder in the descriptor of its parent.

Between the check of a path and its use, the owner of a folder on the path can replace its contents by a
symbolic link. So each component is opened in the descriptor of its folder, and the name is changed in the
last of these descriptors: a later replacement has no effect. A symbolic link is followed only if root alone
can have made it: it belongs to root, and so does every folder on the path to it, writable by root alone.
Links are followed below the root, as in a chroot. Folders above the root are not checked.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from functools import cache

from agent.host.chroot_path import LINKS_FOLLOWED, parts
from agent.lib.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

#: O_PATH only needs permission to search, and has no effect on what is opened.
_ROOT = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_FOLDER = _ROOT | os.O_NOFOLLOW
#: The device numbers of FUSE filesystems that a program of this process serves.
OWN_FUSE = set[int]()


class Place:
    """A name, and the descriptors of the folders on the path to it, which are closed at the block's end."""

    __slots__ = ("_folders", "_names", "info", "name", "root")

    def __init__(self, root: str) -> None:
        #: The path where the walk began.
        self.root = root
        self._folders = [os.open(root, _ROOT)]
        self._names = list[str]()
        #: The name in ``folder``; "." for the root, and for a path that ends in ``..``.
        self.name = "."
        #: The name's status at the end of the walk (for a link, its own); None if the name did not exist.
        self.info: os.stat_result | None = None

    def __enter__(self) -> Place:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close_to_depth(0)

    @property
    def folder(self) -> int:
        """The descriptor of the folder that holds the name, opened with O_PATH."""
        return self._folders[-1]

    @property
    def folder_path(self) -> str:
        """The path of that folder below the root, without links, as of the walk."""
        return "/" + "/".join(self._names)

    def is_root_only(self) -> bool:
        """Return whether only root can change the folders on the path; in a test, this process's user counts
        as root too.

        In a folder with a POSIX ACL, the group's bits are the mask, so they also show entries that let
        others write. FUSE is not trusted, unless a program of this process is behind it (OWN_FUSE): that
        program chooses the owners that it reports.
        """
        infos = [os.fstat(folder) for folder in self._folders]
        are_roots = all(_roots(info, stat.S_IWGRP | stat.S_IWOTH) for info in infos)
        return are_roots and not _by_fuse({info.st_dev for info in infos})

    def make_folder(self, mode: int, owner: tuple[int, int] | None) -> None:
        """Make a folder with that mode, whatever the umask, and that owner (None: this process's). Until it
        has both, no other user has access. Raise OSError.
        """
        with self.labelled(stat.S_IFDIR):
            os.mkdir(self.name, mode if owner in (None, (0, 0)) else 0o700, dir_fd=self.folder)
        self.set_mode_and_owner(mode, owner)

    def labelled(self, kind: int, name: str = "") -> contextlib.AbstractContextManager[None]:
        """Give what this thread makes within the block the label that SELinux has for the name, or for
        another ``name`` in the folder, as a file of the type ``kind``; nothing where SELinux is not enabled,
        and in an image. Raise OSError.
        """
        if self.root != "/" or not _has_selinux():
            return contextlib.nullcontext()
        from agent.host import selinux

        return selinux.labelled_as(f"{self.folder_path.rstrip('/')}/{name or self.name}", kind)

    def set_mode_and_owner(self, mode: int, owner: tuple[int, int] | None) -> None:
        """Set the owner (None: keep it) and mode of an existing folder. Raise OSError, also for a link."""
        with self._readable(self.name) as folder:
            info = os.fstat(folder)
            if owner is not None and (info.st_uid, info.st_gid) != owner:
                os.fchown(folder, *owner)
            if stat.S_IMODE(info.st_mode) != mode:
                os.fchmod(folder, mode)

    def remove(self) -> None:
        """Remove the file, link or empty folder. Raise OSError."""
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
        """Flush the folder, so that the names in it are on the disk. Raise OSError."""
        with self._readable(".") as folder:
            os.fsync(folder)

    def names(self, name: str = ".") -> list[str]:
        """Return the names in the folder, or in its subfolder ``name``. Raise OSError, also for a link."""
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
        """Go one folder down; return False for a link, or for anything but a folder. With ``make``, make a
        missing folder (0755, whatever the umask). Raise OSError.
        """
        try:
            folder = os.open(name, _FOLDER, dir_fd=self.folder)
        except FileNotFoundError:
            if not make:
                raise
            try:
                with self.labelled(stat.S_IFDIR, name):
                    os.mkdir(name, 0o755, dir_fd=self.folder)
            except FileExistsError:
                return self.enter(name, make=False)
            with self._readable(name) as made:
                os.fchmod(made, 0o755)
            return self.enter(name, make=False)
        except NotADirectoryError:
            return False
        self._folders.append(folder)
        self._names.append(name)
        return True

    def close_to_depth(self, depth: int) -> None:
        """Close the descriptors of all but the first ``depth`` folders. The root is the first: 0 closes all,
        at the block's end.
        """
        while len(self._folders) > depth:
            os.close(self._folders.pop())
        del self._names[max(0, depth - 1) :]

    def up(self) -> None:
        """Go one folder up; the root's parent is the root, as in a chroot."""
        self.close_to_depth(max(1, len(self._folders) - 1))

    def lstat(self) -> os.stat_result | None:
        """Return the status of the name now (for a link, its own); None if it does not exist."""
        try:
            return os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def target(self, link: str) -> str:
        """Return the target of a link in the folder. Raise HostError if a user other than root may have
        made the link, OSError if it is not a link.
        """
        target = os.readlink(link, dir_fd=self.folder)
        info = os.stat(link, dir_fd=self.folder, follow_symlinks=False)
        if not (_roots(info, 0) and self.is_root_only()):
            raise HostError(
                f"{self.folder_path.rstrip('/')}/{link} is a symbolic link that a user may have put there;"
                " not followed",
                hint="replace the link by its target, or let only root write to each folder of the path",
            )
        return target


def walk(root: str, name: str, *, follow: bool = True, make: bool = False) -> Place:
    """Go from ``root`` to the folder that holds ``name``. With ``follow``, follow a link in last place too;
    with ``make``, make missing folders (0755).

    Raise HostError for a link that is not followed, and for a loop of links; FileNotFoundError if a folder
    is missing, NotADirectoryError if a component is not a folder, OSError with the system's reason.
    """
    place = Place(root)
    try:
        _go(place, name, follow=follow, make=make)
    except BaseException:
        place.close_to_depth(0)
        raise
    return place


def _go(place: Place, name: str, *, follow: bool, make: bool) -> None:
    pending, links = parts(name), 0
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
            if links > LINKS_FOLLOWED:
                raise HostError(f"{name}: too many symbolic links")
            target = _target(place, part)
            if target.startswith("/"):
                place.close_to_depth(1)
            pending.extend(parts(target))
    place.name, place.info = ".", os.fstat(place.folder)


def _is_link(place: Place, name: str, *, follow: bool) -> bool:
    """Set the place's name to this last component; return whether it is a link to follow."""
    place.name = name
    place.info = place.lstat()
    return follow and place.info is not None and stat.S_ISLNK(place.info.st_mode)


def _target(place: Place, link: str) -> str:
    try:
        return place.target(link)
    except OSError as error:
        if error.errno == errno.EINVAL:  # no link
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from error
        raise


@cache
def _has_selinux() -> bool:
    """Return whether the kernel has a policy of SELinux (/sys/fs/selinux has more than its folder then)."""
    return os.path.exists("/sys/fs/selinux/enforce")


def _roots(info: os.stat_result, others: int) -> bool:
    return info.st_uid in (0, os.geteuid()) and not info.st_mode & others


def _by_fuse(devices: set[int]) -> bool:
    """Return whether one of these device numbers is that of a mounted FUSE filesystem of others."""
    numbers = {f"{os.major(device)}:{os.minor(device)}".encode() for device in devices - OWN_FUSE}
    try:
        with open("/proc/self/mountinfo", "rb") as table:
            fields = [line.split(b" ") for line in table]
    except FileNotFoundError:  # chrooted into an image, where no processes of users run
        return False
    # proc_pid_mountinfo(5): the number is the third field, the type is the first after the separator.
    return any(line[2] in numbers and line[line.index(b"-") + 1].startswith(b"fuse") for line in fields)
