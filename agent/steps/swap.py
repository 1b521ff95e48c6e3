"""Step: turn the swap disk into swap space: overwrite the archive on it, format it, switch it on.

A power cut leaves one of three states, and the next boot continues from it: the whole archive; the agent's
mark in place of its first header (the rest is being overwritten); a swap signature. The mark is cleared
last, so there is always one of them. A device is formatted only when it has just delivered an archive that
is stored, or when it is blank and either its partition is named gandiswap or CONFIG_SWAP_DEVICE names it;
never when anything else is on it.
"""

from __future__ import annotations

import contextlib
import os

from agent.block import blank, mounts, storage
from agent.host import processes
from agent.host.sysfs import devnode
from agent.lib.errors import HostError
from agent.lib.text import joined, lines
from agent.reader.common.archive_layout import BLOCK, mark
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
#: Seconds to wait until udev or another program has released its lock on the disk.
_LOCK_TIMEOUT = 10.0


def apply(ctx: Context, disks: Disks = source.platform_disks) -> Iterator[Item]:
    """Turn this boot's medium into swap, and switch on every other swap disk of the platform."""
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
    if medium.not_swap_reason:
        what = f"{node}: left as it is, not used as swap: {medium.not_swap_reason}"
        yield failed("swap", what, "it becomes swap once the platform's archive is whole and stored")
        return
    disk = source.probe_disk(ctx.host, medium.disk, medium.probed)
    why = "has gone" if disk is None else source.why_foreign(ctx.host, disk)
    is_other = disk is not None and (
        disk.device.devno != medium.devno or (medium.probed and disk.diskseq != medium.probed.diskseq)
    )
    if disk is None or why or is_other or disk.device.readonly:
        yield failed("swap", f"{node}: not touched: {why or 'is read-only, or another disk than before'}")
        return
    target = source.target(disk)
    with _locked(ctx.host, disk):
        if ctx.host.allows(f"overwrite {medium.length} bytes of {node} from {medium.offset}"):
            _overwrite(ctx, disk, medium)
        _format(ctx.host, target)
        if (medium.offset >= source.PAGE or target is not disk.device) and ctx.host.allows(
            f"clear the mark on {node}"
        ):
            _clear_mark(ctx.host, disk, medium)
        ctx.host.run(("swapon", target.node))
    yield changed("swap", target.node)


def _overwrite(ctx: Context, disk: Disk, medium: Medium) -> None:
    """Zero the archive, after a synced mark in its first block that says how many bytes may be zeroed."""
    own = mark(medium.length - BLOCK)
    with _exclusive(ctx.host, disk) as descriptor:
        # Where the mark is there already, the run that wrote it has kept a copy of the archive.
        if os.pread(descriptor, BLOCK, medium.offset) != own:
            settled.keep_archive(ctx, medium, descriptor)
        os.pwrite(descriptor, own, medium.offset)
        os.fsync(descriptor)
        end = medium.offset + medium.length
        for place in range(medium.offset + BLOCK, end, _CHUNK):
            os.pwrite(descriptor, bytes(min(_CHUNK, end - place)), place)
        os.fsync(descriptor)


def _clear_mark(host: Host, disk: Disk, medium: Medium) -> None:
    with _exclusive(host, disk) as descriptor:
        os.pwrite(descriptor, bytes(BLOCK), medium.offset)
        os.fsync(descriptor)


def _format(host: Host, target: Device) -> None:
    """Run mkswap(8); the caller holds the disk's lock. Raise HostError if there is no swap afterwards.

    mkswap writes signature, label and UUID as one page, so it needs no unit that outlives the agent. Both
    the signature and the exit status must be right: a page that the disk refused is still in the kernel's
    cache.
    """
    done = host.run(("mkswap", "-L", LABEL, target.node), check=False)
    if not host.dry_run and (done.returncode or not _signed(host, target.node)):
        said = joined(done.stderr)[-200:]
        raise HostError(f"{target.node}: mkswap failed: {said}")


def _candidates(ctx: Context, disks: Disks) -> list[str]:
    """Return the names of disks that may be swap: by signature, partition name or CONFIG_SWAP_DEVICE.

    Cheap signs, read without a process; the caller looks closer.
    """
    host, wanted = ctx.host, _configured(ctx)
    mounted = {number for mount in mounts.mounts(host) for number in mount.devnos}
    found = []
    for name in disks(host):
        _, *parts = storage.with_partitions(host, name)
        # Without a partition name from the kernel (None), libblkid decides later. Mounted ones are not swap.
        named = len(parts) == 1 and _partition_name(host, parts[0]) in (source.PARTITION, None)
        named = named and storage.devno_of(host, parts[0]) not in mounted
        if named or wanted in (name, *parts) or (not parts and _signed(host, devnode(name))):
            found.append(name)
    return found


