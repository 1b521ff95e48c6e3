"""The mounts of a disk that has gone, which others made: real filesystems, mounts and processes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.block.mounts import mounts
from agent.disks import handler as handler
from agent.disks import survey
from agent.disks.base.record import Records
from agent.host.host import Host
from agent.lib.records import replace
from agent.report import Outcome
from tests.system.disks import MIB, MKFS, LoopDisk, context, sh, system, unmount, without
from tests.system.test_detach import sitting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.block.storage import Disk
    from agent.context import Context
    from agent.disks.base.system import System
    from agent.report import Item

SIZE = 64 * MIB


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Make the administrator's folders; what is mounted at one is unmounted at the end."""
    made = list[Path]()

    def make(name: str) -> Path:
        made.append(tmp_path / name)
        made[-1].mkdir()
        return made[-1]

    yield make
    for mount in reversed(mounts(Host())):
        if mount.mountpoint in map(str, made):
            sh("umount", "--lazy", mount.mountpoint)


def places(disk: LoopDisk) -> list[str]:
    return [mount.mountpoint for mount in mounts(Host()) if disk.is_source(mount.source)]


def look(ctx: Context, disk: LoopDisk, on: System) -> list[Item]:
    return list(handler.handle(ctx, disk.name, "change", system=on))


def taken_over(ctx: Context, disk: LoopDisk, fs: str = "ext4") -> None:
    """The agent mounts the disk, and the administrator unmounts it."""
    sh(*MKFS[fs], "-L", "data", disk.node)
    look(ctx, disk, system(disk))
    (at,) = places(disk)
    unmount(disk, at)


@pytest.mark.parametrize("fs", ["ext4", "xfs", "btrfs"])
def test_every_mount_by_hand_ends_with_its_disk_and_its_users_are_named(
    fs: str, make_disk: Callable[[int], LoopDisk], own: Callable[[str], Path], tmp_path: Path
) -> None:
    disk, ctx = make_disk(320 * MIB), context(tmp_path)
    mine, sub, twice = own("mine"), own("sub"), own("two")
    taken_over(ctx, disk, fs)
    sh("mount", disk.node, str(mine))
    (mine / "inner").mkdir()
    sh("mount", "--bind", str(mine / "inner"), str(sub))
    sh("mount", disk.node, str(twice))
    away = without(system(disk), disk)
    with sitting("folder", sub) as pid:
        told, *users = look(ctx, disk, away)
        assert told.outcome is Outcome.CHANGED
        assert told.detail == f"gone, was mounted at {mine}; {sub}; {twice}"
        assert places(disk) == []
        assert [item.outcome for item in users] == [Outcome.FAILED]
        assert f"removed while in use at {mine}: held by " in users[0].detail
        assert f"({pid}):" in users[0].detail
        (row,) = survey.disks(ctx, system=replace(away, names=lambda _host: []))
        assert (row.state, row.mountpoint, row.holders[0].pid) == ("gone", str(mine), pid)
    assert os.listdir(tmp_path / "srv") == []
    assert mine.exists(), "not the agent's folder"
    assert look(ctx, disk, away) == []
    assert Records(ctx.host).disks() == set()


def test_a_partition_that_the_agent_never_mounted(
    make_disk: Callable[[int], LoopDisk], own: Callable[[str], Path], tmp_path: Path
) -> None:
    """It has no record: its name in the mount's source is known. A source that a user chose is not. Of a
    disk of which the agent has mounted nothing, no mount is ended.
    """
    disk, other = make_disk(SIZE), make_disk(SIZE)
    ctx, mine, foreign, chosen = context(tmp_path), own("mine"), own("foreign"), own("chosen")
    disk.table("label: gpt\nsize=30M\nsize=30M\n")
    sh("mkfs.ext4", "-q", "-L", "data", f"/dev/{disk.part(2)}")
    sh("mkfs.ext4", "-q", other.node)
    sh("mount", other.node, str(foreign))
    both = system(disk, other)
    look(ctx, disk, both)
    assert places(disk) == [f"{tmp_path}/srv/data"]
    sh("mkfs.ext4", "-q", f"/dev/{disk.part(1)}")
    sh("mount", f"/dev/{disk.part(1)}", str(mine))
    sh("mount", "-t", "tmpfs", disk.node, str(chosen))
    items = look(ctx, disk, without(both, disk))
    assert sorted((item.name, item.detail) for item in items) == [
        (disk.part(1), f"gone, was mounted at {mine}"),
        (disk.part(2), f"gone, was mounted at {tmp_path}/srv/data"),
    ]
    assert places(disk) == [str(chosen)]
    assert look(ctx, other, without(both, disk, other)) == []
    assert places(other) == [str(foreign)]


