"""The growth chain on real tables and filesystems: none, msdos and GPT; ext4, XFS and btrfs; root and data
disks.

The kernel resizes a mounted ext4 only with CAP_SYS_RESOURCE, which a container lacks. So the chain's parts
are run one by one here, with resize2fs on a filesystem that is not mounted; mounted it is grown in tests/vm.
"""

from __future__ import annotations

import os
import re
import threading
import time
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from agent.disks import handler as handler
from agent.disks.base import filesystem, partition_table
from agent.disks.growth import root, sizing
from agent.lib.errors import HostError
from agent.lib.records import replace
from agent.report import Outcome
from tests.system.disks import MIB, MKFS, LoopDisk, context, sh, system

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from agent.block.storage import Disk
    from agent.context import Context
    from agent.host.host import Host
    from agent.report import Item

SMALL, LARGE = 400 * MIB, 900 * MIB
GUID = "11111111-2222-3333-4444-555555555555"
TABLES = {
    "none": "",
    "msdos": "label: dos\nstart=2048, type=83, bootable\n",
    "gpt": "label: gpt\nsize=20M, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B\n"
    f'type=linux, name="gandiroot", uuid={GUID}, attrs="LegacyBIOSBootable GUID:60"\n',
    # Swap, and the extended partition with the one that grows.
    "logical": "label: dos\nstart=2048, size=40960, type=82\nstart=43008, type=5\nstart=45056, type=83\n",
}
NUMBER = {"none": 0, "msdos": 1, "gpt": 2, "logical": 5}
#: Filesystems that root can grow while they are mounted, also in a container.
ONLINE = ["xfs", "btrfs"]


def prepared(disk: LoopDisk, kind: str, fstype: str) -> str:
    """Write table and filesystem; return the name of the filesystem's device."""
    if TABLES[kind]:
        disk.table(TABLES[kind])
    name = disk.part(NUMBER[kind]) if NUMBER[kind] else disk.name
    sh(*MKFS[fstype], "-L", "data", f"/dev/{name}")
    return name


def span(at: Path) -> int:
    found = os.statvfs(at)
    return found.f_blocks * found.f_frsize


def look(ctx: Context, disk: LoopDisk) -> list[Item]:
    return list(handler.handle(ctx, disk.name, "change", system=system(disk)))


def told(items: list[Item], outcome: Outcome) -> list[str]:
    return [item.detail for item in items if item.outcome is outcome]


