"""CONFIG_DISK_FORMAT on real devices: only a disk proven blank and just attached is formatted."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from agent.block import blank, storage
from agent.disks import handler as handler
from agent.disks.base import diskseq
from agent.host.host import Host
from agent.report import Outcome
from tests.system.disks import MIB, LoopDisk, context, sh, system

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.context import Context

SIZE = 320 * MIB


def look(ctx: Context, disk: LoopDisk) -> list[tuple[Outcome, str]]:
    done = handler.handle(ctx, disk.name, "change", system=system(disk))
    return [(item.outcome, item.detail) for item in done]


def kind(disk: LoopDisk) -> str:
    return storage.probe(Host(), disk.node).get("ID_FS_TYPE", "")


def attached_before(disk: LoopDisk) -> None:
    """The machine's count of attachments stood just before this disk when its mount stage began."""
    count = int(sh("cat", f"/sys/block/{disk.name}/diskseq"))
    Host().write(diskseq.FILE, f"{count - 1}\n")


@pytest.mark.parametrize("fstype", ["ext4", "xfs", "btrfs"])
def test_a_blank_disk_that_comes_is_formatted_and_then_mounted(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path, fstype: str
) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path, f"CONFIG_DISK_FORMAT={fstype}\n")
    attached_before(disk)
    assert look(ctx, disk)[0][0] is Outcome.CHANGED
    assert kind(disk) == fstype
    assert look(ctx, disk)[0] == (Outcome.CHANGED, f"mounted at {tmp_path}/srv/{disk.name}")


def test_a_disk_is_new_once_and_never_at_coldplug(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    """An administrator who wipes a disk wants it blank; ``udevadm trigger`` attaches nothing."""
    old, wiped, ctx = make_disk(SIZE), make_disk(SIZE), context(tmp_path, "CONFIG_DISK_FORMAT=ext4\n")
    look(ctx, old)  # nothing is known of the boot: whatever is there was there
    list(handler.mount_all(ctx, system=system(old)))
    attached_before(wiped)
    sh("mkswap", wiped.node)
    assert look(ctx, wiped) == [(Outcome.SKIPPED, "a swap disk")]
    sh("wipefs", "-qa", wiped.node)
    for disk in (old, wiped):
        assert look(ctx, disk) == [(Outcome.SKIPPED, "no filesystem on it")]
        assert not kind(disk)


@pytest.mark.parametrize("place", [100, SIZE - 100, 4 * MIB - 1])
def test_a_disk_with_a_byte_at_either_end_is_not_blank(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path, place: int
) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path, "CONFIG_DISK_FORMAT=ext4\n")
    with open(disk.node, "r+b") as device:
        device.seek(place)
        device.write(b"x")
    attached_before(disk)
    ((outcome, detail),) = look(ctx, disk)
    assert outcome is Outcome.SKIPPED
    assert detail == "not formatted: not blank: its first or last 4 MiB are not all zero"
    assert not kind(disk)


def test_what_else_is_not_blank(make_disk: Callable[[int], LoopDisk]) -> None:
    disk, host = make_disk(SIZE), Host()

    def why() -> str:
        found = storage.read(host, disk.name, lambda _name: {})
        assert found is not None
        return blank.why_not_blank(host, found.device)

    assert why() == ""
    held = os.open(disk.node, os.O_RDONLY | os.O_EXCL)
    assert why().startswith("it is in exclusive use")
    os.close(held)
    sh("blockdev", "--setro", disk.node)
    assert why() == "it is read-only"
    sh("blockdev", "--setrw", disk.node)
    sh("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", disk.node, stdin="label: gpt\n")
    assert "ID_PART_TABLE_TYPE" in why()
    disk.table("label: gpt\nsize=100M\n")
    assert why() == f"in use: {disk.part(1)}"


def test_a_plan_formats_nothing(make_disk: Callable[[int], LoopDisk], tmp_path: Path) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path, "CONFIG_DISK_FORMAT=ext4\n")
    attached_before(disk)
    ctx.host.dry_run = ctx.state.host.dry_run = True
    assert look(ctx, disk)[0][0] is Outcome.CHANGED
    assert any("mkfs.ext4" in line for line in ctx.host.planned)
    assert not kind(disk)
