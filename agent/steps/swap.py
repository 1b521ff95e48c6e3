"""The swap disk becomes swap: the archive's bytes are overwritten, then it is formatted, then it is
switched on.

A power cut leaves one of these states, and the next boot goes on from each: the whole archive; our mark in
place of its first header (the rest is being overwritten); a swap signature. The mark goes last, so a disk
is never found with neither. A device is formatted only when it has just delivered an archive that is
stored, or is blank and has the partition name gandiswap or is named in CONFIG_SWAP_DEVICE; and never when
anything else is on it.
"""

from __future__ import annotations

import contextlib
import os

from agent.block import blank, mounts, storage
from agent.host.sysfs import devnode
from agent.lib import timed_wait
from agent.lib.errors import HostError
from agent.lib.text import joined, lines
from agent.reader.formats import tar_archive
from agent.report import Item, changed, failed, guarded, skipped, unchanged
from agent.sources import swap_archive as source
from agent.state import settled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from agent.block.storage import Device, Disk
    from agent.context import Context, Medium
    from agent.host.host import Host

    Disks = Callable[[Host], Iterable[str]]

LABEL = "swap"
_SIGNATURE = b"SWAPSPACE2"
_CHUNK = 1 << 20
#: Seconds to wait for udev or another program to let go of the disk.
_LOCK_TIMEOUT = 10.0


def apply(ctx: Context, disks: Disks = source.platform_disks) -> Iterator[Item]:
    """Consume this boot's archive, and switch on every swap disk of the platform's that is there."""
    medium = ctx.medium
    used = None
    if medium is not None and medium.source == source.NAME:
        used = medium.disk
        yield from guarded("swap", _consume(ctx, medium))
    for name in _candidates(ctx, disks):
        if name != used:
            yield from guarded("swap", _existing(ctx, name))


def _consume(ctx: Context, medium: Medium) -> Iterator[Item]:
    node = devnode(medium.disk)
    if medium.left:
        what = f"{node}: left as it is, not made swap: {medium.left}"
        yield failed("swap", what, "it is made swap once the platform's archive is whole and stored")
        return
    disk = source.facts(ctx.host, medium.disk)
    why = "has gone" if disk is None else source.foreign(ctx.host, disk)
    if disk is None or why or disk.device.number != medium.number or disk.device.readonly:
        yield failed("swap", f"{node}: not touched: {why or 'is read-only, or another disk than before'}")
        return
    target = source.target(disk)
    with _locked(ctx.host, disk):
        if ctx.host.effect(f"overwrite {medium.length} bytes of {node} from {medium.offset}"):
            _overwrite(ctx, disk, medium)
        _format(ctx.host, target)
        if (medium.offset >= source.PAGE or target is not disk.device) and ctx.host.effect(
            f"clear the mark on {node}"
        ):
            _clear_mark(ctx.host, disk, medium)
        ctx.host.run(("swapon", target.node))
    yield changed("swap", target.node)


def _overwrite(ctx: Context, disk: Disk, medium: Medium) -> None:
    """Zero the archive but for one block, which says how many bytes are ours to zero. Synced in that
    order.
    """
    with _alone(ctx.host, disk) as descriptor:
        # Where a run that was cut has left the mark, it has kept the archive too.
        if not tar_archive.is_mark(os.pread(descriptor, tar_archive.BLOCK, medium.offset)):
            settled.keep_archive(ctx, medium, descriptor)
        os.pwrite(descriptor, tar_archive.mark(medium.length - tar_archive.BLOCK), medium.offset)
        os.fsync(descriptor)
        end = medium.offset + medium.length
        for place in range(medium.offset + tar_archive.BLOCK, end, _CHUNK):
            os.pwrite(descriptor, bytes(min(_CHUNK, end - place)), place)
        os.fsync(descriptor)


def _clear_mark(host: Host, disk: Disk, medium: Medium) -> None:
    with _alone(host, disk) as descriptor:
        os.pwrite(descriptor, bytes(tar_archive.BLOCK), medium.offset)
        os.fsync(descriptor)


def _format(host: Host, target: Device) -> None:
    """mkswap; the caller has the lock. Signature, label and UUID are in one page, which it writes at once:
    it needs no unit that outlives us. Judged by what is on the disk then, and by its exit status: a disk
    that refuses the page leaves it in the kernel's cache.
    """
    done = host.run(("mkswap", "-L", LABEL, target.node), check=False)
    if not host.dry_run and (done.returncode or not _signed(host, target.node)):
        said = joined(done.stderr)[-200:]
        raise HostError(f"{target.node}: mkswap failed: {said}")


