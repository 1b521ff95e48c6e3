"""Step: make a file to swap to, and its entry in /etc/fstab (cloud-config's ``swap``).

The file is made once; one that the administrator has removed is not made again. It is never replaced.
"""

from __future__ import annotations

import os
import re

from agent.block import fstab, mounts
from agent.lib.errors import ConfigError, HostError
from agent.lib.text import gib
from agent.report import skipped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config.system import SwapFile
    from agent.context import Context
    from agent.host.host import Host
    from agent.report import Item

#: Filesystems on which the kernel swaps to a file that is only allocated.
_FILESYSTEMS = ("ext4", "xfs")
_ITEM = "swap file"
_GIB = 1 << 30
#: Size by the memory, as cloud-init's ``auto``: up to this memory, this multiple or this size.
_BY_MEMORY = ((1 * _GIB, 2, 0), (2 * _GIB, 0, 2 * _GIB), (4 * _GIB, 1, 0), (16 * _GIB, 0, 4 * _GIB))
#: Largest part of the free space that ``auto`` takes.
_SHARE = 4
#: Bytes that stay free beside a file of a given size.
_RESERVE = 64 << 20
_MKSWAP_TIMEOUT = 120.0


def apply(ctx: Context) -> Iterator[Item]:
    """Reconcile file and entry as one item. Raise ConfigError if the file cannot be made there."""
    swap = ctx.config.system.swap if ctx.config and ctx.config.system else None
    if swap is None:
        return
    if not ctx.host.live:
        yield skipped(_ITEM, "it is made when this machine boots")
        return
    entry = fstab.line(swap.path, "none", "swap", "sw")
    is_begun = ctx.state.begun_parts(_ITEM) == swap.path
    is_there = ctx.host.exists(swap.path) and fstab.find(ctx.host.read(fstab.FSTAB) or "", entry) == entry
    yield ctx.state.reconcile(
        _ITEM,
        delivered=f"{swap.path} {swap.size} {swap.maxsize}",
        wanted=swap.path,
        live=swap.path if is_there else None,
        apply=lambda: _make(ctx, swap, entry, is_begun=is_begun),
        # A cut leaves a file that is not complete.
        parts=swap.path,
        detail=swap.path,
    )


def _make(ctx: Context, swap: SwapFile, entry: str, *, is_begun: bool) -> None:
    try:
        make(ctx.host, swap, entry, is_begun=is_begun)
    except ConfigError:
        # Nothing of it was made: a file at that path is another one, also the next time.
        ctx.state.clear_begun(_ITEM)
        raise


def make(host: Host, swap: SwapFile, entry: str, *, is_begun: bool, fstype: str = "") -> None:
    """Make the file and its entry, and on the running system swap to it; with ``is_begun``, replace what a
    cut has left. ``fstype``: the type of an image's filesystem, which has no mountinfo.

    Raise ConfigError for a filesystem without swap files, a size of nothing, and a file that is there.
    """
    if is_begun:
        host.remove(swap.path)
    mounted, free = _filesystem(host, os.path.dirname(swap.path))
    fstype = fstype or mounted
    if fstype not in _FILESYSTEMS:
        what = f"{swap.path}: on {fstype}, which has no simple swap files"
        raise ConfigError(what, hint=f"deliver a path on {' or '.join(_FILESYSTEMS)}")
    if host.exists(swap.path):
        raise ConfigError(f"{swap.path}: exists already", hint="deliver another path, or remove the file")
    _allocate(host, swap.path, size(swap, memory(host), free))
    host.run(("mkswap", swap.path), timeout=_MKSWAP_TIMEOUT)
    fstab.put(host, entry)
    if host.live:
        host.run(("swapon", swap.path))


def size(swap: SwapFile, memory: int, free: int) -> int:
    """Return the size of the file in bytes, whole MiB. Raise ConfigError if there is no space for it."""
    if swap.size is not None:
        wanted = min(swap.size, swap.maxsize or swap.size)
        if wanted + _RESERVE > free:
            what = f"{swap.path}: {gib(wanted)} do not fit into the {gib(free)} that are free"
            raise ConfigError(what, hint="deliver a smaller size, or auto")
    else:
        chosen = ((times * memory or most) for limit, times, most in _BY_MEMORY if memory <= limit)
        wanted = min(next(chosen, memory // 2), swap.maxsize or 8 * _GIB, free // _SHARE)
    if wanted < 1 << 20:
        raise ConfigError(f"{swap.path}: no space for a swap file", hint="deliver a larger disk")
    return wanted >> 20 << 20


def memory(host: Host) -> int:
    """Return the machine's memory in bytes."""
    found = re.search(r"(?m)^MemTotal:[ ]+([0-9]+) kB", host.read("/proc/meminfo") or "")
    return int(found[1]) << 10 if found else 0


def _filesystem(host: Host, folder: str) -> tuple[str, int]:
    """Return the type of the filesystem that a folder is on, and its free bytes."""
    real = os.path.realpath(host.path(folder))
    within = [m for m in mounts.mounts(host) if f"{real}/".startswith(f"{m.mountpoint.rstrip('/')}/")]
    try:
        free = os.statvfs(real)
    except OSError as error:
        raise HostError(f"{folder}: cannot be used: {error.strerror}", hint="make the folder") from error
    nearest = max(within, key=lambda mount: len(mount.mountpoint), default=None)
    return nearest.fstype if nearest else "an unknown filesystem", free.f_bavail * free.f_frsize


def _allocate(host: Host, path: str, count: int) -> None:
    try:
        with host.opened(path, os.O_RDWR | os.O_CREAT | os.O_EXCL) as descriptor:
            os.posix_fallocate(descriptor, 0, count)
            os.fsync(descriptor)
    except OSError as error:
        host.remove(path)
        raise HostError(f"{path}: {gib(count)} cannot be allocated: {error.strerror}") from error
