"""Every effect that the agent has on a machine goes through a ``Host``.

A Host has a root, so the same code configures the running system, a mounted image and a test's temporary
tree. With ``dry_run`` it records what it would have done and changes nothing. No other module runs a
command or opens a file for writing; tests/unit/test_boundaries.py holds the package to that.
"""

from __future__ import annotations

import contextlib
import os
import stat

from agent.host import atomic_write, temporary_files
from agent.host.chroot_path import beneath
from agent.host.descriptor_walk import walk
from agent.lib.errors import HostError
from agent.lib.records import dataclass, field
from agent.lib.text import joined

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from agent.host.descriptor_walk import Place

#: What every command sees and nothing else. LC_ALL keeps messages parseable; PATH is Debian's for root.
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/root"}
#: Seconds a command may take unless its caller says otherwise.
COMMAND_TIMEOUT = 60.0
#: Bytes of a command's output that go into an error message.
_OUTPUT_IN_ERROR = 400
#: Bytes of a file that is read whole, at the most.
READ_LIMIT = 16 << 20
#: Bytes that are asked for at a time: for more, the C library maps and unmaps memory at each call.
_CHUNK = 1 << 16
#: The last one writes whatever the others say (open(2)).
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_TRUNC
#: With one of these a name is gone to by descriptor.
_BY_PLACE = _WRITING | os.O_CREAT | os.O_NOFOLLOW