@pytest.mark.parametrize("setting", ["CONFIG_MOUNT_MODE=off", "CONFIG_ALLOW_MOUNT=0"])
def test_without_mounts_of_the_agent_s_none_is_ended(
    setting: str, make_disk: Callable[[int], LoopDisk], own: Callable[[str], Path], tmp_path: Path
) -> None:
    disk, ctx, mine = make_disk(SIZE), context(tmp_path), own("mine")
    taken_over(ctx, disk)
    sh("mount", disk.node, str(mine))
    ctx = context(tmp_path, f"{setting}\n")
    look(ctx, disk, system(disk))
    look(ctx, disk, without(system(disk), disk))
    assert places(disk) == [str(mine)]


@pytest.mark.parametrize("at", ["mine", "srv/data"])
def test_a_new_disk_with_the_same_name_and_number_keeps_its_mount(
    at: str, make_disk: Callable[[int], LoopDisk], own: Callable[[str], Path], tmp_path: Path
) -> None:
    """The administrator has mounted it before the agent looks."""
    disk, ctx = make_disk(SIZE), context(tmp_path)
    real = system(disk)
    taken_over(ctx, disk)
    place = tmp_path / at if (tmp_path / at).exists() else own(at)
    sh("mount", disk.node, str(place))

    def read(host: Host, name: str) -> Disk | None:
        found = real.read(host, name)
        return replace(found, diskseq="another") if found else None

    items = look(ctx, disk, replace(real, read=read))
    assert [item.detail for item in items if item.outcome is Outcome.CHANGED] == [
        f"gone; its mount at {tmp_path}/srv/data had ended"
    ]
    assert not [item for item in items if item.outcome is Outcome.FAILED]
    assert places(disk) == [str(place)]


def test_a_dead_mount_below_that_of_another_disk_is_named_until_it_can_be_ended(
    make_disk: Callable[[int], LoopDisk], own: Callable[[str], Path], tmp_path: Path
) -> None:
    disk, other, ctx, mine = make_disk(SIZE), make_disk(SIZE), context(tmp_path), own("mine")
    taken_over(ctx, disk)
    sh("mkfs.ext4", "-q", other.node)
    for each in (disk, other):
        sh("mount", each.node, str(mine))
    away = without(system(disk, other), disk)
    (item,) = look(ctx, disk, away)
    assert (item.outcome, item.detail) == (
        Outcome.FAILED,
        f"{mine}: still mounted from {disk.name}, which has gone",
    )
    assert item.hint == f"unmount what covers it there, then run: umount -l {mine}"
    assert places(other) == [str(mine)]
    unmount(other, mine)
    assert [item.outcome for item in look(ctx, disk, away)] == [Outcome.CHANGED]
    assert places(disk) == []


def test_a_dead_mount_over_that_of_another_disk(
    make_disk: Callable[[int], LoopDisk], own: Callable[[str], Path], tmp_path: Path
) -> None:
    disk, other, ctx, mine = make_disk(SIZE), make_disk(SIZE), context(tmp_path), own("mine")
    taken_over(ctx, disk)
    sh("mkfs.ext4", "-q", other.node)
    for each in (other, disk):
        sh("mount", each.node, str(mine))
    look(ctx, disk, without(system(disk, other), disk))
    assert (places(disk), places(other)) == ([], [str(mine)])


@pytest.mark.parametrize("first", [0, 1])
def test_a_btrfs_of_two_disks_goes_on_until_the_last_one_has_gone(
    first: int, make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    one, two, ctx = make_disk(128 * MIB), make_disk(128 * MIB), context(tmp_path)
    sh("mkfs.btrfs", "-q", "-L", "data", "-d", "raid1", "-m", "raid1", one.node, two.node)
    both, at = system(one, two), f"{tmp_path}/srv/data"
    for disk in (one, two):
        look(ctx, disk, both)
    one, two = ((one, two), (two, one))[first]
    (told,) = look(ctx, one, without(both, one))
    assert told.detail == f"gone; the btrfs at {at} goes on with its other devices"
    assert os.path.ismount(at)
    (told,) = look(ctx, two, without(both, one, two))
    assert told.detail == f"gone, was mounted at {at}"
    assert os.listdir(tmp_path / "srv") == []
    assert Records(ctx.host).disks() == set()
