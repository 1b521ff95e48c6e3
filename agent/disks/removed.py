"""Clean up after removed disks; processes still using one are reported until they exit.

A process that uses a disk that has gone keeps a dead filesystem alive, mounted nowhere. It is not a process
of the agent, and it may have unsaved work: it is named, never ended.
"""

from __future__ import annotations

import re

from agent.block import mounts
from agent.config.settings import MountMode
from agent.disks import mounting
from agent.disks.base.record import DiskState, Record, Records, key_removed
from agent.lib.records import replace
from agent.report import changed, failed, guarded
from agent.systemd.journal import Journal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.block.mounts import Mount
    from agent.block.storage import Disk
    from agent.context import Context
    from agent.disks.base.system import System
    from agent.disks.usage.holders import Holder, Search
    from agent.report import Item

#: Seconds to search for users when no caller waits: it takes long while many disks are removed at once.
_PATIENCE = 60.0
_DELETED = " (deleted)"
#: States of a device that the agent mounts, has mounted or has unmounted.
_OURS = (DiskState.MOUNTING, DiskState.MOUNTED, DiskState.OFFERED, DiskState.RELEASED)


def clean_up(ctx: Context, system: System, name: str, disk: Disk | None) -> Iterator[Item]:
    """Clean up after devices of this disk that have gone or were replaced; if the agent has mounted one of
    them in this boot, also after mounts of the disk that it did not make. ``disk`` is None if the disk has
    gone; do not call this for one that could not be read.
    """
    present = {device.name for device in disk.devices} if disk else set[str]()
    records = Records(ctx.host)
    left = records.of(name)
    is_ours = _is_ours(ctx, left)
    if is_ours and not disk:
        left |= _mounted_besides(ctx, name, left)
    for device, known in left.items():
        if disk is None or known.diskseq != disk.diskseq:
            yield from guarded(device, _clean_up(ctx, system, device, known, is_ours=is_ours))
        elif device not in present and known.state not in (DiskState.NEW, DiskState.RELEASED):
            # The disk is the same: an administrator is changing its partition table.
            if known.made:
                ctx.host.remove(known.mountpoint)
            records.put(device, replace(known, state=DiskState.RELEASED, made=False))
            yield changed(device, "its partition has gone: released to the administrator")


def report_users(ctx: Context, name: str) -> Iterator[Item]:
    """Yield a failure for each device of a removed disk of this name that is still in use, also as swap."""
    for key, known in Records(ctx.host).removed().items():
        if known.disk == name:
            yield from _report_user(ctx, key, known)
    for swap in lost_swap(ctx, name):
        item = failed(
            swap,
            "CRITICAL: removed while it was in use as swap: what was on it is lost, and the processes "
            "that need it will be ended by the kernel",
            "restart the machine; to detach a swap disk: gandi-agent detach",
        )
        Journal(ctx.host).swap_lost(item)
        yield item


def lost_swap(ctx: Context, name: str) -> list[str]:
    """Return the swap devices of a disk that are still in use and have gone."""
    own, found = rf"/dev/({_own(name)})", []
    for swap in mounts.swap_names(ctx.host):
        node = swap.removesuffix(_DELETED)
        if (of := re.fullmatch(own, node)) and (swap != node or not ctx.host.exists(node)):
            found.append(of[1])
    return found


def in_use(ctx: Context) -> dict[str, tuple[Record, tuple[Holder, ...]]]:
    """Return the removed devices that are still in use, by key, with their users. Changes nothing."""
    left = Records(ctx.host).removed()
    found = {key: (known, _holders(ctx, key, known).found) for key, known in left.items()}
    return {key: value for key, value in found.items() if value[1]}