def _candidates(ctx: Context, disks: Disks) -> list[str]:
    """Disks worth a closer look, by cheap signs and without a process: a signature, the partition's name,
    the administrator's setting.
    """
    host, wanted = ctx.host, _configured(ctx)
    mounted = {number for mount in mounts.mounts(host) for number in mount.numbers}
    found = []
    for name in disks(host):
        _, *parts = storage.with_parts(host, name)
        # A kernel that gives no names to partitions leaves it to libblkid; what is mounted is no swap.
        named = len(parts) == 1 and _partition_name(host, parts[0]) in (source.PARTITION, None)
        named = named and storage.number_of(host, parts[0]) not in mounted
        if named or wanted in (name, *parts) or (not parts and _signed(host, devnode(name))):
            found.append(name)
    return found


def _existing(ctx: Context, name: str) -> Iterator[Item]:
    """A swap disk without an archive: switched on; formatted only where its name says that it is one."""
    host, active = ctx.host, mounts.swaps(ctx.host)
    for device in storage.with_parts(host, name):
        if storage.number_of(host, device) in active:
            yield unchanged("swap", devnode(device))
            return
    disk = source.facts(host, name)
    if disk is None:
        return
    wanted = _configured(ctx)
    target, why = _target(disk, wanted, source.foreign(host, disk))
    if why and target.fstype != "swap" and target.part_name != source.PARTITION and target.name != wanted:
        return  # somebody's, and nothing says that it is to be swap: a root disk of one partition
    if claim := next((c for c in mounts.claims(host) if mounts.claimed(target, c.what)), None):
        yield skipped("swap", f"{target.node}: left to the administrator ({claim.by})")
    elif why:
        yield skipped("swap", f"{target.node}: left as it is: {why}")
    elif target.fstype == "" and (taken := _taken(host, target, wanted)):
        yield skipped("swap", f"{target.node}: not formatted: not blank, {taken}")
    else:
        bare = target.fstype == ""
        with _locked(host, disk) if bare else contextlib.nullcontext():
            if bare:
                _format(host, target)
            # Each boot switches it on; that is news only of a device that was made swap just now.
            host.run(("swapon", target.node))
        yield changed("swap", target.node) if bare else unchanged("swap", f"{target.node}, switched on")


def _target(disk: Disk, wanted: str, foreign: str) -> tuple[Device, str]:
    """The device of the disk that may be switched on, and why it must not be.

    The administrator may name one partition of a disk that is otherwise not ours (a root disk).
    """
    target = next((part for part in disk.partitions if part.name == wanted), None)
    if target is None or target.part_name == source.PARTITION:
        return source.target(disk), foreign
    other = target.fstype if target.fstype != "swap" else ""
    busy = "in use" if target.holders else ""
    return target, f"holds {other}" if other else busy


def _taken(host: Host, target: Device, wanted: str) -> str:
    """Return why a device without a signature must not be formatted, "" where it may: its name alone, as a
    partition or in the setting, does not say that nothing is on it.
    """
    if target.part_name != source.PARTITION and target.name != wanted:
        return "nothing names it"
    return blank.why_not(host, target)


def _configured(ctx: Context) -> str:
    """The kernel name behind CONFIG_SWAP_DEVICE, "" where it names nothing."""
    wanted = ctx.settings.swap_device
    return os.path.basename(os.path.realpath(ctx.host.path(wanted))) if wanted.startswith("/dev/") else ""


def _partition_name(host: Host, name: str) -> str | None:
    """The GPT's name for a partition as the kernel read it; None where the kernel tells none."""
    said = lines(host.read(f"{storage.BLOCK}/{name}/uevent") or "")
    return next((line.removeprefix("PARTNAME=") for line in said if line.startswith("PARTNAME=")), None)


def _signed(host: Host, node: str) -> bool:
    """Whether there is a swap signature; False for a device that cannot be read."""
    try:
        with host.opened(node, os.O_RDONLY) as descriptor:
            return os.pread(descriptor, len(_SIGNATURE), source.PAGE - len(_SIGNATURE)) == _SIGNATURE
    except (HostError, OSError):
        # A drive without a medium, or one that went away: no swap.
        return False


@contextlib.contextmanager
def _locked(host: Host, disk: Disk) -> Iterator[None]:
    """The whole disk kept from udev until it is in use: after each writing udev has the kernel read the
    partition table again, and for a moment there is no partition to switch on. Open for reading, so that
    the end of the lock is no reason to do that.

    Raises HostError when somebody holds it for too long.
    """
    node = disk.device.node
    with host.opened(node, os.O_RDONLY) as descriptor:
        if not timed_wait.lock(descriptor, _LOCK_TIMEOUT):
            raise HostError(f"{node}: locked by another program for {_LOCK_TIMEOUT:g} s")
        yield


@contextlib.contextmanager
def _alone(host: Host, disk: Disk) -> Iterator[int]:
    """The whole disk open for writing, by nobody else (O_EXCL: not mounted, not swap).

    Raises HostError when the device refuses what is done with it.
    """
    node = disk.device.node
    with host.opened(node, os.O_RDWR | os.O_EXCL) as descriptor:
        try:
            yield descriptor
        except OSError as error:
            raise HostError(f"{node}: cannot be written: {error.strerror}") from error
