"""Every effect that the agent has on a machine goes through a ``Host``.

A Host has a root, so the same code configures the running system, a mounted image and a test's temporary
tree. With ``dry_run`` it records what it would do and changes nothing. No other module runs a command or
opens a file for writing; tests/unit/test_boundaries.py checks that.
"""

from __future__ import annotations

import contextlib
import os
import stat

from agent.host import atomic_write
from agent.host.chroot_path import resolve_in_root
from agent.host.descriptor_walk import walk
from agent.lib.errors import HostError, NeedsProgram
from agent.lib.records import dataclass, field
from agent.lib.text import joined

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from agent.host.descriptor_walk import Place

#: The whole environment of a command. LC_ALL keeps messages parseable; PATH is Debian's for root.
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/root"}
#: Seconds that a command may take by default.
COMMAND_TIMEOUT = 60.0
#: Last characters of a command's output that go into an error message.
_OUTPUT_IN_ERROR = 400
#: Most bytes of a file that is read as a whole.
READ_LIMIT = 16 << 20
#: Bytes per read(2): for more, the C library maps and unmaps memory at each call.
_CHUNK = 1 << 16
#: O_TRUNC changes the file even with O_RDONLY (open(2)).
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_TRUNC
#: With both flags, an existing name, also a link, is an error (open(2)).
_NEW = os.O_CREAT | os.O_EXCL
#: With one of these flags, a name is reached by descriptors (see ``place``).
_BY_PLACE = _WRITING | os.O_CREAT | os.O_NOFOLLOW


@dataclass(frozen=True, slots=True)
class File:
    """A regular file: its content, mode, and ``owner`` as (uid, gid)."""

    content: bytes
    mode: int
    owner: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that has ended: its exit status and captured output."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str


