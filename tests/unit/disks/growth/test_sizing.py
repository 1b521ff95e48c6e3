"""When a filesystem may grow: never into reserved space."""

from __future__ import annotations

import pytest

from agent.block.storage import SECTOR, Device
from agent.disks.base.facts import Leave
from agent.disks.base.partition_table import Extended, Kind, Table
from agent.disks.growth.sizing import BEYOND, FULL, NOT_GROWN, Case, Grow, decide, decide_stacked
from agent.lib.records import replace
from tests.unit.disks.facts import GIB, part, parted, whole

MIB = 1 << 20
HALF, TAIL = GIB // 2, 33 * SECTOR
#: A GPT that was written when the disk was half as large; and one that fits.
OLD, FITTING = Table(Kind.GPT, HALF, GIB - TAIL), Table(Kind.GPT, GIB, GIB - TAIL)
DOS = Table(Kind.DOS, 0, GIB)
ALONE = parted(part(1))


def case(table: Table, *, settled: int = 0, root: bool = False, room: int = 0) -> Case:
    device = ALONE.partitions[0]
    return Case(ALONE, device, device.size - room, settled, table, root)


@pytest.mark.parametrize(
    ("spans", "settled", "answer"),
    [
        (HALF, 0, Grow(partition=False)),
        (HALF, HALF, Grow(partition=False)),
        (HALF, GIB, NOT_GROWN),
        (GIB, 0, FULL),
        (GIB - 8 * MIB, HALF, FULL),
    ],
)
def test_a_whole_disk(spans: int, settled: int, answer: Grow | Leave) -> None:
    disk = whole()
    assert decide(Case(disk, disk.device, spans, settled)) == answer


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        (case(OLD), Grow(partition=True)),
        (case(OLD, settled=HALF), Grow(partition=True)),
        (case(OLD, settled=GIB), NOT_GROWN),
        (case(FITTING), NOT_GROWN),
        (case(FITTING, settled=HALF), Grow(partition=True)),
        (case(FITTING, settled=2 * GIB), NOT_GROWN),
        (case(FITTING, root=True), Grow(partition=True)),
        (case(FITTING, root=True, settled=GIB), NOT_GROWN),
        (case(DOS), NOT_GROWN),
        (case(DOS, settled=HALF), Grow(partition=True)),
        (case(DOS, root=True), Grow(partition=True)),
        (case(Table(Kind.OTHER), settled=HALF), Leave("a partition table of an unknown kind")),
    ],
)
def test_the_only_partition(given: Case, answer: Grow | Leave) -> None:
    assert decide(given) == answer


def test_a_partition_that_was_enlarged_before_a_power_cut() -> None:
    device = replace(ALONE.partitions[0], size=GIB - TAIL - 100 * MIB)
    disk = replace(ALONE, partitions=(device,))
    assert decide(Case(disk, device, 100 * MIB, HALF, FITTING)) == Grow(partition=False)
    assert decide(Case(disk, device, device.size, HALF, FITTING)) == FULL
    halved = replace(FITTING, backed=False)
    assert decide(Case(disk, device, 100 * MIB, HALF, halved)) == Grow(partition=True)
    assert decide(Case(disk, device, device.size, HALF, halved)) == FULL
    assert decide(Case(disk, device, 100 * MIB, GIB, halved)) == NOT_GROWN, "not ours"
    assert decide_stacked(Case(disk, device, 0, HALF, halved)) == Grow(partition=True)
    assert decide_stacked(Case(disk, device, 0, HALF, FITTING)) == Grow(partition=False)


def test_only_the_last_partition_by_its_place() -> None:
    first, second = part(1), part(2)
    disk = parted(first, second)
    assert decide(Case(disk, first, first.size, HALF, OLD)) == Leave("not the last partition of its disk")
    assert decide(Case(disk, second, second.size, HALF, OLD)) == Grow(partition=True)
    # Numbers say nothing: partition 1 may lie behind partition 2.
    swapped = (replace(second, start=first.start), replace(first, start=second.start))
    disk = parted(*swapped)
    assert decide(Case(disk, swapped[1], first.size, HALF, OLD)) == Grow(partition=True)
    assert decide(Case(disk, swapped[0], first.size, HALF, OLD)) == Leave(
        "not the last partition of its disk"
    )


def test_a_logical_partition_grows_with_the_extended_one_around_it() -> None:
    logical = part(5, ID_PART_ENTRY_SCHEME="dos")
    # The kernel shows two sectors of the extended one.
    around = Device("vdb2", "254:18", 1024, logical.start - MIB, 2, udev={"ID_PART_ENTRY_TYPE": "0x5"})
    disk = parted(around, logical)
    table = Table(Kind.DOS, 0, GIB, extended=Extended(2, around.start, logical.end))
    assert decide(Case(disk, logical, logical.size, HALF, table)) == Grow(partition=True)
    lost = replace(table, extended=None)
    assert "without an extended one" in str(decide(Case(disk, logical, logical.size, HALF, lost)))
    after = replace(part(3), start=logical.end)
    behind = parted(around, logical, after)
    last = Leave("not the last partition of its disk")
    assert decide(Case(behind, logical, logical.size, HALF, table)) == last


def test_msdos_ends_at_two_tebibytes() -> None:
    limit = (1 << 32) * SECTOR - SECTOR
    big = replace(ALONE, device=replace(ALONE.device, size=3 << 40))
    table = Table(Kind.DOS, 0, limit)
    device = big.partitions[0]
    assert decide(Case(big, device, device.size, HALF, table)) == Grow(partition=True, warning=BEYOND)
    full = replace(device, size=limit - device.start)
    disk = replace(big, partitions=(full,))
    assert decide(Case(disk, full, full.size, HALF, table)) == Leave(BEYOND)


@pytest.mark.parametrize(
    ("settled", "answer"),
    [(0, NOT_GROWN), (GIB, NOT_GROWN), (2 * GIB, NOT_GROWN), (HALF, Grow(partition=False))],
)
def test_volumes_on_a_whole_disk_grow_only_when_it_has(settled: int, answer: Grow | Leave) -> None:
    disk = whole()
    assert decide_stacked(Case(disk, disk.device, 0, settled)) == answer


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        (case(OLD), Grow(partition=True)),
        (case(OLD, settled=GIB), NOT_GROWN),
        (case(FITTING), NOT_GROWN),
        (case(FITTING, settled=HALF), Grow(partition=True)),
        (case(DOS), NOT_GROWN),
        (case(DOS, settled=HALF), Grow(partition=True)),
    ],
)
def test_volumes_in_a_partition(given: Case, answer: Grow | Leave) -> None:
    assert decide_stacked(given) == answer


def test_volumes_in_a_partition_that_was_enlarged_before_a_power_cut() -> None:
    device = replace(ALONE.partitions[0], size=GIB - TAIL - 100 * MIB)
    disk = replace(ALONE, partitions=(device,))
    assert decide_stacked(Case(disk, device, 0, HALF, FITTING)) == Grow(partition=False)
