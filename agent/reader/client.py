"""Start the reader (agent/reader) as a separate process and return its answer, within bounds.

A process with one thread forks it: a new interpreter costs four times as much. The daemon forks it when a
boot begins, before it starts other threads. A process with several threads starts the reader as a program: a
fork could wait forever for a lock that another thread holds. Host.run is not used: the reader is a part of
the agent, not a command of the system below the root; it changes nothing, its input is an open device, and
the size of its answer is bounded.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import threading
import time
from binascii import a2b_base64

from agent.config import model
from agent.host import processes
from agent.lib.errors import HostError
from agent.lib.records import dataclass, field
from agent.lib.text import printable
from agent.reader.common.archive_layout import OFFSETS
from agent.reader.common.problem import ERROR, HARMLESS, UNSUPPORTED, Problem, shown
from agent.reader.dialects import DIALECTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, NoReturn

#: Seconds of wall-clock time: six times its CPU limit.
TIMEOUT = 60.0
#: Seconds until a killed reader has ended: one that reads from a hung disk cannot be killed.
_GONE = 2.0
#: Most bytes of the answer: programs and files (10 MiB) and the unparsed document (1 MiB) in base64, the
#: configuration (4 MiB), plain passwords and problems.
ANSWER = 22 << 20
#: Ends of the paths of the distribution's Python modules: Debian's, and all others'.
_PACKAGES = ("/dist-packages", "/site-packages")
_READER = os.path.join(os.path.dirname(__file__), "__main__.py")
_HINT = "the stored configuration stays in force; see: journalctl -u 'gandi-*'"

#: The forked reader without a medium yet: its process id, and the socket over which it gets one.
_prepared: tuple[int, socket.socket] | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """A member of an archive by its place on the medium, in bytes."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Parsed:
    """The reader's answer. ``config`` is None if it could not be read, or ``is_unchanged``."""

    config: model.InstanceConfig | None
    #: The customer's programs by name.
    files: dict[str, bytes]
    #: The unparsed document; None if it must not be stored.
    raw: bytes | None
    problems: tuple[Problem, ...]
    #: The digest of everything that was delivered.
    digest: str
    #: Whether the digest equals the one of the last delivery.
    is_unchanged: bool
    #: Whether the medium has the marks of this dialect.
    is_recognised: bool
    #: False if it is damaged or truncated.
    is_complete: bool
    #: Its place on the medium, in bytes: offset and length.
    extent: tuple[int, int]
    modules: tuple[Piece, ...]
    #: Why the medium is not the platform's, or "".
    foreign: str = ""
    #: Whether ``extent`` begins not with an archive but with the mark of one that was being overwritten.
    is_being_overwritten: bool = False
    #: The end of another archive before ``extent``, in bytes of the disk; 0 if there is none.
    previous_end: int = 0
    #: Plain passwords by account ("": the default user's): kept in this process's memory, never stored.
    secrets: dict[str, str] = field(default_factory=dict)
    #: The digest of a document with a verified signature; "" where none is needed.
    signed_digest: str = ""


def parse_disk(descriptor: int, *, known_digest: str = "") -> Parsed:
    """Find and read the platform's archive on the disk ``descriptor``.

    ``known_digest`` is the digest of the last delivery: with it the archive is only compared, without
    pydantic and without a configuration in the answer. Raise HostError if the reader fails or does not end
    in time.
    """
    return _read("gandi", "disk", descriptor, known_digest)


def parse_files(dialect: str, files: Mapping[str, bytes]) -> Parsed:
    """Read a drive's files (path on the drive -> content) as ``dialect``; without a digest.

    Raise HostError if the reader fails or does not end in time.
    """
    pairs = sorted(files.items())
    head = json.dumps([[name, len(content)] for name, content in pairs]).encode() + b"\n"
    place = "files+texts" if _may_hold_texts(dialect, files) else "files"
    with os.fdopen(os.memfd_create("drive"), "r+b") as bundle:
        bundle.writelines([head, *(content for _, content in pairs)])
        bundle.flush()
        return _read(dialect, place, bundle.fileno())


def _may_hold_texts(dialect: str, files: Mapping[str, bytes]) -> bool:
    """Return whether the reader needs the libraries for YAML and MIME: it can import them only before it is
    confined, thus before it reads anything.

    User and vendor data need them unless it is a script. It may be compressed, so nothing else is checked.
    """
    row = DIALECTS.get(dialect)
    if row is None or not row.has_user_data:
        return row is not None and row.is_yaml
    texts = (text for name, text in files.items() if "user" in name.lower() or "vendor" in name.lower())
    return any(not text.startswith(b"#!") and text.strip(b" \t\r\n") not in (b"", b"{}") for text in texts)


def _read(dialect: str, place: str, descriptor: int, known: str = "") -> Parsed:
    # The folders of modules are taken from this process: *.pth files are not read again.
    packages = [] if known else [one for one in sys.path if one.endswith(_PACKAGES)]
    status, output = _run_reader([dialect, place, known, *packages], descriptor)
    if status:
        raise HostError(f"the {dialect} reader ended {_how(status)}", hint=_HINT)
    try:
        answer = json.loads(output)
        if "defect" in answer:
            raise HostError(f"the {dialect} reader failed: {shown(str(answer['defect']))}", hint=_HINT)
        if answer.get("dialect") == "native" != dialect:
            os.lseek(descriptor, 0, os.SEEK_SET)
            return _read("native", place, descriptor)
        return _parsed(answer)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise HostError(f"the {dialect} reader's answer is not valid", hint=_HINT) from error