@dataclass(slots=True)
class Host:
    """The machine below ``root``: its files, its commands, its kernel."""

    root: str | Path = "/"
    dry_run: bool = False
    #: With dry_run: the effects that were skipped, one line each, in order.
    planned: list[str] = field(default_factory=list)
    #: The system below the root does not run: the kernel and /sys, if present, belong to another one.
    offline: bool = False
    #: With False, a program of this system is never run: ``run`` raises NeedsProgram.
    runs_programs: bool = True
    #: Called with each decision and its facts: one line, never a secret. None unless debugging is on; the
    #: caller checks ``if host.debug:`` before it makes the line, so that nothing else is paid for then.
    debug: Callable[[str], None] | None = None
    _root: str = field(init=False)

    def __post_init__(self) -> None:
        self._root = os.fspath(self.root)

    @property
    def live(self) -> bool:
        """Return whether this is the running system, not an image or a test's tree."""
        return not self.offline and self._root == "/"

    # -- reading ---------------------------------------------------------------------

    def path(self, name: str) -> str:
        """Return the real path of ``name`` below the root.

        Symbolic links are followed as in a chroot, so an absolute link in an image never leads out of it.
        The last component may be missing; a link there is followed too.
        """
        return name if self.live else resolve_in_root(self._root, name)

    def read_bytes(self, name: str, *, limit: int | None = None) -> bytes | None:
        """Return the file's content, or its first ``limit`` bytes; None if there is no such file.

        Raise HostError if it cannot be read, or without ``limit`` is larger than READ_LIMIT: a part of a
        file could be written back as the whole.
        """
        most = READ_LIMIT + 1 if limit is None else limit
        try:
            descriptor = os.open(self._checked_path(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise HostError(f"{name}: cannot be read: {error.strerror}") from error
        try:
            chunks = _read(descriptor, most)
        except OSError as error:  # a folder can be opened, but not read
            raise HostError(f"{name}: cannot be read: {error.strerror}") from error
        finally:
            os.close(descriptor)
        if limit is None and len(chunks) > READ_LIMIT:
            raise HostError(f"{name}: larger than {READ_LIMIT >> 20} MiB: not read")
        return chunks

    def read(self, name: str, *, limit: int | None = None) -> str | None:
        """Return the file as text, with undecodable bytes as surrogates; else as ``read_bytes``."""
        data = self.read_bytes(name, limit=limit)
        return None if data is None else data.decode("utf-8", "surrogateescape")

    def exists(self, name: str) -> bool:
        """Return whether the name exists; a dangling link does not."""
        return os.path.exists(self.path(name))

    def which(self, program: str) -> str:
        """Return the path of an installed program, "" if it is not installed below the root."""
        paths = (f"{folder}/{program}" for folder in ENVIRONMENT["PATH"].split(":"))
        return next(filter(self.exists, paths), "")

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
        """Write ``data`` to the file; return False if it has that content, mode and owner already (then
        nothing is written, not even the mtime).

        Atomic: the new file has its mode and owner before its name is visible. A symbolic link is followed,
        not replaced. ``sync`` flushes the folder too, so that the name survives a power cut. Missing folders
        are made (0755). Raise HostError with the system's reason.
        """
        content = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
        with self._open_place(name, "written", make=True) as place:
            if place is not None and atomic_write.is_same(place, content, mode, owner):
                return False
            if self._plan(f"write {name} ({mode:04o}, {len(content)} bytes)") or place is None:
                return True
            atomic_write.replace(place, (content,), mode, owner, sync=sync)
        return True

    def write_chunks(self, name: str, chunks: Iterable[bytes], *, mode: int = 0o644) -> None:
        """Write the chunks to the file, owned by root. For large files and many at once: they are not
        flushed to the disk. Raise HostError, and whatever the iteration raises.
        """
        with self._open_place(name, "written", make=True) as place:
            if not self._plan(f"write {name} ({mode:04o})") and place is not None:
                atomic_write.replace(place, chunks, mode, (0, 0), flush=False)

    def read_file(self, name: str, *, limit: int = READ_LIMIT) -> File | None:
        """Return content, mode and owner of a file that will be rewritten with parts of them; None if it
        is missing.

        The path is walked as by ``write``, so a user's link is not followed. Raise HostError if it is not a
        regular file, is larger than ``limit`` bytes, or has several hard links in a folder that users can
        change: a link may name a file that they must not get a copy of.
        """
        with self._open_place(name, "read", make=False) as place:
            if place is None or place.info is None:
                return None
            with atomic_write.open_regular(place) as descriptor:
                info = os.fstat(descriptor) if descriptor is not None else None
                if descriptor is None or info is None:
                    raise HostError(
                        f"{name}: not a regular file", hint="remove it, or replace it by a regular file"
                    )
                if info.st_nlink != 1 and not place.is_root_only():
                    raise HostError(
                        f"{name}: has several hard links", hint="replace it by a file with one hard link"
                    )
                content = _read(descriptor, limit + 1)
        if len(content) > limit:
            raise HostError(f"{name}: larger than {limit >> 20} MiB: not read")
        return File(content, stat.S_IMODE(info.st_mode), (info.st_uid, info.st_gid))

    def mkdir(self, name: str, *, mode: int = 0o755, owner: tuple[int, int] = (0, 0)) -> bool:
        """Make the folder, and missing parents (0755); return False if it exists, with whatever mode. Raise
        HostError.
        """
        with self._open_place(name, "made", make=True) as place:
            if place is not None and place.info is not None and stat.S_ISDIR(place.info.st_mode):
                return False
            if self._plan(f"mkdir {name} ({mode:04o})") or place is None:
                return True
            try:
                place.make_folder(mode, owner if atomic_write.can_chown() else None)
            except FileExistsError:
                return False  # another thread or process was faster
        return True

    def set_mode_and_owner(self, name: str, mode: int, owner: tuple[int, int]) -> None:
        """Set mode and owner (uid, gid) of an existing folder; a link is not followed. Raise HostError."""
        with self._open_place(name, "given to its owner", make=False, follow=False) as place:
            if place is not None and not self._plan(f"give {name} to {owner[0]}:{owner[1]} ({mode:04o})"):
                place.set_mode_and_owner(mode, owner if atomic_write.can_chown() else None)

    def remove(self, name: str) -> bool:
        """Remove the file, link or empty folder; return False if it does not exist, or a folder is not
        empty. Raise HostError.
        """
        with self._open_place(name, "removed", make=False, follow=False) as place:
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
        """Return the names in a folder, reached as by ``remove``; none if it is missing or not a folder."""
        with self._open_place(folder, "listed", make=False, follow=False) as place:
            if place is None or place.info is None or not stat.S_ISDIR(place.info.st_mode):
                return []
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                return place.names(place.name)
        return []

    def symlink(self, name: str, target: str, *, owner: tuple[int, int] = (0, 0)) -> bool:
        """Make ``name`` a link to ``target``, replacing a file or link; return False if it already is."""
        with self._open_place(name, "linked", make=True, follow=False) as place:
            if place is not None and place.leads_to(target):
                return False
            if self._plan(f"link {name} -> {target}") or place is None:
                return True
            atomic_write.link(place, target, owner)
        return True

    @contextlib.contextmanager
    def opened(self, name: str, flags: int, *, make: bool = False) -> Iterator[int]:
        """Yield a descriptor of a device, a folder or a lock file, closed at the block's end. With flags to
        write or create, or O_NOFOLLOW, only links of root are followed (see walk); with ``make``, missing
        folders are made (0755). Raise HostError, also for write access in a dry run.
        """
        if self.dry_run and flags & _WRITING:
            raise HostError(f"{name}: not opened for writing in a dry run")
        try:
            path = self._checked_path(name)
            if flags & _BY_PLACE:
                with self.place(name, follow=flags & _NEW != _NEW, make=make) as place:
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
        """Walk to the folder that holds ``name`` (see walk): only links of root are followed.

        For operations that the methods above do not offer; a context manager, which closes it. Raise
        HostError for a link that is not followed, OSError with the system's reason.
        """
        if not name.startswith("/") and self.live:
            name = f"{os.getcwd()}/{name}"  # an argument of the command line
        return walk(self._root, name, follow=follow, make=make)

    def write_at(self, place: Place, content: bytes, *, mode: int, owner: tuple[int, int]) -> None:
        """Write a file in a place that ``place`` returned. Raise OSError."""
        atomic_write.replace(place, (content,), mode, owner)

    def sweep(self) -> list[str]:
        """Remove the temporary files that interrupted runs have left; return their paths."""
        return [] if self.dry_run else atomic_write.sweep(self._root)

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
        limit: int | None = None,
    ) -> Completed:
        """Run a command below the root and return its output. Pass secrets in ``stdin``, never in argv. A
        command of an image is isolated from this machine (docs/ganeti.md).

        ``changes=False`` marks a command that changes nothing: it runs in a dry run too. After ``timeout``
        seconds the command is killed. ``limit`` bounds its output, in bytes (see commands.execute). With
        ``check``, an exit status other than 0 raises HostError with the command, the status and the end of
        its output; a missing program or a timeout always raises.
        """
        from agent.host import commands

        if not self.runs_programs:
            raise NeedsProgram(argv[0])
        if changes and self._plan("run " + " ".join(argv)):
            return Completed(tuple(argv), 0, "", "")
        env = ENVIRONMENT | dict(environment or {})
        if self._root == "/":
            done = commands.execute(argv, stdin=stdin, timeout=timeout, environment=env, limit=limit)
        else:
            done = commands.execute_within(self._root, argv, stdin=stdin, timeout=timeout, environment=env)
        returncode, out, err = done
        if check and returncode:
            output = (joined(err) or joined(out))[-_OUTPUT_IN_ERROR:]
            raise HostError(f"{' '.join(argv)}: exit status {returncode}: {output}")
        return Completed(tuple(argv), returncode, out, err)

    def sysfs_write(self, name: str, value: str) -> None:
        """Write ``value`` to a file of /sys or /proc at once. Raise HostError with the kernel's reason."""
        if self._plan(f"echo {value} > {name}"):
            return
        try:
            with self.opened(name, os.O_WRONLY) as descriptor:
                os.write(descriptor, value.encode())
        except OSError as error:
            raise HostError(f"{name}: the kernel refused {value!r}: {error.strerror}") from error

    def allows(self, description: str) -> bool:
        """Return whether an effect without a method of its own (a system call) may happen; in a dry run,
        record it and return False.
        """
        return not self._plan(description)

    # -- within ----------------------------------------------------------------------

    def _plan(self, what: str) -> bool:
        if self.dry_run:
            self.planned.append(what)
        return self.dry_run

    def _checked_path(self, name: str) -> str:
        """Return the path to open. Raise HostError for a device node of an image: it stands for a device of
        this machine, and opening it may have an effect. No program of the image runs that could make one
        after the check.
        """
        path = self.path(name)
        if self.offline and os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
            raise HostError(
                f"{name}: neither a file nor a folder: not opened", hint="remove it from the image"
            )
        return path

    @contextlib.contextmanager
    def _open_place(
        self, name: str, failed_action: str, *, make: bool, follow: bool = True
    ) -> Iterator[Place | None]:
        """Yield the place of ``name``; None if a folder on the path is missing and not to be made.

        Raise HostError ("cannot be ``failed_action``") for a system call that fails in the block.
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
            raise HostError(f"{name}: cannot be {failed_action}: {error.strerror}") from error


def _read(descriptor: int, most: int) -> bytes:
    chunks = bytearray()
    while len(chunks) < most and (chunk := os.read(descriptor, min(most - len(chunks), _CHUNK))):
        chunks += chunk
    return bytes(chunks)
