"""A disk of which every write and every flush is known, and what is on it after a power cut at each of them.

QEMU's driver blklogwrites notes what a file that it exports over FUSE is asked for; a loop device on that
file hands the kernel's flushes on to it. So no device mapper is needed, and the writes of several disks that
lie on one file are in one order.
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
#: Seconds for the export to appear, and to be gone.
_WAIT = 20.0


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes that were written at an offset, or, without any, a flush of all before it."""

    offset: int
    data: bytes


@contextlib.contextmanager
def recorded(image: Path, log: Path) -> Iterator[Path]:
    """A file that is the image, and of which each write and flush is in the log when the block is left."""
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
    """What the log holds, in the order in which it was asked for."""
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
    """How much of the log a cut at each flush leaves. Flushes between which nothing was written are one."""
    return [n for n, entry in enumerate(log) if n and not entry.data and log[n - 1].data]


def replay(image: Path, log: list[Write]) -> None:
    """Write it all to the image, as that was when the log began."""
    with image.open("r+b") as file:
        for entry in log:
            file.seek(entry.offset)
            file.write(entry.data)


def is_faithful(replayed: Path, image: Path) -> bool:
    """Whether all that the log holds makes the same image, of a sound filesystem."""
    same = subprocess.run(["cmp", "--silent", replayed, image], check=False)
    sound = subprocess.run(["e2fsck", "-fn", image], capture_output=True, check=False)
    return same.returncode == sound.returncode == 0


@contextlib.contextmanager
def loop(file: Path, offset: int, size: int) -> Iterator[str]:
    """A loop device on a part of the file."""
    part = ("--offset", str(offset), "--sizelimit", str(size))
    node = run(["losetup", "--find", "--show", *part, file]).strip()
    try:
        # Not by direct I/O, so that FUSE is asked for one thing at a time, and read once, so that it is
        # asked for writes and flushes alone: QEMU up to 10.0 mixes up requests that come together
        # (``is_faithful`` would see it). What is written reaches the file at once all the same.
        Path(node).read_bytes()
        yield node
        _await_free(node)
    finally:
        run(["losetup", "--detach", node])


def _await_free(node: str) -> None:
    """Wait until it is mounted nowhere: a namespace that is being left has a copy of a mount, and a
    filesystem writes its last words only when the last copy has gone.
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
    """It is mounted there; the folder is made."""
    at.mkdir(exist_ok=True)
    run(["mount", *what, at])
    try:
        yield at
    finally:
        run(["umount", at])
