"""A disk with a log of all writes and flushes, and its content after a power cut at each flush.

QEMU's driver blklogwrites logs the requests for a file that it exports over FUSE; a loop device on that file
passes the kernel's flushes on. So no device mapper is needed, and the writes of several disks on one file
are in one order.
"""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from agent.lib.records import dataclass
from tests.vm.rig.command import run

_MAGIC = 0x6A736677736872  # of dm-log-writes' superblock (kernel: drivers/md/dm-log-writes.c)
_FLUSH, _DISCARD = 1, 4
#: Seconds for the export to appear, and to disappear.
_WAIT = 20.0


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes written at an offset, or, without bytes, a flush of all before it."""

    offset: int
    data: bytes


@contextlib.contextmanager
def recorded(image: Path, log: Path) -> Iterator[Path]:
    """Give a file with the image's content; its writes and flushes are in the log when the block ends."""
    export = image.with_suffix(".export")
    export.touch()
    with log.open("wb") as file:
        file.truncate(1 << 30)  # sparse
    argv = (
        "qemu-storage-daemon",
        *("--blockdev", f"driver=file,node-name=image,filename={image}"),
        *("--blockdev", f"driver=file,node-name=notes,filename={log}"),
        *("--blockdev", "driver=blklogwrites,node-name=disk,file=image,log=notes"),
        *("--export", f"type=fuse,id=export,node-name=disk,mountpoint={export},writable=on"),
    )
    with subprocess.Popen(argv) as daemon:
        try:
            _await_export(export, image.stat().st_size, daemon)
            yield export
            if daemon.poll() is not None:
                raise RuntimeError(f"qemu-storage-daemon ended with {daemon.returncode}")
        finally:
            subprocess.run(["umount", export], check=False)
            daemon.terminate()
            daemon.wait(_WAIT)


def _await_export(export: Path, size: int, daemon: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _WAIT
    while export.stat().st_size != size:
        if daemon.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("qemu-storage-daemon exports nothing")
        time.sleep(0.01)


def entries(log: Path) -> list[Write]:
    """Return the log's entries in the order of the requests."""
    with log.open("rb") as file:
        magic, version, count, sector = struct.unpack("<QQQI", file.read(28))
        if (magic, version) != (_MAGIC, 1):
            raise ValueError(f"{log}: no log of writes")
        found = list[Write]()
        place = sector
        for _ in range(count):
            file.seek(place)
            first, sectors, flags, _length = struct.unpack("<QQQQ", file.read(32))
            place += sector
            size = sectors * sector
            if flags & _DISCARD:
                found.append(Write(first * sector, bytes(size)))
            elif size:
                file.seek(place)
                found.append(Write(first * sector, file.read(size)))
                place += size
            if flags & _FLUSH:
                found.append(Write(0, b""))
    return found


def cuts(log: list[Write]) -> list[int]:
    """Return the number of log entries before a cut at each flush; flushes without a write between count
    once.
    """
    return [n for n, entry in enumerate(log) if n and not entry.data and log[n - 1].data]


def replay(image: Path, log: list[Write]) -> None:
    """Apply entries to the image, in its state at the start of the log."""
    with image.open("r+b") as file:
        for entry in log:
            file.seek(entry.offset)
            file.write(entry.data)


def is_faithful(replayed: Path, image: Path) -> bool:
    """Return whether the whole log gives the same image, with a sound filesystem."""
    same = subprocess.run(["cmp", "--silent", replayed, image], check=False)
    sound = subprocess.run(["e2fsck", "-fn", image], capture_output=True, check=False)
    return same.returncode == sound.returncode == 0


@contextlib.contextmanager
def loop(file: Path, offset: int, size: int) -> Iterator[str]:
    """Attach a loop device to a part of the file."""
    part = ("--offset", str(offset), "--sizelimit", str(size))
    node = run(["losetup", "--find", "--show", *part, file]).strip()
    try:
        # Without direct I/O, so that FUSE gets one request at a time, and read once, so that it gets only
        # writes and flushes: QEMU up to 10.0 mixes up concurrent requests (``is_faithful`` would see it).
        # Writes still reach the file at once.
        Path(node).read_bytes()
        yield node
        _await_free(node)
    finally:
        run(["losetup", "--detach", node])


def _await_free(node: str) -> None:
    """Wait until it is mounted nowhere: a namespace that is ending has a copy of a mount, and a filesystem
    writes its last blocks only when the last copy is gone.
    """
    deadline = time.monotonic() + _WAIT
    while True:
        try:
            os.close(os.open(node, os.O_RDWR | os.O_EXCL))
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


@contextlib.contextmanager
def mounted(at: Path, *what: str) -> Iterator[Path]:
    """Mount it there; make the folder."""
    at.mkdir(exist_ok=True)
    run(["mount", *what, at])
    try:
        yield at
    finally:
        run(["umount", at])
