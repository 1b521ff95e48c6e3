"""Every effect that the agent has on a machine goes through a ``Host``.

A Host has a root, so the same code configures the running system, a mounted image and a test's temporary
tree. With ``dry_run`` it records what it would have done and changes nothing. No other module runs a
command or opens a file for writing; tests/unit/test_boundaries.py holds the package to that.
"""

from __future__ import annotations

import contextlib
import os

from agent import atomic
from agent.beneath import beneath
from agent.errors import HostError
from agent.plain import dataclass, field
from agent.text import joined

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

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
        chunks = bytearray()
        try:
            while len(chunks) < most and (chunk := os.read(descriptor, min(most - len(chunks), _CHUNK))):
                chunks += chunk
        except OSError as error:  # a folder opens, but cannot be read
            raise HostError(f"{name}: cannot be read: {error.strerror}") from error
        finally:
            os.close(descriptor)
        if limit is None and len(chunks) > READ_LIMIT:
            raise HostError(f"{name}: larger than {READ_LIMIT >> 20} MiB: not read")
        return bytes(chunks)

    def read(self, name: str, *, limit: int | None = None) -> str | None:
        """The file as text (undecodable bytes are kept as surrogates), or None where there is no such
        file.
        """
        data = self.read_bytes(name, limit=limit)
        return None if data is None else data.decode("utf-8", "surrogateescape")

    def exists(self, name: str) -> bool:
        """Whether there is anything of that name (a dangling link is not)."""
        return os.path.exists(self.path(name))

    def which(self, program: str) -> bool:
        """Whether a program of that name is installed below the root."""
        return any(self.exists(f"{folder}/{program}") for folder in ENVIRONMENT["PATH"].split(":"))

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
        target = os.path.realpath(self.path(name)) if self.live else self.path(name)
        try:
            if atomic.same(target, content, mode, owner):
                return False
            if self._plan(f"write {name} ({mode:04o}, {len(content)} bytes)"):
                return True
            self._mkdirs(os.path.dirname(target))
            atomic.replace(target, content, mode, owner, sync=sync)
        except OSError as error:
            raise HostError(f"{name}: cannot be written: {error.strerror}") from error
        return True

    def mkdir(self, name: str, *, mode: int = 0o755, owner: tuple[int, int] = (0, 0)) -> bool:
        """Make the folder (and 0755 parents) when it is missing; an existing one keeps its mode. True
        when made.
        """
        target = self.path(name)
        if os.path.isdir(target):
            return False
        if self._plan(f"mkdir {name} ({mode:04o})"):
            return True
        try:
            self._mkdirs(os.path.dirname(target))
            os.mkdir(target, 0o700)
            if atomic.may_own():
                os.chown(target, *owner, follow_symlinks=False)
            os.chmod(target, mode)
        except FileExistsError:
            return False  # another thread or process was faster
        except OSError as error:
            raise HostError(f"{name}: cannot be made: {error.strerror}") from error
        return True

    def remove(self, name: str) -> bool:
        """Remove the file, link or empty folder; False when there was none, or when a folder is not
        empty.
        """
        target = self._unfollowed(name)
        if not os.path.lexists(target):
            return False
        if self._plan(f"remove {name}"):
            return True
        try:
            if os.path.isdir(target) and not os.path.islink(target):
                os.rmdir(target)
            else:
                os.unlink(target)
        except OSError as error:
            if os.path.isdir(target) and os.listdir(target):
                return False
            raise HostError(f"{name}: cannot be removed: {error.strerror}") from error
        return True

    def symlink(self, name: str, target: str) -> bool:
        """Make ``name`` a link to ``target``, replacing a file or link; False when it already was."""
        link = self._unfollowed(name)
        if os.path.islink(link) and os.readlink(link) == target:
            return False
        if self._plan(f"link {name} -> {target}"):
            return True
        temporary = f"{link}.gandi-{os.urandom(4).hex()}"
        try:
            self._mkdirs(os.path.dirname(link))
            os.symlink(target, temporary)
            os.replace(temporary, link)
        except OSError as error:
            raise HostError(f"{name}: cannot be linked: {error.strerror}") from error
        return True

    @contextlib.contextmanager
    def opened(self, name: str, flags: int) -> Iterator[int]:
        """A descriptor on a device or lock file, closed on leaving. Write access is refused with
        ``dry_run``.
        """
        if self.dry_run and flags & (os.O_WRONLY | os.O_RDWR):
            raise HostError(f"{name}: not opened for writing in a dry run")
        try:
            descriptor = os.open(self._harmless(name), flags | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise HostError(f"{name}: cannot be opened: {error.strerror}") from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)

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
        from agent import command

        if changes and self._plan("run " + " ".join(argv)):
            return Completed(tuple(argv), 0, "", "")
        seen = ENVIRONMENT | dict(environment or {})
        if self._root == "/":
            done = command.execute(argv, stdin=stdin, timeout=timeout, environment=seen)
        else:
            done = command.execute_within(self._root, argv, stdin=stdin, timeout=timeout, environment=seen)
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

    def _unfollowed(self, name: str) -> str:
        """The path of ``name`` itself, where a link in last place is not followed."""
        folder, _, last = name.rstrip("/").rpartition("/")
        return os.path.join(self.path(folder or "/"), last)

    def _mkdirs(self, folder: str) -> None:
        if os.path.isdir(folder):
            return
        self._mkdirs(os.path.dirname(folder))
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o755)
