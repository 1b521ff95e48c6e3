"""Attach a file or a disk, or a part of one, to a loop device that ends with this process.

The kernel detaches it at the last close (LO_FLAGS_AUTOCLEAR), so also a kill leaves nothing. While it is
attached, a lock keeps udev from it: udev would have this machine use what is on the image (LVM, RAID).
Structures and numbers: linux/loop.h, linux/fs.h.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import time

from agent.host import processes
from agent.host.sysfs import attribute
from agent.lib.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.host.host import Host

_CONTROL = "/dev/loop-control"
_GET_FREE, _CONFIGURE = 0x4C82, 0x4C0A
_READ_ONLY, _AUTOCLEAR, _PARTSCAN = 1, 4, 8
#: struct loop_config with its struct loop_info64.
_CONFIG = struct.Struct("=II5Q4I64s64s32s2Q8Q")
#: Attempts to take a free device: another process may be faster.
_TRIES = 20
#: Seconds to wait for udev's lock on a new device, and until a device is detached after its last close here:
#: the namespaces of an image's programs, which have copies of its mount, go a moment after the programs.
_LOCK_TIMEOUT, _DETACH_TIMEOUT = 10.0, 10.0
_POLL = 0.05


@contextlib.contextmanager
def attached(
    host: Host,
    backing: int,
    *,
    offset: int = 0,
    size: int = 0,
    sector: int = 0,
    partitions: bool = False,
    read_only: bool = False,
) -> Iterator[str]:
    """Attach ``size`` bytes (0: all) from ``offset`` of the open file or disk, with sectors of ``sector``
    bytes (0: 512); yield the kernel name of the loop device. With ``partitions`` the kernel has those, too.

    At the end wait until it is detached. Raise HostError if it cannot be attached, or is not detached.
    """
    flags = _AUTOCLEAR | (_PARTSCAN if partitions else 0) | (_READ_ONLY if read_only else 0)
    numbers = (backing, sector, 0, 0, 0, offset, size, 0, 0, 0, flags)
    config = _CONFIG.pack(*numbers, b"", b"", b"", *(0,) * 10)
    for _ in range(_TRIES):
        with contextlib.ExitStack() as stack:
            name, device = _free(host, stack)
            try:
                fcntl.ioctl(device, _CONFIGURE, config)
            except OSError as error:
                if error.errno == errno.EBUSY:
                    continue
                raise HostError(f"/dev/{name}: cannot be attached: {error.strerror}") from error
            if partitions:
                _add_partitions(host, name)
            file = attribute(host, f"/sys/block/{name}/loop/backing_file")
            yield name
            try:
                os.fsync(device)
            except OSError as error:
                raise HostError(f"/dev/{name}: not written whole: {error.strerror}") from error
        _wait(host, name, file)
        return
    raise HostError("no free loop device", hint="detach some: losetup --list")


def _free(host: Host, stack: contextlib.ExitStack) -> tuple[str, int]:
    """Return a free loop device and its descriptor, locked."""
    try:
        with host.opened(_CONTROL, os.O_RDWR) as control:
            name = f"loop{fcntl.ioctl(control, _GET_FREE)}"
    except OSError as error:
        raise HostError(f"{_CONTROL}: no loop device: {error.strerror}") from error
    except HostError as error:
        raise HostError(error.message, hint="load the kernel's module: modprobe loop") from error
    device = stack.enter_context(host.opened(f"/dev/{name}", os.O_RDWR))
    if not processes.lock(device, _LOCK_TIMEOUT):
        raise HostError(f"/dev/{name}: locked by another program for {_LOCK_TIMEOUT:g} s")
    return name, device


def _add_partitions(host: Host, name: str) -> None:
    """Have the partitions added by partx(8) where the kernel cannot read the table itself."""
    if not any(host.exists(f"/sys/block/{name}/{name}p{number}") for number in range(1, 129)):
        # It fails where there is no table.
        host.run(("partx", "--add", f"/dev/{name}"), check=False)


def _wait(host: Host, name: str, file: str) -> None:
    end = time.monotonic() + _DETACH_TIMEOUT
    while attribute(host, f"/sys/block/{name}/loop/backing_file") == file != "":
        if time.monotonic() > end:
            raise HostError(
                f"/dev/{name}: still attached, another program uses it", hint=f"run: fuser -v /dev/{name}"
            )
        time.sleep(_POLL)
