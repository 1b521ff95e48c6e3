"""Read a filesystem through a detached mount, which only this process's descriptor refers to.

The mount is in no mount namespace (fsopen(2), fsmount(2)): no path leads to it, and it ends with the
process. Names are opened with openat2(2), which refuses links and mountpoints, so nothing leads out of it.
The C library has no functions for these calls; their numbers are the same on every architecture (Linux 5.6,
include/uapi/asm-generic/unistd.h).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os

from agent.lib.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_FSOPEN, _FSCONFIG, _FSMOUNT, _OPENAT2 = 430, 431, 432, 437
#: linux/mount.h
_CLOEXEC, _SET_FLAG, _SET_STRING, _CREATE = 1, 0, 1, 6
_READ_ONLY, _NO_SUID, _NO_DEVICES, _NO_EXEC, _NO_LINKS = 1, 2, 4, 8, 0x200000
#: linux/openat2.h: RESOLVE_NO_XDEV, _NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH
_RESOLVE = 0x01 | 0x02 | 0x04 | 0x08


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


@contextlib.contextmanager
def mounted(node: str, fstype: str, devno: str) -> Iterator[int]:
    """Mount the filesystem of a block device read-only, with nosuid, nodev, noexec and nosymfollow; yield a
    descriptor of its root folder.

    Raise HostError if it cannot be mounted, or if the device is not ``devno`` (``major:minor``).
    """
    try:
        setting = _call(_FSOPEN, fstype.encode(), _CLOEXEC)
        try:
            _call(_FSCONFIG, setting, _SET_STRING, b"source", node.encode(), 0)
            _call(_FSCONFIG, setting, _SET_FLAG, b"ro", None, 0)
            _call(_FSCONFIG, setting, _CREATE, None, None, 0)
            attributes = _READ_ONLY | _NO_SUID | _NO_DEVICES | _NO_EXEC | _NO_LINKS
            root = _call(_FSMOUNT, setting, _CLOEXEC, attributes)
        finally:
            os.close(setting)
    except OSError as error:
        hint = f"the kernel needs its module for {fstype}" if error.errno == errno.ENODEV else ""
        raise HostError(f"{node}: cannot be mounted as {fstype}: {error.strerror}", hint=hint) from error
    try:
        device = os.fstat(root).st_dev
        if f"{os.major(device)}:{os.minor(device)}" != devno:
            raise HostError(f"{node}: no longer device {devno}: replaced by another disk")
        yield root
    finally:
        os.close(root)


def opened(root: int, name: str, flags: int = 0) -> int:
    """Open a name below ``root`` for reading; return its descriptor. Raise OSError, also for any link."""
    flags |= os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    how = _How(flags, 0, _RESOLVE)
    return _call(_OPENAT2, root, os.fsencode(name), ctypes.addressof(how), ctypes.sizeof(how))


def _call(number: int, *arguments: int | bytes | None) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    converted = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    result = int(library.syscall(ctypes.c_long(number), *converted))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