@dataclass(frozen=True, slots=True)
class File:
    """A regular file as it was found; ``owner`` is (uid, gid)."""

    content: bytes
    mode: int
    owner: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Completed:
    """How a command ended: exit status and captured output."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str


@dataclass(slots=True)
class Host:
    """The machine below ``root``: its files, its commands, its kernel."""

    root: str | Path = "/"
    dry_run: bool = False
    #: With dry_run: what would have been done, one line each, in order.
    planned: list[str] = field(default_factory=list)
    #: The system below the root does not run: the kernel and its /sys, if they are there, are another one's.
    offline: bool = False
    _root: str = field(init=False)

    def __post_init__(self) -> None:
        self._root = os.fspath(self.root)

    @property
    def live(self) -> bool:
        """True when this is the running system and not an image or a test's tree."""
        return not self.offline and self._root == "/"

    # -- reading ---------------------------------------------------------------------

    def path(self, name: str) -> str:
        """The real path of ``name`` below the root.

        Symbolic links are followed as a chroot would, so an absolute link in an image never leads out of
        it. The last component may be missing, and a link in last place is followed too.
        """
        return name if self.live else beneath(self._root, name)

    def read_bytes(self, name: str, *, limit: int | None = None) -> bytes | None:
        """The file, or its first ``limit`` bytes; None where there is no such file.

        Raises HostError for one that cannot be read, or is too large to be held whole: what was read in
        part would be written back in part.
        """
        most = READ_LIMIT + 1 if limit is None else limit
        try:
            descriptor = os.open(self._harmless(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise HostError(f"{name}: cannot be read: {error.strerror}") from error
        try:
            chunks = _read(descriptor, most)
        except OSError as error:  # a folder opens, but cannot be read
            raise HostError(f"{name}: cannot be read: {error.strerror}") from error
        finally:
            os.close(descriptor)
        if limit is None and len(chunks) > READ_LIMIT:
            raise HostError(f"{name}: larger than {READ_LIMIT >> 20} MiB: not read")
        return chunks

    def read(self, name: str, *, limit: int | None = None) -> str | None:
        """The file as text (undecodable bytes are kept as surrogates), or None where there is no such
        file.
        """
        data = self.read_bytes(name, limit=limit)
        return None if data is None else data.decode("utf-8", "surrogateescape")

    def exists(self, name: str) -> bool:
        """Whether there is anything of that name (a dangling link is not)."""
        return os.path.exists(self.path(name))

    def which(self, program: str) -> str:
        """Where a program of that name is installed below the root, "" where it is not."""
        found = (f"{folder}/{program}" for folder in ENVIRONMENT["PATH"].split(":"))
        return next(filter(self.exists, found), "")

    # -- files -----------------------------------------------------------------------

    def write(
        self,
        name: str,
        data: str | bytes,
        *,
        mode: int = 0o644,
        owner: tuple[int, int] = (0, 0),
        sync: bool = False,
    ) -> bool:
        """Make the file hold ``data``; False when it already did (then nothing is written, not even the
        mtime).

        Atomic: the new file has its mode and owner before its name is visible. A symbolic link is
        written through, not replaced. ``sync`` makes it survive a power cut (file and folder). Folders
        that are missing are made 0755. Raises HostError with the system's reason.
        """
        content = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
        with self._way(name, "written", make=True) as place:
            if place is not None and atomic_write.same(place, content, mode, owner):
                return False
            if self._plan(f"write {name} ({mode:04o}, {len(content)} bytes)") or place is None:
                return True
            atomic_write.replace(place, (content,), mode, owner, sync=sync)
        return True

    def write_chunks(self, name: str, chunks: Iterable[bytes], *, mode: int = 0o644) -> None:
        """Make the file, root's, hold the chunks, one after the other; for large files, and many at once:
        they are not flushed to the disk. Raises HostError, and what reading a chunk raises.
        """
        with self._way(name, "written", make=True) as place:
            if not self._plan(f"write {name} ({mode:04o})") and place is not None:
                atomic_write.replace(place, chunks, mode, (0, 0), flush=False)

    def as_it_is(self, name: str, *, limit: int = READ_LIMIT) -> File | None:
        """Return content, mode and owner of a file that is to be written again with a part of them; None
        where there is none.

        It is found as by ``write``, so no link of a user's is followed. Raises HostError for what is no
        regular file or larger than ``limit`` bytes, and, where others than root may change a folder on the
        way, for a file of several names: it may be one that they must not have copied.
        """
        with self._way(name, "read", make=False) as place:
            if place is None or place.info is None:
                return None
            with atomic_write.regular(place) as found:
                info = os.fstat(found) if found is not None else None
                if found is None or info is None:
                    raise HostError(f"{name}: is no regular file", hint="remove it, or put a file there")
                if info.st_nlink != 1 and not place.roots_alone():
                    raise HostError(f"{name}: has several names", hint="make it a file with one name")
                content = _read(found, limit + 1)
        if len(content) > limit:
            raise HostError(f"{name}: larger than {limit >> 20} MiB: not read")
        return File(content, stat.S_IMODE(info.st_mode), (info.st_uid, info.st_gid))

    def mkdir(self, name: str, *, mode: int = 0o755, owner: tuple[int, int] = (0, 0)) -> bool:
        """Make the folder (and 0755 parents) when it is missing; an existing one keeps its mode. True
        when made.
        """
        with self._way(name, "made", make=True) as place:
            if place is not None and place.info is not None and stat.S_ISDIR(place.info.st_mode):
                return False
            if self._plan(f"mkdir {name} ({mode:04o})") or place is None:
                return True
            try:
                place.make(mode, owner if atomic_write.may_own() else None)
            except FileExistsError:
                return False  # another thread or process was faster
        return True

    def give(self, name: str, mode: int, owner: tuple[int, int]) -> None:
        """Give a folder that is there its mode and its owner (uid, gid); a link is not followed."""
        with self._way(name, "given to its owner", make=False, follow=False) as place:
            if place is not None and not self._plan(f"give {name} to {owner[0]}:{owner[1]} ({mode:04o})"):
                place.give(mode, owner if atomic_write.may_own() else None)

    def remove(self, name: str) -> bool:
        """Remove the file, link or empty folder; False when there was none, or when a folder is not
        empty.
        """
        with self._way(name, "removed", make=False, follow=False) as place:
            if place is None or place.info is None:
                return False
            if self._plan(f"remove {name}"):
                return True
            try:
                place.remove()
            except FileNotFoundError:
                return False  # another thread or process was faster
            except OSError:
                if self.names(name):
                    return False
                raise
        return True

    def names(self, folder: str) -> list[str]:
        """Return what is in the folder, which is found as by ``remove``; nothing for what is none."""
        with self._way(folder, "listed", make=False, follow=False) as place:
            if place is None or place.info is None or not stat.S_ISDIR(place.info.st_mode):
                return []
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                return place.names(place.name)
        return []

    def symlink(self, name: str, target: str) -> bool:
        """Make ``name`` a link to ``target``, replacing a file or link; False when it already was."""
        with self._way(name, "linked", make=True, follow=False) as place:
            if place is not None and place.leads_to(target):
                return False
            if self._plan(f"link {name} -> {target}") or place is None:
                return True
            atomic_write.link(place, target)
        return True

    @contextlib.contextmanager
    def opened(self, name: str, flags: int) -> Iterator[int]:
        """A descriptor on a device, a folder or a lock file, closed on leaving. For writing, and with
        O_NOFOLLOW, no link but root's is followed (see walk). Write access is refused with ``dry_run``.
        """
        if self.dry_run and flags & _WRITING:
            raise HostError(f"{name}: not opened for writing in a dry run")
        try:
            path = self._harmless(name)
            if flags & _BY_PLACE:
                with self.place(name) as place:
                    flags |= os.O_NOFOLLOW | os.O_CLOEXEC
                    descriptor = os.open(place.name, flags, 0o600, dir_fd=place.folder)
            else:
                descriptor = os.open(path, flags & ~_BY_PLACE | os.O_CLOEXEC)
        except OSError as error:
            raise HostError(f"{name}: cannot be opened: {error.strerror}") from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def place(self, name: str, *, follow: bool = True, make: bool = False) -> Place:
        """Go to the folder that holds ``name``, by descriptor and through no link but root's (see walk).

        For what else is done to a name than the methods above do; the place is closed by leaving its block.
        Raises HostError for a link that is not followed, OSError with the system's reason.
        """
        if not name.startswith("/") and self.live:
            name = f"{os.getcwd()}/{name}"  # a verb's argument
        return walk(self._root, name, follow=follow, make=make)

    def put(self, place: Place, content: bytes, *, mode: int, owner: tuple[int, int]) -> None:
        """Write a file in a place that was gone to. Raises OSError."""
        atomic_write.replace(place, (content,), mode, owner)

    def sweep(self) -> list[str]:
        """Remove the temporary names that runs which were cut have left; their paths."""
        return [] if self.dry_run else temporary_files.sweep(self._root)

    # -- commands and the kernel -----------------------------------------------------

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout: float = COMMAND_TIMEOUT,
        check: bool = True,
        changes: bool = True,
        environment: Mapping[str, str] | None = None,
    ) -> Completed:
        """Run a command below the root and return its output; secrets go through ``stdin``, never
        through argv. A command of an image gets nothing of this machine (docs/ganeti.md).

        ``changes=False`` marks a command that only asks: it runs in a dry run too. ``timeout`` is in
        seconds; it is killed then. Raises HostError naming the command, its status and the end
        of its output, unless ``check`` is off; a missing program or a timeout always raises.
        """
        from agent.host import commands

        if changes and self._plan("run " + " ".join(argv)):
            return Completed(tuple(argv), 0, "", "")
        seen = ENVIRONMENT | dict(environment or {})
        if self._root == "/":
            done = commands.execute(argv, stdin=stdin, timeout=timeout, environment=seen)
        else:
            done = commands.execute_within(self._root, argv, stdin=stdin, timeout=timeout, environment=seen)
        returncode, out, err = done
        if check and returncode:
            said = (joined(err) or joined(out))[-_OUTPUT_IN_ERROR:]
            raise HostError(f"{' '.join(argv)}: exit status {returncode}: {said}")
        return Completed(tuple(argv), returncode, out, err)

    def sysfs_write(self, name: str, value: str) -> None:
        """Write ``value`` to a file of /sys or /proc in one write; raises HostError with the kernel's
        answer.
        """
        if self._plan(f"echo {value} > {name}"):
            return
        try:
            with self.opened(name, os.O_WRONLY) as descriptor:
                os.write(descriptor, value.encode())
        except OSError as error:
            raise HostError(f"{name}: the kernel refused {value!r}: {error.strerror}") from error

    def effect(self, description: str) -> bool:
        """True when an effect that has no method of its own (a system call) may happen; records it in a
        dry run.
        """
        return not self._plan(description)

    # -- within ----------------------------------------------------------------------

    def _plan(self, what: str) -> bool:
        if self.dry_run:
            self.planned.append(what)
        return self.dry_run

    def _harmless(self, name: str) -> str:
        """Return the path for an open; raise HostError for a device node of an image: it is one of this
        machine's, and to open it may have an effect. Nothing of the image runs that could put one there
        later.
        """
        path = self.path(name)
        if self.offline and os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
            raise HostError(f"{name}: neither a file nor a folder: not opened", hint="remove it there")
        return path

    @contextlib.contextmanager
    def _way(self, name: str, done: str, *, make: bool, follow: bool = True) -> Iterator[Place | None]:
        """The place of ``name``; None where a folder on the way is missing, and is not to be made. A system
        call that fails in the block becomes a HostError: the name cannot be ``done``.
        """
        try:
            try:
                place = self.place(name, follow=follow, make=make and not self.dry_run)
            except FileNotFoundError:
                if make and not self.dry_run:
                    raise
                place = None
            except NotADirectoryError:
                if make:
                    raise
                place = None
            with place or contextlib.nullcontext():
                yield place
        except OSError as error:
            raise HostError(f"{name}: cannot be {done}: {error.strerror}") from error


def _read(descriptor: int, most: int) -> bytes:
    """What is read from there, ``most`` bytes at the most."""
    chunks = bytearray()
    while len(chunks) < most and (chunk := os.read(descriptor, min(most - len(chunks), _CHUNK))):
        chunks += chunk
    return bytes(chunks)
