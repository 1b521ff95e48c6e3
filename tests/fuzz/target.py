"""What a target is, and what each of its runs must keep."""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.host.host import Host

#: CPU seconds of one run, also of an instrumented one: the slowest ordinary run takes a hundredth of it.
SECONDS = 5.0
#: Bytes of address space that a run may take beyond what the process has: more than any reader needs, less
#: than a length or a shift that came from the input takes.
MEMORY = 256 << 20
#: Where the machines of the runs are, in memory. A search has a folder there, since libFuzzer ends its
#: process without cleaning up.
FOLDER = os.environ.get("GANDI_FUZZ_FOLDER", "/dev/shm")


@dataclass(frozen=True, slots=True)
class Target:
    """A reader: ``run`` calls it and asserts; ``raises`` are its own kinds of error. ``seeds`` are inputs as
    they are in practice, ``tokens`` words of its format. ``largest`` is the length of the longest input.
    """

    name: str
    run: Callable[[bytes], object]
    seeds: Callable[[], Iterable[bytes]]
    raises: tuple[type[Exception], ...] = ()
    tokens: tuple[bytes, ...] = ()
    largest: int = 4096
    #: Whether inputs are JSON, in which whole values are changed too.
    is_json: bool = False
    #: Mutations in the short run, fewer of what is slow.
    short: int = 100

    def check(self, data: bytes) -> None:
        """Run it with these bytes. Any exception is a finding."""
        began = time.process_time()
        with contextlib.suppress(*self.raises), bounded_memory():
            self.run(data)
        taken = time.process_time() - began
        assert taken < SECONDS, f"{self.name}: {len(data)} bytes took {taken:.1f} s of CPU"


@contextlib.contextmanager
def bounded_memory() -> Iterator[None]:
    """Let allocations fail that need more than ``MEMORY`` bytes beyond those of now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm", "rb") as file:
        now = int(file.read().split(b" ")[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@functools.cache
def machine() -> Host:
    """Return a machine in a folder in memory, the same for each run; it goes with the process."""
    folder = tempfile.TemporaryDirectory(prefix="fuzz-", dir=FOLDER)
    _folders.append(folder)
    return Host(folder.name)


_folders: list[tempfile.TemporaryDirectory[str]] = []


def with_file(name: str, data: bytes) -> Host:
    """Return the machine with this content of a file."""
    host = machine()
    path = Path(f"{host.root}{name}")
    try:
        path.write_bytes(data)
    except FileNotFoundError:
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
    return host


def as_text(data: bytes) -> str:
    """Return the text of a file as ``Host.read`` does."""
    return data.decode("utf-8", "surrogateescape")