def _existing(ctx: Context, name: str) -> Iterator[Item]:
    """Switch on a swap disk without an archive; format it first if it is blank and named as swap."""
    host, active = ctx.host, mounts.swaps(ctx.host)
    for device in storage.with_partitions(host, name):
        if storage.devno_of(host, device) in active:
            yield unchanged("swap", devnode(device))
            return
    disk = source.probe_disk(host, name)
    if disk is None:
        return
    wanted = _configured(ctx)
    target, why = _target(disk, wanted, source.why_foreign(host, disk))
    if why and target.fstype != "swap" and target.part_name != source.PARTITION and target.name != wanted:
        return  # used otherwise, and nothing names it as swap: a root disk with one partition
    if claim := next((c for c in mounts.claims(host) if mounts.is_claimed_as(target, c.what)), None):
        yield skipped("swap", f"{target.node}: left to the administrator ({claim.origin})")
    elif why:
        yield skipped("swap", f"{target.node}: left as it is: {why}")
    elif target.fstype == "" and (taken := _why_in_use(host, target, wanted)):
        yield skipped("swap", f"{target.node}: not formatted: not blank, {taken}")
    else:
        bare = target.fstype == ""
        with _locked(host, disk) if bare else contextlib.nullcontext():
            if bare:
                _format(host, target)
            # Each boot switches it on, so only a device that was formatted now counts as changed.
            host.run(("swapon", target.node))
        yield changed("swap", target.node) if bare else unchanged("swap", f"{target.node}, switched on")


def _target(disk: Disk, wanted: str, foreign: str) -> tuple[Device, str]:
    """Return the disk's device for swap, and why it must not be used ("" if it may).

    ``wanted`` may be a partition of a disk that is not a swap disk otherwise (a root disk).
    """
    target = next((part for part in disk.partitions if part.name == wanted), None)
    if target is None or target.part_name == source.PARTITION:
        return source.target(disk), foreign
    other = target.fstype if target.fstype != "swap" else ""
    busy = "in use" if target.holders else ""
    return target, f"holds {other}" if other else busy


def _why_in_use(host: Host, target: Device, wanted: str) -> str:
    """Return why a device without a signature must not be formatted, "" if it may.

    A partition's name, or the setting, is required but does not prove that the device is blank.
    """
    if target.part_name != source.PARTITION and target.name != wanted:
        return "nothing names it"
    return blank.why_not_blank(host, target)


def _configured(ctx: Context) -> str:
    """Return the kernel name of CONFIG_SWAP_DEVICE, "" if that is no path below /dev."""
    wanted = ctx.settings.swap_device
    return os.path.basename(os.path.realpath(ctx.host.path(wanted))) if wanted.startswith("/dev/") else ""


def _partition_name(host: Host, name: str) -> str | None:
    """Return a partition's name in the GPT as the kernel reports it (PARTNAME), None if it does not."""
    said = lines(host.read(f"{storage.BLOCK}/{name}/uevent") or "")
    return next((line.removeprefix("PARTNAME=") for line in said if line.startswith("PARTNAME=")), None)


def _signed(host: Host, node: str) -> bool:
    """Return whether a device has a swap signature; False also if it cannot be read."""
    try:
        with host.opened(node, os.O_RDONLY) as descriptor:
            return os.pread(descriptor, len(_SIGNATURE), source.PAGE - len(_SIGNATURE)) == _SIGNATURE
    except (HostError, OSError):
        # A drive without a medium, or one that went away: no swap.
        return False


@contextlib.contextmanager
def _locked(host: Host, disk: Disk) -> Iterator[None]:
    """Hold the lock of the whole disk that keeps udev from it (BLOCK_DEVICE_LOCKING of systemd).

    Otherwise udev has the kernel read the partition table again after each write, and for a moment there is
    no partition to switch on. The disk is open for reading only: closing a descriptor for writing would
    trigger the same. Raise HostError if the lock is not free within _LOCK_TIMEOUT seconds.
    """
    node = disk.device.node
    with host.opened(node, os.O_RDONLY) as descriptor:
        if not processes.lock(descriptor, _LOCK_TIMEOUT):
            raise HostError(f"{node}: locked by another program for {_LOCK_TIMEOUT:g} s")
        yield


@contextlib.contextmanager
def _exclusive(host: Host, disk: Disk) -> Iterator[int]:
    """Open the whole disk for writing, exclusively (O_EXCL fails if it is mounted or swap).

    Raise HostError if it cannot be opened, or a read or write on it fails.
    """
    node = disk.device.node
    with host.opened(node, os.O_RDWR | os.O_EXCL) as descriptor:
        try:
            yield descriptor
        except OSError as error:
            raise HostError(f"{node}: cannot be written: {error.strerror}") from error
