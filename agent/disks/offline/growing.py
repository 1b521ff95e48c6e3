"""Grow the root filesystem of an image that no machine runs, and the layers below it, to its disk's size.

The decisions and the work on the table and on LVM are those of a running machine. The former size of the
disk is not known, as for a root disk at its first boot. ext2-4 is checked and grown before it is mounted,
XFS and btrfs can only grow while they are.
"""

from __future__ import annotations

from functools import partial

from agent.block import storage
from agent.disks.base import filesystem, partition_table
from agent.disks.base.facts import Leave
from agent.disks.base.system import WRITER_TIMEOUT, System
from agent.disks.growth import lvm, sizing
from agent.disks.offline import roots
from agent.disks.offline.mounting import PLACE
from agent.lib.errors import HostError
from agent.lib.records import replace
from agent.lib.text import gib
from agent.report import changed, failed, skipped, unchanged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.block.storage import Disk
    from agent.disks.offline.roots import Root
    from agent.host.host import Host
    from agent.report import Item

#: e2fsck(8): no errors, or corrected.
_CORRECTED = (0, 1)


def write(host: Host, _unit: str, _disk: str, argv: Sequence[str], stdin: str = "") -> None:
    """Run a command that writes to the image: as a child, since no daemon may end before it."""
    host.run(argv, stdin=stdin.encode(), timeout=WRITER_TIMEOUT)


#: The functions of disks/growth that write, for an image.
IMAGE = System(write=write)


def below(host: Host, disk: Disk, root: Root, reserve: int = 0) -> Iterator[Item]:
    """Grow partition, physical and logical volume; leave ``reserve`` bytes at the end of the disk free.
    Raise HostError if that fails.
    """
    case = _case(host, disk, root, reserve)
    decision = (sizing.decide_stacked if root.piece else sizing.decide)(case)
    if isinstance(decision, Leave) and decision not in (sizing.FULL, sizing.NOT_GROWN):
        yield skipped(str(root), f"not grown: {decision.reason}")
        return
    if isinstance(decision, sizing.Grow):
        if decision.partition and case.table:
            partition_table.extend(host, IMAGE, case.table, disk, root.device, reserve=reserve)
            size = storage.current_size(host, root.device.name)
            yield changed(
                f"partition {root.device.partition}", f"grown from {gib(root.device.size)} to {gib(size)}"
            )
        if decision.warning and not reserve:
            yield failed(str(root), decision.warning)
    if root.piece:
        yield from _volume(host, root)


def again(host: Host, disk: Disk, root: Root) -> Root:
    """Return the same filesystem as it lies on the disk now, after the layers below it have grown."""
    device = next(one for one in roots.read(host, disk.name).devices if one.name == root.device.name)
    if root.piece is None:
        return replace(root, device=device)
    now = lvm.pieces(host, device.node, lvm.isolated(device.node))
    key = (root.piece.group, root.piece.volume)
    piece = next((one for one in now if (one.group, one.volume) == key), None)
    if piece is None or not piece.size:
        raise HostError(f"{root}: no longer in one piece", hint="start the machine: it grows its volumes")
    return replace(root, device=device, piece=piece)


def content(host: Host, node: str, root: Root, *, is_mounted: bool) -> Iterator[Item]:
    """Grow the filesystem on ``node``: ext2-4 before it is mounted, others at PLACE. Raise HostError if it
    is no larger afterwards.
    """
    if (root.fstype in filesystem.EXT) is is_mounted:
        return
    before = filesystem.size(host, root.fstype, node, PLACE)
    if storage.current_size(host, node.removeprefix("/dev/")) - before < filesystem.SLACK:
        yield unchanged(str(root), f"fills its place: {gib(before)}")
        return
    if root.fstype in filesystem.EXT:
        _check(host, node, root)
    argv = filesystem.grower(root.fstype, node, PLACE)
    write(host, "", "", argv)
    spans = filesystem.size(host, root.fstype, node, PLACE)
    if spans <= before:
        raise HostError(f"{root}: still {gib(spans)} after {argv[0]}")
    yield changed(str(root), f"{root.fstype} grown from {gib(before)} to {gib(spans)}")


def _check(host: Host, node: str, root: Root) -> None:
    """Check an ext filesystem that is not mounted, and correct what needs no decision. Raise HostError for
    errors that do.
    """
    done = host.run(("e2fsck", "-f", "-p", node), check=False, timeout=WRITER_TIMEOUT)
    if done.returncode not in _CORRECTED:
        raise HostError(
            f"{root}: its {root.fstype} has errors that need a decision: nothing was written to it",
            hint="attach the image (losetup -P), and run e2fsck on that partition",
        )


def _case(host: Host, disk: Disk, root: Root, reserve: int) -> sizing.Case:
    device, table = root.device, None
    if device.partition:
        table = partition_table.read(host, disk)
        table = replace(table, limit=table.limit - reserve)
    spans = 0 if root.piece else filesystem.unmounted_size(host, root.fstype, device.node)
    return sizing.Case(disk, device, spans, 0, table, root=True)


def _volume(host: Host, root: Root) -> Iterator[Item]:
    """Grow the physical volume, and its group's one logical volume by what that gains."""
    node, options = root.device.node, lvm.isolated(root.device.node)
    run = partial(write, host, "", node)
    pv = lvm.read(host, node, options)
    before = lvm.before(pv, None)
    after = lvm.resize(host, run, node, pv, options)
    gained = (after.extents - before.extents) * after.extent
    if not gained:
        return
    due = lvm.due(after, before)
    if isinstance(due, str):
        yield changed(f"physical volume of {after.group}", f"grown by {gib(gained)}; {due}")
        return
    lvm.extend(host, run, node, after, due, options)
    yield changed(str(root), f"extended by {gib(gained)}")
