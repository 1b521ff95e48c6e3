"""Open the image that the operator names, a raw file or a block device, if nothing else uses it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct

from agent.host.sysfs import listed
from agent.lib.errors import ConfigError, HostError
from agent.lib.records import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.host.host import Host

#: BLKSSZGET (linux/fs.h): bytes of a logical sector.
_SECTOR = 0x1268
#: struct flock (fcntl(2)).
_LOCK = "hhqqi4x"
#: The beginnings of other formats: offset, bytes, name.
_FORMATS = (
    (0, b"QFI\xfb", "qcow2"),
    (0, b"QED\0", "qed"),
    (0, b"KDMV", "vmdk"),
    (0, b"COWD", "vmdk"),
    (0, b"# Disk DescriptorFile", "vmdk"),
    (0, b"vhdxfile", "vhdx"),
    (0, b"conectix", "vhd"),
    (64, b"\x7f\x10\xda\xbe", "vdi"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"\xfd7zXZ\0", "xz"),
    (0, b"\x28\xb5\x2f\xfd", "zstd"),
)
_BEGINNING = 4096
_PACKED = ("gzip", "xz", "zstd")


@dataclass(frozen=True, slots=True)
class Image:
    """An open image: its path as named, its descriptor, and bytes of a sector (0: that of a file, 512)."""

    path: str
    descriptor: int
    sector: int = 0


@contextlib.contextmanager
def opened(host: Host, path: str, *, read_only: bool = False) -> Iterator[Image]:
    """Open the image for writing, alone; no other program that locks its images (QEMU) can open it then.
    With ``read_only`` others can read it.

    Raise ConfigError if it is no raw image, HostError if it is in use.
    """
    try:
        info = os.stat(path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", hint="name a raw image or a block device") from error
    is_disk = stat.S_ISBLK(info.st_mode)
    if not is_disk and not stat.S_ISREG(info.st_mode):
        raise ConfigError(f"{path}: neither a file nor a block device", hint="name a raw image")
    _check_loops(host, path, info)
    with _opened(host, path, is_disk=is_disk, read_only=read_only) as descriptor:
        if not is_disk:
            _lock(path, descriptor, read_only=read_only)
        _check_format(path, os.pread(descriptor, _BEGINNING, 0))
        yield Image(path, descriptor, _sector(descriptor) if is_disk else 0)
        try:
            os.fsync(descriptor)
        except OSError as error:
            raise HostError(f"{path}: not written whole: {error.strerror}") from error


@contextlib.contextmanager
def _opened(host: Host, path: str, *, is_disk: bool, read_only: bool) -> Iterator[int]:
    """Open it; a disk exclusively, which fails if it or a partition of it is mounted or held."""
    flags = (os.O_RDONLY if read_only else os.O_RDWR) | (os.O_EXCL if is_disk else 0)
    with contextlib.ExitStack() as stack:
        try:
            descriptor = stack.enter_context(host.opened(os.path.abspath(path), flags))
        except HostError as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and cause.errno in (errno.EBUSY, errno.ETXTBSY):
                raise _in_use(path) from error
            raise
        yield descriptor


def _in_use(path: str, why: str = "") -> HostError:
    what = f"{path}: in use{f': {why}' if why else ''}: nothing was changed"
    return HostError(what, hint="stop the machine that runs from it, unmount it, detach its devices")


def _check_loops(host: Host, path: str, info: os.stat_result) -> None:
    """Raise HostError if a loop device has it: the kernel lets several have the same file."""
    for name in listed(host, "/sys/block"):
        try:
            file = (host.read(f"/sys/block/{name}/loop/backing_file") or "").removesuffix("\n")
            other = os.stat(file) if file.startswith("/") else None
        except (HostError, OSError):  # detached since then, deleted, or in another namespace
            continue
        if other and (os.path.samestat(other, info) or (other.st_rdev and other.st_rdev == info.st_rdev)):
            raise _in_use(path, f"attached to /dev/{name}")


def _lock(path: str, descriptor: int, *, read_only: bool) -> None:
    """Lock the file in both ways that programs use: flock(2), and locks of an open file (QEMU). With
    ``read_only`` no lock of the second kind is taken: it would keep others from reading.
    """
    everything = struct.pack(_LOCK, fcntl.F_WRLCK, 0, 0, 0, 0)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if read_only else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        if read_only:
            found = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, everything)
            if struct.unpack_from("h", found)[0] != fcntl.F_UNLCK:
                raise _in_use(path, "locked by another program")
        else:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, everything)
    except BlockingIOError as error:
        raise _in_use(path, "locked by another program") from error
    except OSError as error:
        # A file system without locks: then no other program can have one.
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
            raise HostError(f"{path}: cannot be locked: {error.strerror}") from error


def _check_format(path: str, beginning: bytes) -> None:
    for offset, magic, name in _FORMATS:
        if beginning[offset:].startswith(magic):
            convert = (
                f"qemu-img convert -O raw {path} disk.raw, or qemu-nbd -c /dev/nbd0 {path} and its device"
            )
            hint = "unpack it" if name in _PACKED else convert
            raise ConfigError(f"{path}: in the format {name}: only a raw image can be configured", hint=hint)


def _sector(descriptor: int) -> int:
    return int(struct.unpack("i", fcntl.ioctl(descriptor, _SECTOR, bytes(4)))[0])
