"""Partition tables and filesystems on real devices: only on blank ones, or where the document says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.block import storage
from agent.config.model import Identity, InstanceConfig
from agent.config.system import Filesystem, PartitionTable, System
from agent.context import Context
from agent.host.host import Host
from agent.steps import filesystems
from tests.system.disks import MIB, LoopDisk, context, sh, system, unmount

IDENTITY = Identity("nocloud", "filesystems")
SIZE = 320 * MIB


def run(ctx: Context, disk: LoopDisk, wanted: Filesystem) -> str:
    """Run the step for one filesystem, and return its item."""
    ctx.state.set_instance(IDENTITY)
    ctx.config = InstanceConfig(IDENTITY, system=System(filesystems=(wanted,)))
    (item,) = filesystems.apply(ctx, system=system(disk))
    return str(item).partition(" (")[0].replace(wanted.device, "DEVICE").replace(disk.name, "NAME")


def found(node: str) -> tuple[str, str]:
    """Return type and label of what is on a device."""
    said = storage.probe(Host(), node)
    return said.get("ID_FS_TYPE", ""), said.get("ID_FS_LABEL", "")


@pytest.mark.parametrize("fstype", ["ext4", "xfs", "btrfs"])
def test_a_blank_device(make_disk: Callable[[int], LoopDisk], tmp_path: Path, fstype: str) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path, "")
    wanted = Filesystem(disk.node, fstype, "data")
    assert run(ctx, disk, wanted) == f"changed: filesystem:DEVICE: {fstype} on NAME"
    assert found(disk.node) == (fstype, "data")
    assert run(ctx, disk, wanted) == "unchanged: filesystem:DEVICE: was made before"
    sh("wipefs", "-a", "-q", disk.node)
    assert run(ctx, disk, wanted) == "unchanged: filesystem:DEVICE: was made before"
    assert found(disk.node) == ("", ""), "the administrator has wiped it"


def test_a_device_that_is_not_blank(make_disk: Callable[[int], LoopDisk], tmp_path: Path) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path, "")
    sh("mkfs.ext4", "-q", "-L", "mine", disk.node)
    for overwrite in (False, True):
        said = run(ctx, disk, Filesystem(disk.node, "xfs", "data", overwrite=overwrite))
        if overwrite:
            assert said == "changed: filesystem:DEVICE: xfs on NAME"
            assert found(disk.node) == ("xfs", "data")
        else:
            assert said.startswith("failed: filesystem:DEVICE: DEVICE: not blank: it has a signature")
            assert found(disk.node) == ("ext4", "mine")


def test_one_that_is_as_wanted_keeps_its_files(make_disk: Callable[[int], LoopDisk], tmp_path: Path) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path, "")
    sh("mkfs.ext4", "-q", "-L", "data", disk.node)
    before = storage.probe(Host(), disk.node)["ID_FS_UUID"]
    wanted = Filesystem(disk.node, "ext4", "data", overwrite=True)
    assert run(ctx, disk, wanted) == "unchanged: filesystem:DEVICE: is ext4 already"
    assert storage.probe(Host(), disk.node)["ID_FS_UUID"] == before


def test_one_in_use_is_never_overwritten(make_disk: Callable[[int], LoopDisk], tmp_path: Path) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path, "")
    sh("mkfs.ext4", "-q", "-L", "mine", disk.node)
    (tmp_path / "mounted").mkdir()
    sh("mount", disk.node, str(tmp_path / "mounted"))
    try:
        said = run(ctx, disk, Filesystem(disk.node, "xfs", overwrite=True))
        assert said.startswith("failed: filesystem:DEVICE: DEVICE: not overwritten")
    finally:
        unmount(disk, tmp_path / "mounted")
    assert found(disk.node) == ("ext4", "mine")


def test_a_disk_with_partitions(make_disk: Callable[[int], LoopDisk], tmp_path: Path) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path, "")
    disk.table("label: gpt\n,\n")
    said = run(ctx, disk, Filesystem(disk.node, "xfs", overwrite=True))
    assert said.startswith("failed: filesystem:DEVICE: DEVICE: not overwritten: NAMEp1, its partition table")
    assert run(ctx, disk, Filesystem(disk.node, "xfs", partition="2")) == (
        "failed: filesystem:DEVICE: DEVICE: no partition 2"
    )
    assert run(ctx, disk, Filesystem(disk.node, "xfs", "data", "1")) == (
        "changed: filesystem:DEVICE: xfs on NAMEp1"
    )
    assert found(f"{disk.node}p1") == ("xfs", "data")


def test_a_device_that_is_not_there(make_disk: Callable[[int], LoopDisk], tmp_path: Path) -> None:
    said = run(context(tmp_path, ""), make_disk(SIZE), Filesystem("/dev/disk/by-id/none", "ext4"))
    assert said == "failed: filesystem:DEVICE: DEVICE: no such disk"


def partition(ctx: Context, disk: LoopDisk, wanted: PartitionTable) -> str:
    """Run the step for one partition table, and return its item."""
    ctx.state.set_instance(IDENTITY)
    ctx.config = InstanceConfig(IDENTITY, system=System(tables=(wanted,)))
    (item,) = filesystems.apply_tables(ctx, system=system(disk))
    return str(item).partition(" (")[0].replace(wanted.device, "DEVICE").replace(disk.name, "NAME")


def table(node: str) -> tuple[str, list[tuple[int, str]]]:
    """Return the kind of the table, and size in MiB and type of each partition."""
    said = json.loads(sh("sfdisk", "--json", node))["partitiontable"]
    return said["label"], [(part["size"] >> 11, part["type"]) for part in said["partitions"]]


LINUX, SWAP = "0FC63DAF-8483-4772-8E79-3D69D8477DE4", "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F"
TABLES = {
    "gpt": (((25, SWAP), (75, LINUX)), [(80, SWAP), (239, LINUX)]),
    "dos": (((50, "83"), (25, "82")), [(160, "83"), (80, "82")]),
}


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_on_a_blank_disk(make_disk: Callable[[int], LoopDisk], tmp_path: Path, kind: str) -> None:
    """Then filesystems can be made on its partitions, and nothing is made twice."""
    disk, ctx, (parts, expected) = make_disk(SIZE), context(tmp_path, ""), TABLES[kind]
    wanted = PartitionTable(disk.node, kind, parts)
    assert (
        partition(ctx, disk, wanted) == f"changed: partition table:DEVICE: {kind} with 2 partitions on NAME"
    )
    found_kind, found_parts = table(disk.node)
    assert found_kind == kind
    assert [
        (abs(size - of) <= 1, is_type)
        for (size, is_type), (of, _) in zip(found_parts, expected, strict=True)
    ] == [(True, is_type) for _, is_type in expected]
    assert run(ctx, disk, Filesystem(disk.node, "ext4", "data", "2")) == (
        "changed: filesystem:DEVICE: ext4 on NAMEp2"
    )
    assert partition(ctx, disk, wanted) == "unchanged: partition table:DEVICE: was made before"
    again = context(tmp_path / "again", "")
    assert partition(again, disk, wanted) == "unchanged: partition table:DEVICE: has 2 partitions already"
    assert found(f"{disk.node}p2") == ("ext4", "data")


def test_a_table_on_a_disk_that_is_not_blank(make_disk: Callable[[int], LoopDisk], tmp_path: Path) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path, "")
    sh("mkfs.ext4", "-q", "-L", "mine", disk.node)
    wanted = PartitionTable(disk.node, "gpt", ((100, LINUX),))
    said = partition(ctx, disk, wanted)
    assert said.startswith("failed: partition table:DEVICE: DEVICE: not blank: it has a signature")
    assert found(disk.node) == ("ext4", "mine")
    wanted = PartitionTable(disk.node, "gpt", ((100, LINUX),), overwrite=True)
    assert partition(ctx, disk, wanted) == "changed: partition table:DEVICE: gpt with 1 partitions on NAME"
    assert table(disk.node)[1] == [(319, LINUX)] or table(disk.node)[1] == [(318, LINUX)]


def test_a_table_in_use_is_never_overwritten(make_disk: Callable[[int], LoopDisk], tmp_path: Path) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path, "")
    disk.table("label: gpt\n,\n")
    sh("mkfs.ext4", "-q", "-L", "mine", f"{disk.node}p1")
    (tmp_path / "mounted").mkdir()
    sh("mount", f"{disk.node}p1", str(tmp_path / "mounted"))
    try:
        wanted = PartitionTable(disk.node, "dos", ((50, "83"), (50, "83")), overwrite=True)
        said = partition(ctx, disk, wanted)
        assert said.startswith(
            "failed: partition table:DEVICE: DEVICE: not overwritten: an exclusive opener"
        )
    finally:
        unmount(disk, tmp_path / "mounted")
    assert table(disk.node)[0] == "gpt"
    assert found(f"{disk.node}p1") == ("ext4", "mine")
    assert partition(ctx, disk, wanted) == "changed: partition table:DEVICE: dos with 2 partitions on NAME"
    assert found(f"{disk.node}p1") == ("", ""), "nothing of the former partition is left"
