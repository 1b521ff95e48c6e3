"""Decide whether there is anything to do with disks: a machine without a data disk, as most at their first
boot, does not import the disk handler.
"""

from __future__ import annotations

from agent.block import mounts, storage
from agent.block.transport import attachment
from agent.context import record
from agent.disks.base.automounter import has_automounter
from agent.report import skipped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context
    from agent.host.host import Host
    from agent.report import Item

#: The folder of the records of this boot (record.py).
RECORDS = "/run/gandi/disks"


def mount(ctx: Context) -> Iterator[Item]:
    """Step: mount every data disk that is present."""
    if has_data_disk(ctx):
        from agent.disks import handler

        yield from handler.mount_all(ctx)
    else:
        from agent.disks.base import diskseq

        # If it cannot be stored (/run is full), no disk counts as new.
        record(ctx, lambda: diskseq.note_coldplug(ctx.host))
        yield skipped("disks", "no data disk")


def handle(ctx: Context, sysname: str, action: str) -> Iterator[Item]:
    """Handle an event of one disk. On a disk of the system itself, only the root filesystem may grow."""
    host, name = ctx.host, storage.whole_disk(ctx.host, sysname)
    may_be_ours = action == "remove" or host.exists(RECORDS) or has_automounter(ctx)
    if not may_be_ours and name in mounts.root_disks(host):
        if ctx.settings.grow_root:
            from agent.disks.base.locks import LOCKS
            from agent.disks.growth import root

            with LOCKS.disk(host, name):
                yield from root.grow_on(ctx, name)
    elif not may_be_ours and _is_swap(host, name, mounts.swaps(host)):
        yield skipped(name, "in use as swap")
    else:
        from agent.disks import handler

        yield from handler.handle(ctx, name, action)


def has_data_disk(ctx: Context) -> bool:
    """Return whether the machine has, or had, a disk that is neither swap nor used by the system's mounts.

    Only the kernel's data is used, no disk is read. In doubt, return True.
    """
    host = ctx.host
    if not ctx.settings.allow_mount or has_automounter(ctx) or ctx.state.disks() or host.exists(RECORDS):
        return True
    system, swaps = mounts.root_disks(host), mounts.swaps(host)
    others = [name for name in storage.names(host) if name not in system and not _is_swap(host, name, swaps)]
    return any(not attachment(host, storage.devpath(host, name))[1] for name in others)


def _is_swap(host: Host, disk: str, swaps: frozenset[str]) -> bool:
    """Return whether the whole disk, or each of its partitions, is in use as swap."""
    whole, *parts = (storage.devno_of(host, name) for name in storage.with_partitions(host, disk))
    return swaps.issuperset(parts or [whole])