def _clean_up(ctx: Context, system: System, device: str, known: Record, *, is_ours: bool) -> Iterator[Item]:
    """Clean up after one device; if it is not ours, after the agent's own mount only."""
    from agent.disks.usage import dead_mounts, holders

    host, records = ctx.host, Records(ctx.host)
    if at := dead_mounts.surviving(host, system, device):
        records.put(device, None)
        yield changed(device, f"gone; the btrfs at {at} goes on with its other devices")
        return
    dead = dead_mounts.find(host, system, device, known.devno)
    if not is_ours:
        dead = [mount for mount in dead if mount.mountpoint == known.mountpoint]
    if not dead and known.state not in (DiskState.MOUNTING, DiskState.MOUNTED, DiskState.OFFERED):
        records.put(device, None)
        return
    key = key_removed(device, known)
    left = records.get(key) or replace(known, state=DiskState.REMOVED)
    left = _as_mounted(ctx, left, device, dead[0]) if dead else left
    # Stored first: if this process is killed before the end, the next one can still report the users.
    records.put(key, left)
    places = tuple(dict.fromkeys(mount.mountpoint for mount in dead))
    yield from mounting.clean_up(ctx, system, device, known, places)
    if not holders.may_be_in_use(host, device, left.fstype, left.uuid):
        records.put(key, None)


def _is_ours(ctx: Context, known: dict[str, Record]) -> bool:
    """Return whether the agent has mounted a device of the disk. What is mounted of any other disk (not the
    platform's, excluded by a setting, announced only) is its users'.
    """
    if not ctx.settings.allow_mount or ctx.settings.mount_mode is MountMode.OFF:
        return False
    return any(record.state in _OURS for record in known.values())


def _mounted_besides(ctx: Context, disk: str, known: dict[str, Record]) -> dict[str, Record]:
    """Return a fresh record for each other device of a disk that has gone that is the source of a mount."""
    diskseq = next((record.diskseq for record in known.values()), "")
    sources = (m.source.removeprefix("/dev/").replace("/", "!") for m in mounts.mounts(ctx.host))
    others = {name for name in sources if re.fullmatch(_own(disk), name)} - set(known)
    return dict.fromkeys(sorted(others), Record(disk, diskseq, "", "", "", state=DiskState.NEW))


def _as_mounted(ctx: Context, left: Record, device: str, mount: Mount) -> Record:
    """Return the record of a removed device with what its dead mount shows: the administrator may have made
    another filesystem on it, and mounted it elsewhere.
    """
    from agent.disks.usage import holders

    is_btrfs = mount.fstype == "btrfs"
    return replace(
        left,
        mountpoint=mount.mountpoint,
        fstype=mount.fstype,
        devno=mount.devno,
        uuid=(is_btrfs and mounts.btrfs_uuid(ctx.host, device)) or left.uuid,
        alias=holders.alias(ctx.host, mount.mountpoint, mount.fstype) or left.alias,
    )


def _own(disk: str) -> str:
    """Return a pattern for the kernel names of a disk and its partitions."""
    return rf"{re.escape(disk)}(?:p?[0-9]+)?"


def _report_user(ctx: Context, key: str, known: Record) -> Iterator[Item]:
    from agent.disks.usage import holders

    found, device = _holders(ctx, key, known, _PATIENCE).found, key.partition("@")[0]
    alive = holders.is_in_sysfs(ctx.host, device, known.fstype, known.uuid)
    if not found and alive and not _reused(ctx, known):
        # The kernel's answer is certain; the search may have run out of time.
        yield failed(device, f"removed while in use at {known.mountpoint}", "see: gandi-agent disks")
        return
    if not found:
        Records(ctx.host).put(key, None)
        return
    why = f"removed while in use at {known.mountpoint}: held by {holders.summary(found)}"
    yield failed(device, why, _hint(found))


def _hint(found: tuple[Holder, ...]) -> str:
    pids = " ".join(str(holder.pid) for holder in found if holder.pid)
    return f"what they write is lost; end them: kill {pids}"


def _holders(ctx: Context, key: str, known: Record, *seconds: float) -> Search:
    """Return the users. Where /sys/fs shows that there are none any more, nothing is searched: another
    filesystem, in any namespace, may have got the number by then.
    """
    from agent.disks.usage import holders

    device = key.partition("@")[0]
    if _reused(ctx, known) or not holders.may_be_in_use(ctx.host, device, known.fstype, known.uuid):
        return holders.Search()
    return holders.find_by_devno(ctx.host, known.devnos, *seconds)


def _reused(ctx: Context, known: Record) -> bool:
    """Return whether another disk has got the device number, as it can once the removed one is unused."""
    return any(known.devnos & (mount.devnos | {mount.devno}) for mount in mounts.mounts(ctx.host))
