"""Decide whether a mounted filesystem grows, and its partition before it. Pure functions; resize.py acts.

Reserved space is never used: a partition grows only if the disk itself has grown, and only if it is the last
one on it.
"""

from __future__ import annotations

from agent.disks.base.facts import Leave
from agent.disks.base.filesystem import SLACK
from agent.disks.base.partition_table import Kind, Table, is_logical
from agent.lib.records import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.block.storage import Device, Disk

#: Bytes of growth below which a partition table is not rewritten: partitions align to 1 MiB.
_WORTH = 1 << 20
NOT_GROWN = Leave("the disk has not grown")
FULL = Leave("fills its disk")
BEYOND = "an msdos partition table ends at 2 TiB, the disk does not (convert it: sgdisk --mbrtogpt)"


@dataclass(frozen=True, slots=True)
class Grow:
    """Grow the filesystem; ``partition``: grow its partition first. ``warning``: why space stays unused, or
    "".
    """

    partition: bool
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """The input of a decision. ``spans``: bytes that the filesystem covers; ``settled``: the disk's size in
    bytes when growth was last complete, 0 if unknown. The root disk (``root``) grows even if its former
    size is unknown.
    """

    disk: Disk
    device: Device
    spans: int
    settled: int = 0
    table: Table | None = None
    root: bool = False


def decide(case: Case) -> Grow | Leave:
    """Return what to do with a filesystem. Reasons other than NOT_GROWN and FULL are reported."""
    room = case.device.size - case.spans
    if not case.device.partition:
        if case.settled == case.disk.device.size:
            return NOT_GROWN
        return Grow(partition=False) if room >= SLACK else FULL
    table = case.table or Table(Kind.OTHER)
    if not _has_grown(case, table):
        return NOT_GROWN
    if reason := _unfit(case, table):
        return Leave(reason)
    # A table without its backup header: the power failed while the partition was growing.
    halved = not table.backed and room >= SLACK
    partition = table.limit - case.device.end >= _WORTH or halved
    beyond = table.kind is Kind.DOS and case.disk.device.size - table.limit >= _WORTH
    if not partition and room < SLACK:
        return Leave(BEYOND) if beyond else FULL
    return Grow(partition, BEYOND if beyond else "")


def decide_stacked(case: Case) -> Grow | Leave:
    """Return what to do with a device below the device mapper. There no filesystem's size shows how much
    room there is, so only a disk that is larger than before counts.
    """
    if not case.device.partition:
        return Grow(partition=False) if 0 < case.settled < case.disk.device.size else NOT_GROWN
    table = case.table or Table(Kind.OTHER)
    if not _has_grown(case, table):
        return NOT_GROWN
    if reason := _unfit(case, table):
        return Leave(reason)
    beyond = table.kind is Kind.DOS and case.disk.device.size - table.limit >= _WORTH
    partition = table.limit - case.device.end >= _WORTH or not table.backed
    return Grow(partition, BEYOND if beyond else "")


def _has_grown(case: Case, table: Table) -> bool:
    now = case.disk.device.size
    if case.settled:
        return case.settled < now
    return case.root or 0 < table.covered < now - _WORTH


def _unfit(case: Case, table: Table) -> str:
    if table.kind is Kind.OTHER:
        return "a partition table of an unknown kind"
    if case.device.end < max(part.end for part in case.disk.partitions):
        return "not the last partition of its disk"
    if is_logical(table, case.device) and table.extended is None:
        return "a logical partition without an extended one around it (run: sfdisk --verify)"
    return ""