def prepare() -> None:
    """Fork a reader for the next medium, while this process still has one thread. It reads one medium."""
    global _prepared
    ours, theirs = socket.socketpair()
    process = os.fork()
    if process:
        theirs.close()
        _prepared = process, ours
        return
    _wait(ours, theirs)


def _wait(ours: socket.socket, theirs: socket.socket) -> NoReturn:
    """Run as the reader when the medium arrives on ``theirs``; end the process when the socket is closed."""
    try:
        ours.close()
        words, descriptors, _, _ = socket.recv_fds(theirs, 1 << 16, 2)
        if descriptors:
            from agent.reader import child

            child.become_reader(json.loads(words), *descriptors)
    finally:
        os._exit(0)


def stop_prepared() -> None:
    """End the reader of ``prepare`` if it was not used."""
    if prepared := _take_prepared():
        process, ours = prepared
        ours.close()
        os.waitpid(process, 0)


def _take_prepared() -> tuple[int, socket.socket] | None:
    global _prepared
    taken, _prepared = _prepared, None
    return taken


def _start(words: list[str], descriptor: int, writing: int) -> int:
    """Start a reader of the medium on ``descriptor`` that answers on ``writing``; return its process id."""
    if prepared := _take_prepared():
        process, ours = prepared
        with ours:
            socket.send_fds(ours, [json.dumps(words).encode()], [descriptor, writing])
        return process
    return (
        _fork(words, descriptor, writing)
        if threading.active_count() == 1
        else _spawn(words, descriptor, writing)
    )


def _run_reader(words: list[str], descriptor: int) -> tuple[int, bytes]:
    """Run the reader; return its wait status and output. Raise HostError if it cannot start or is killed."""
    reading, writing = os.pipe()
    try:
        process = _start(words, descriptor, writing)
    except OSError as error:
        os.close(reading)
        raise HostError(f"the reader cannot be started: {error.strerror}") from error
    finally:
        os.close(writing)
    output, status, deadline = None, None, time.monotonic() + TIMEOUT
    try:
        output = _collect(reading, deadline)
        if output is not None and processes.wait_for_exit(process, deadline - time.monotonic()):
            _, status = os.waitpid(process, 0)
    finally:
        os.close(reading)
        if status is None:
            os.kill(process, 9)
            if processes.wait_for_exit(process, _GONE):
                os.waitpid(process, 0)
    if output is None or status is None:
        raise HostError(f"the reader took more than {TIMEOUT:g} s, or its answer was too large", hint=_HINT)
    return status, output


def _fork(words: list[str], descriptor: int, writing: int) -> int:
    """Fork this process, run the reader in the child, and return the child's process id."""
    if process := os.fork():
        return process
    from agent.reader import child

    child.become_reader(words, descriptor, writing)


def _spawn(words: list[str], descriptor: int, writing: int) -> int:
    """Start the reader as a program, with standard error to /dev/null; return its process id."""
    return os.posix_spawn(
        sys.executable,
        [sys.executable, "-I", "-S", _READER, *words],
        {"LC_ALL": "C.UTF-8"},
        file_actions=[
            (os.POSIX_SPAWN_DUP2, descriptor, 0),
            (os.POSIX_SPAWN_DUP2, writing, 1),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ],
        setsigmask=(),
    )


def _collect(reading: int, deadline: float) -> bytes | None:
    """Return the bytes up to the end of the pipe; None if ``deadline`` passes or they exceed ``ANSWER``."""
    output = bytearray()
    poll = select.poll()
    poll.register(reading, select.POLLIN)
    while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        chunk = os.read(reading, 1 << 16)
        if not chunk:
            return bytes(output)
        output += chunk
        if len(output) > ANSWER:
            break
    return None


def _how(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"by signal {-code}" if code < 0 else f"with exit status {code}"


def _severity(given: object) -> str:
    """Return the severity; one that the child may not send counts as an error."""
    return given if given in (UNSUPPORTED, HARMLESS) else ERROR


def _parsed(answer: dict[str, Any]) -> Parsed:
    config, raw = answer.get("config"), answer.get("raw")
    start, length = answer.get("extent", (0, 0))
    before = int(answer.get("before", 0))
    if start not in OFFSETS or not 0 <= before <= start:
        raise ValueError("not an offset of an archive")
    return Parsed(
        config=model.from_dict(config) if config else None,
        files={name: a2b_base64(content) for name, content in answer.get("files", {}).items()},
        raw=a2b_base64(raw) if raw is not None else None,
        problems=tuple(
            Problem(shown(path), printable(message), printable(hint), _severity(severity))
            for path, message, hint, severity in answer["problems"]
        ),
        digest=str(answer.get("digest", "")),
        is_unchanged=bool(answer.get("same")),
        is_recognised=bool(answer.get("ours", True)),
        is_complete=bool(answer.get("whole", True)),
        extent=(int(start), int(length)),
        modules=tuple(Piece(str(name), int(at), int(size)) for name, at, size in answer.get("modules", ())),
        foreign=shown(str(answer.get("foreign", ""))),
        is_being_overwritten=bool(answer.get("wiped")),
        previous_end=before,
        secrets={str(name): str(secret) for name, secret in answer.get("secrets", {}).items()},
    )