@pytest.mark.parametrize("fstype", ONLINE)
@pytest.mark.parametrize("kind", TABLES)
def test_a_data_disk_grows_while_it_is_mounted(
    kind: str, fstype: str, make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    disk, ctx = make_disk(SMALL), context(tmp_path)
    prepared(disk, kind, fstype)
    assert told(look(ctx, disk), Outcome.CHANGED) == [f"mounted at {tmp_path}/srv/data"]
    before, lines = span(tmp_path / "srv/data"), disk.dump() if TABLES[kind] else ""

    disk.resize(LARGE)
    grown = look(ctx, disk)

    assert not told(grown, Outcome.FAILED)
    assert any(detail.startswith("grown from") for detail in told(grown, Outcome.CHANGED)), grown
    assert span(tmp_path / "srv/data") >= before + 450 * MIB
    if TABLES[kind]:
        # Start, type, GUID, attributes, name and boot flag stay; only the size of the last partition
        # differs.
        assert re.sub(r"size= *\d+", "size=", disk.dump()) == re.sub(r"size= *\d+", "size=", lines)
        assert disk.dump() != lines
    again = look(ctx, disk)
    assert not told(again, Outcome.CHANGED)
    assert not told(again, Outcome.FAILED)


@pytest.mark.parametrize("fstype", ONLINE)
@pytest.mark.parametrize("kind", TABLES)
def test_the_root_disk_grows_though_nobody_knows_its_former_size(
    kind: str, fstype: str, make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    disk, ctx, at = make_disk(SMALL), context(tmp_path), tmp_path / "root"
    name = prepared(disk, kind, fstype)
    disk.resize(LARGE)
    at.mkdir()
    sh("mount", f"/dev/{name}", str(at))

    def grow() -> list[Item]:
        facts = system(disk).read(ctx.host, disk.name)
        assert facts is not None
        device = next(device for device in facts.devices if device.name == name)
        return list(root.apply(ctx, system(disk), root.Root(facts, device, str(at))))

    before = span(at)
    assert [item.outcome for item in grow()] == [Outcome.CHANGED]
    assert span(at) >= before + 450 * MIB
    assert [item.outcome for item in grow()] == [Outcome.UNCHANGED]


@pytest.mark.parametrize("kind", TABLES)
def test_each_link_of_the_chain_for_ext4(
    kind: str, make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    disk, ctx = make_disk(SMALL), context(tmp_path)
    name, on = prepared(disk, kind, "ext4"), system(disk)
    node = f"/dev/{name}"
    before = filesystem.size(ctx.host, "ext4", node, "")
    assert before == SMALL - {"none": 0, "msdos": 1, "gpt": 22, "logical": 22}[kind] * MIB
    lines = disk.dump() if TABLES[kind] else ""
    disk.resize(LARGE)

    def case() -> sizing.Case:
        facts = on.read(ctx.host, disk.name)
        assert facts is not None
        device = next(device for device in facts.devices if device.name == name)
        read = partition_table.read(ctx.host, facts) if device.partition else None
        spans = filesystem.size(ctx.host, "ext4", node, "")
        return sizing.Case(facts, device, spans, settled=SMALL, table=read)

    first = case()
    assert sizing.decide(first) == sizing.Grow(partition=bool(TABLES[kind]))
    if first.table is not None:
        partition_table.extend(ctx.host, on, first.table, first.disk, first.device)
        assert re.sub(r"size= *\d+", "size=", disk.dump()) == re.sub(r"size= *\d+", "size=", lines)
        # After a power cut here, only the filesystem is left to grow.
        assert sizing.decide(case()) == sizing.Grow(partition=False)
    on.write(ctx.host, "gandi-grow", disk.node, filesystem.grower("ext4", node, ""))
    assert filesystem.size(ctx.host, "ext4", node, "") >= before + 450 * MIB
    assert sizing.decide(case()) == sizing.FULL


def test_a_plan_tells_what_would_grow(make_disk: Callable[[int], LoopDisk], tmp_path: Path) -> None:
    disk, ctx = make_disk(SMALL), context(tmp_path)
    prepared(disk, "gpt", "xfs")
    look(ctx, disk)
    disk.resize(LARGE)
    before = span(tmp_path / "srv/data")
    ctx.host.dry_run = ctx.state.host.dry_run = True
    assert told(list(handler.mount_all(ctx, system=system(disk))), Outcome.CHANGED) == ["would grow"]
    assert span(tmp_path / "srv/data") == before


def test_growth_after_the_mount_stage_is_shown_under_its_own_name(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    """The stage has ended, and another one may run, which does not wait for the disk."""
    disk, ctx, said = make_disk(SMALL), context(tmp_path), list[str]()
    prepared(disk, "gpt", "xfs")
    look(ctx, disk)
    disk.resize(LARGE)
    real, begun, go = system(disk), threading.Event(), threading.Event()

    def write(_host: object, unit: str, node: str, argv: tuple[str, ...], stdin: str = "") -> None:
        begun.set()
        assert go.wait(20)
        real.write(ctx.host, unit, node, argv, stdin)

    ctx.on_wait = said.append
    list(handler.mount_all(ctx, system=replace(real, write=write)))
    said.clear()
    assert begun.wait(20)
    work = ctx.status.read()["work"]
    assert {name: entry["waiting"] for name, entry in work.items()} == {
        disk.part(2): f"{disk.part(2)} to grow"
    }
    go.set()
    deadline = time.monotonic() + 20
    while disk.part(2) not in ctx.status.read()["devices"] or ctx.status.read()["work"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert said == []
    assert "grown from" in str(ctx.status.read()["devices"][disk.part(2)])


@pytest.mark.parametrize("kind", ["msdos", "gpt"])
def test_reserved_space_is_not_eaten_when_the_disk_has_not_grown(
    kind: str, make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    disk, ctx = make_disk(LARGE), context(tmp_path)
    label = "dos" if kind == "msdos" else "gpt"
    disk.table(f"label: {label}\nsize=400M, type=linux\n")
    sh(*MKFS["xfs"], "-L", "data", f"/dev/{disk.part(1)}")
    before = disk.dump()
    assert told(look(ctx, disk), Outcome.CHANGED) == [f"mounted at {tmp_path}/srv/data"]
    look(ctx, disk)
    assert disk.dump() == before


def test_a_partition_that_is_not_the_last_stays(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    disk, ctx = make_disk(LARGE), context(tmp_path)
    disk.table("label: gpt\nsize=400M, type=linux\nsize=100M, type=linux\n")
    sh(*MKFS["xfs"], "-L", "data", f"/dev/{disk.part(1)}")
    look(ctx, disk)
    before = disk.dump()
    disk.resize(LARGE + 400 * MIB)
    assert "not grown: not the last partition of its disk" in told(look(ctx, disk), Outcome.SKIPPED)
    assert disk.dump() == before


def test_a_filesystem_that_could_not_grow_is_a_failure_though_its_tool_said_nothing(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    """systemd 252's ``udevadm lock`` exits with 0 when its command fails: only the size shows it."""
    disk, ctx = make_disk(SMALL), context(tmp_path)
    prepared(disk, "gpt", "xfs")
    look(ctx, disk)
    disk.resize(LARGE)
    asked: list[str] = []

    def pretend(_host: object, _unit: str, _disk: str, argv: tuple[str, ...], stdin: str = "") -> None:
        asked.append(argv[0])
        if argv[0] == "sfdisk":
            system(disk).write(ctx.host, _unit, _disk, argv, stdin)

    deaf = replace(system(disk), write=pretend)
    first = list(handler.handle(ctx, disk.name, "change", system=deaf))
    assert "still" in told(first, Outcome.FAILED)[0]
    # The writer's close() causes another event: the same growth must not be tried for ever.
    second = list(handler.handle(ctx, disk.name, "change", system=deaf))
    assert told(second, Outcome.FAILED)
    assert "udevadm trigger --action=add" in second[-1].hint
    assert asked == ["sfdisk", "xfs_growfs"]
    third = list(handler.handle(ctx, disk.name, "add", system=system(disk)))
    assert any(detail.startswith("grown from") for detail in told(third, Outcome.CHANGED))


def test_a_disk_of_which_udev_knows_nothing_any_more_is_grown_as_it_is_mounted(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    """It answered with errors when udev probed it last."""
    disk, ctx = make_disk(SMALL), context(tmp_path)
    prepared(disk, "none", "xfs")
    look(ctx, disk)
    disk.resize(LARGE)
    real = system(disk)

    def unread(host: Host, name: str) -> Disk | None:
        found = real.read(host, name)
        return found and replace(found, device=replace(found.device, udev={}))

    items = list(handler.handle(ctx, disk.name, "change", system=replace(real, read=unread)))
    assert any(detail.startswith("grown from") for detail in told(items, Outcome.CHANGED))


def test_growth_goes_on_where_a_power_cut_ended_it(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    disk, ctx = make_disk(SMALL), context(tmp_path)
    prepared(disk, "gpt", "btrfs")
    look(ctx, disk)
    before = span(tmp_path / "srv/data")
    disk.resize(LARGE)
    facts = system(disk).read(ctx.host, disk.name)
    assert facts is not None
    read = partition_table.read(ctx.host, facts)
    partition_table.extend(
        ctx.host, system(disk), read, facts, facts.partitions[-1]
    )  # followed by a power cut
    assert any(detail.startswith("grown from") for detail in told(look(ctx, disk), Outcome.CHANGED))
    assert span(tmp_path / "srv/data") >= before + 450 * MIB


def test_a_cut_between_the_extended_partition_and_the_logical_one(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    disk, ctx, written = make_disk(SMALL), context(tmp_path), list[str]()
    prepared(disk, "logical", "xfs")
    look(ctx, disk)
    before = span(tmp_path / "srv/data")
    disk.resize(LARGE)

    def cut(host: Host, unit: str, node: str, argv: Sequence[str], stdin: str = "") -> None:
        if written:
            raise HostError("no power")
        written.append(unit)
        system(disk).write(host, unit, node, argv, stdin)

    facts = system(disk).read(ctx.host, disk.name)
    assert facts is not None
    read = partition_table.read(ctx.host, facts)
    with pytest.raises(HostError):
        partition_table.extend(ctx.host, replace(system(disk), write=cut), read, facts, facts.partitions[-1])
    assert written == [f"gandi-grow-{disk.name}-extended"]
    assert any(detail.startswith("grown from") for detail in told(look(ctx, disk), Outcome.CHANGED))
    assert span(tmp_path / "srv/data") >= before + 450 * MIB


def test_a_table_of_which_a_power_cut_left_one_half_is_written_whole(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    """In the first header the partition has grown; sfdisk's second one is 750 MiB away, written in any
    order.
    """
    disk, ctx = make_disk(SMALL), context(tmp_path)
    prepared(disk, "gpt", "btrfs")
    look(ctx, disk)
    before = span(tmp_path / "srv/data")
    disk.resize(LARGE)
    facts = system(disk).read(ctx.host, disk.name)
    assert facts is not None
    read = partition_table.read(ctx.host, facts)
    assert read.backed
    partition_table.extend(ctx.host, system(disk), read, facts, facts.partitions[-1])
    with open(disk.node, "r+b") as device:
        device.seek(-33 * 512, os.SEEK_END)
        device.write(bytes(33 * 512))
    assert not partition_table.read(ctx.host, facts).backed
    assert any(detail.startswith("grown from") for detail in told(look(ctx, disk), Outcome.CHANGED))
    assert partition_table.read(ctx.host, facts).backed
    assert span(tmp_path / "srv/data") >= before + 450 * MIB
    assert "backup" not in sh("sfdisk", "--verify", disk.node).lower()


def test_guids_that_a_power_cut_left_half_renewed_are_renewed(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    disk, ctx, written = make_disk(SMALL), context(tmp_path), list[str]()
    disk.table(TABLES["gpt"])
    sh("sfdisk", "--no-reread", "--no-tell-kernel", "--disk-id", disk.node, str(UUID(int=0)))
    facts = system(disk).read(ctx.host, disk.name)
    assert facts is not None

    def cut(host: Host, unit: str, name: str, argv: Sequence[str]) -> None:
        if len(written) == len(facts.partitions):
            raise HostError("no power")
        written.append(unit)
        system(disk).write(host, unit, name, argv)

    with pytest.raises(HostError):
        partition_table.renew_guids(ctx.host, replace(system(disk), write=cut), facts)
    assert partition_table.read(ctx.host, facts).blank_guid
    partition_table.renew_guids(ctx.host, system(disk), facts)
    assert not partition_table.read(ctx.host, facts).blank_guid
    assert GUID not in disk.dump()


def test_an_msdos_table_grows_to_its_two_tebibytes_and_says_so(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    disk, ctx = make_disk(SMALL), context(tmp_path)
    prepared(disk, "msdos", "btrfs")
    look(ctx, disk)
    disk.resize(3 << 40)
    grown = look(ctx, disk)
    assert any("2 TiB" in detail for detail in told(grown, Outcome.FAILED))
    assert (2 << 40) - 64 * MIB <= span(tmp_path / "srv/data") <= 2 << 40


def test_a_cloned_disk_gets_guids_of_its_own_and_keeps_the_rest(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    disk, ctx = make_disk(SMALL), context(tmp_path)
    disk.table(TABLES["gpt"])
    blank = "00000000-0000-0000-0000-000000000000"
    sh("sfdisk", "--no-reread", "--no-tell-kernel", "--disk-id", disk.node, blank)
    before = disk.dump()
    facts = system(disk).read(ctx.host, disk.name)
    assert facts is not None
    assert partition_table.read(ctx.host, facts).blank_guid
    partition_table.renew_guids(ctx.host, system(disk), facts)
    assert not partition_table.read(ctx.host, facts).blank_guid
    assert GUID not in disk.dump()
    hidden = re.compile(r"uuid=[0-9A-F-]+|label-id: [0-9A-F-]+")
    assert hidden.sub("", disk.dump()) == hidden.sub("", before)


@pytest.mark.parametrize("setting", ["CONFIG_GROW_DISKS=0"])
def test_growth_can_be_switched_off(
    setting: str, make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    disk, ctx = make_disk(SMALL), context(tmp_path, setting + "\n")
    prepared(disk, "none", "xfs")
    look(ctx, disk)
    before = span(tmp_path / "srv/data")
    disk.resize(LARGE)
    look(ctx, disk)
    assert span(tmp_path / "srv/data") == before
