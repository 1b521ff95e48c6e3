"""Filesystems of the document on real devices: only on a blank one, or where the document says overwrite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agent.block import storage
from agent.config.model import Identity, InstanceConfig
from agent.config.system import Filesystem, System
from agent.context import Context
from agent.host.host import Host
from agent.steps import filesystems
from tests.system.disks import MIB, LoopDisk, context, sh, system

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
        sh("umount", str(tmp_path / "mounted"))
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
