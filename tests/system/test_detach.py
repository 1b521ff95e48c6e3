"""Disks that are detached and mounted again, and disks that are removed: real filesystems and processes."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.block.mounts import mounts
from agent.disks import detach, removed, survey
from agent.disks import handler as handler
from agent.disks.base.record import DiskState, Records
from agent.disks.usage import holders
from agent.host.host import Host
from agent.lib.errors import Busy, ConfigError
from agent.lib.records import replace
from agent.report import Outcome
from tests.system.disks import MIB, MKFS, LoopDisk, context, sh, system, unmount, without

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.context import Context
    from agent.report import Item

SIZE = 128 * MIB
#: XFS_IOC_GOINGDOWN and XFS_FSOP_GOING_FLAGS_NOLOGFLUSH (xfs_fs.h): as after an error of its log.
SHUTDOWN, NO_LOG = 0x8004587D, (2).to_bytes(4, "little")
#: Uses a folder, and a file in it that is open or mapped, until its input ends.
SITTER = """
import mmap, os, sys
os.chdir("/")
match sys.argv[1]:
    case "folder":
        os.chdir(sys.argv[2])
    case "file":
        file = open(sys.argv[2] + "/file", "rb")
    case "mapped":
        with open(sys.argv[2] + "/file", "rb") as file:
            memory = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
print("there", flush=True)
sys.stdin.read()
"""


@contextmanager
def sitting(how: str, at: Path) -> Iterator[int]:
    """Start a process that uses the filesystem; give its process id."""
    (at / "file").write_text("x")
    argv = [sys.executable, "-c", SITTER, how, str(at)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "there\n"
        yield process.pid
        assert process.stdin
        process.stdin.close()


def mounted(disk: LoopDisk, ctx: Context, fs: str = "ext4", label: str = "data") -> Path:
    """Return the disk, mounted by the handler."""
    sh(*MKFS[fs], "-L", label, disk.node)
    assert look(ctx, disk)[0].outcome is Outcome.CHANGED
    return where(disk)


def look(ctx: Context, disk: LoopDisk, action: str = "change") -> list[Item]:
    return list(handler.handle(ctx, disk.name, action, system=system(disk)))


def where(disk: LoopDisk) -> Path:
    return Path(next((mount.mountpoint for mount in mounts(Host()) if mount.source == disk.node), ""))


def given_up(ctx: Context, disk: LoopDisk, what: str = "") -> list[Item]:
    return list(detach.detach(ctx, what or disk.name, system=system(disk)))


def test_a_disk_is_detached_and_comes_back_when_it_is_asked_for(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path)
    at = mounted(disk, ctx)
    assert given_up(ctx, disk)[-1].outcome is Outcome.CHANGED
    assert where(disk) == Path()
    assert not at.exists()
    os.close(os.open(disk.node, os.O_RDWR | os.O_EXCL))
    assert [item.detail for item in look(ctx, disk)] == ["released by the administrator"]
    (row,) = survey.disks(ctx, system=system(disk))
    assert (row.state, row.reason) == ("released", "released by the administrator")
    assert given_up(ctx, disk)[-1].outcome is Outcome.CHANGED, "a second time changes nothing"
    items = list(detach.take_back(ctx, disk.name, system=system(disk)))
    assert items[-1].outcome is Outcome.CHANGED
    assert where(disk) == at


@pytest.mark.parametrize("back", ["add", "mount stage", "another attachment"])
def test_what_brings_a_detached_disk_back(
    back: str, make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path)
    at = mounted(disk, ctx)
    given_up(ctx, disk)
    real = system(disk)
    match back:
        case "add":
            look(ctx, disk, "add")
        case "mount stage":
            list(handler.mount_all(ctx, system=real))
        case _:
            later = replace(
                real,
                read=lambda host, name: (found := real.read(host, name)) and replace(found, diskseq="n"),
            )
            list(handler.handle(ctx, disk.name, "change", system=later))
    assert where(disk) == at


def test_a_disk_that_comes_brings_no_other_one_back(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    disk, other, ctx = make_disk(SIZE), make_disk(SIZE), context(tmp_path)
    mounted(disk, ctx)
    given_up(ctx, disk)
    sh(*MKFS["ext4"], "-L", "other", other.node)
    assert look(ctx, other, "add")[0].outcome is Outcome.CHANGED
    assert [item.detail for item in look(ctx, disk)] == ["released by the administrator"]
    assert where(disk) == Path()


@pytest.mark.parametrize("fs", ["ext4", "xfs", "btrfs"])
@pytest.mark.parametrize("how", ["folder", "file", "mapped"])
def test_a_busy_disk_is_not_detached_and_who_holds_it_is_named(
    how: str, fs: str, make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    disk, ctx = make_disk(320 * MIB), context(tmp_path)
    at = mounted(disk, ctx, fs)
    before = Records(ctx.host).all()
    with sitting(how, at) as pid:
        items = given_up(ctx, disk)
        assert items[-1].outcome is Outcome.FAILED
        assert f"({pid}): {at}" in items[-1].detail
        assert holders.find_by_mountpoint(ctx.host, (str(at),)).found[0].pid == pid
    assert where(disk) == at
    assert Records(ctx.host).all() == before
    assert given_up(ctx, disk)[-1].outcome is Outcome.CHANGED


def test_a_filesystem_that_the_kernel_has_given_up_is_not_detached_and_the_remedy_is_named(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    disk, ctx = make_disk(3 * SIZE), context(tmp_path)
    at = mounted(disk, ctx, "xfs")
    (at / "file").write_text("x")
    folder = os.open(at, os.O_RDONLY)
    fcntl.ioctl(folder, SHUTDOWN, NO_LOG)
    os.close(folder)
    (item,) = given_up(ctx, disk)
    assert item.outcome is Outcome.FAILED
    assert f"umount {at}" in item.hint
    assert where(disk) == at


def test_what_is_mounted_inside_or_lies_in_use_there_is_named_too(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path)
    at = mounted(disk, ctx)
    (at / "inner").mkdir()
    sh("mount", "-t", "tmpfs", "none", str(at / "inner"))
    assert f"mount (kernel): {at}/inner" in given_up(ctx, disk)[-1].detail
    sh("umount", str(at / "inner"))
    image = LoopDisk.make(at / "image", MIB)
    try:
        assert f"{image.name} (kernel): {at}/image" in given_up(ctx, disk)[-1].detail
    finally:
        image.detach()
    image.wait_detached()
    assert given_up(ctx, disk)[-1].outcome is Outcome.CHANGED


def test_the_partitions_of_a_disk_go_together_or_not_at_all(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path)
    disk.table("label: gpt\nsize=60MiB\nsize=60MiB\n")
    for number in (1, 2):
        sh(*MKFS["ext4"], "-L", f"p{number}", f"/dev/{disk.part(number)}")
    look(ctx, disk)
    one, two = tmp_path / "srv/p1", tmp_path / "srv/p2"
    assert os.path.ismount(one)
    assert os.path.ismount(two)
    real, refused = system(disk), []

    def release(host: Host, at: str) -> None:
        if at == str(one):  # the second to go
            refused.append(os.path.ismount(two))
            host.run(("false",))
        real.release(host, at)

    items = list(detach.detach(ctx, str(two), system=replace(real, release=release)))
    assert items[-1].outcome is Outcome.FAILED
    assert refused == [False]
    assert os.path.ismount(one)
    assert os.path.ismount(two)
    options = next(mount.options for mount in mounts(Host()) if mount.mountpoint == str(two))
    assert {"nosuid", "nodev", "noatime"} <= set(options.split(","))
    assert given_up(ctx, disk)[-1].outcome is Outcome.CHANGED
    assert os.listdir(tmp_path / "srv") == []
    # What the administrator changes on it in the meantime is kept.
    disk.table("label: gpt\nsize=50MiB\n")
    sh(*MKFS["ext4"], "-F", f"/dev/{disk.part(1)}")
    look(ctx, disk)
    disk.table("label: gpt\nsize=20MiB\nsize=20MiB\nsize=20MiB\n")
    sh(*MKFS["ext4"], "-F", f"/dev/{disk.part(3)}")
    look(ctx, disk)
    assert os.listdir(tmp_path / "srv") == []


def test_partitions_made_anew_under_a_disk_unmounted_by_hand_stay_his(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    """Between two steps of sfdisk the known partition does not exist."""
    disk, ctx = make_disk(SIZE), context(tmp_path)
    disk.table("label: gpt\nsize=60MiB\n")
    sh(*MKFS["ext4"], "-L", "data", f"/dev/{disk.part(1)}")
    look(ctx, disk)
    unmount(disk, tmp_path / "srv/data")
    sh("sfdisk", "--quiet", "--no-reread", "--delete", disk.node)
    sh("partx", "--delete", disk.node)
    look(ctx, disk)
    disk.table("label: gpt\nsize=50MiB\n")
    sh(*MKFS["ext4"], "-F", "-L", "new", f"/dev/{disk.part(1)}")
    details = [item.detail for item in look(ctx, disk)]
    assert "released by the administrator" in details
    assert os.listdir(tmp_path / "srv") == []
    list(detach.take_back(ctx, disk.name, system=system(disk)))
    assert os.path.ismount(tmp_path / "srv/new")


def test_a_disk_can_be_named_in_several_ways_and_none_twice(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    one, two, ctx = make_disk(SIZE), make_disk(SIZE), context(tmp_path)
    both = system(one, two)
    for disk in (one, two):
        sh(*MKFS["ext4"], "-L", "data", disk.node)
        list(handler.handle(ctx, disk.name, "change", system=both))
    for what in (one.name, one.node, str(where(one))):
        assert detach.find(ctx, both, what).name == one.name
    with pytest.raises(ConfigError, match="more than one disk"):
        detach.find(ctx, both, "data")
    with pytest.raises(ConfigError, match="no such disk"):
        detach.find(ctx, both, "/srv/none")


def test_a_swap_disk_is_swapped_off_first(make_disk: Callable[[int], LoopDisk], tmp_path: Path) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path)
    sh("mkswap", disk.node)
    sh("swapon", disk.node)
    try:
        assert given_up(ctx, disk)[-1].outcome is Outcome.CHANGED
        assert disk.node not in Path("/proc/swaps").read_text()
    finally:
        subprocess.run(("swapoff", disk.node), check=False, capture_output=True)


def test_a_disk_that_is_being_worked_on_by_another_process_is_waited_for(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path)
    at = mounted(disk, ctx)
    monkeypatch.setattr(detach, "PATIENCE", 0.3)
    holder = f"import fcntl,sys; f=open({str(tmp_path / 'run/locks' / disk.name)!r}); fcntl.flock(f, 2)"
    argv = [sys.executable, "-c", f"{holder}; print(1, flush=True); sys.stdin.read()"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        with pytest.raises(Busy, match="still works on it"):
            given_up(ctx, disk)
        process.kill()
    assert where(disk) == at
    assert given_up(ctx, disk)[-1].outcome is Outcome.CHANGED, "the kernel frees the lock of the dead"


@pytest.mark.parametrize("fs", ["ext4", "xfs", "btrfs"])
@pytest.mark.parametrize("how", ["folder", "file", "mapped"])
def test_who_sits_on_a_disk_that_was_taken_away_is_named_until_he_leaves(
    how: str, fs: str, make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    """The mount and the folder are gone; the process is found by device number, not by a path."""
    disk, ctx = make_disk(320 * MIB), context(tmp_path)
    at = mounted(disk, ctx, fs)
    away = without(system(disk), disk)
    with sitting(how, at) as pid:
        items = list(handler.handle(ctx, disk.name, "remove", system=away))
        assert not at.exists()
        assert where(disk) == Path()
        (said,) = [item for item in items if item.outcome is Outcome.FAILED]
        assert f"({pid}):" in said.detail
        again = list(handler.handle(ctx, disk.name, "remove", system=away))
        assert [item.outcome for item in again] == [Outcome.FAILED], "also of a daemon that has just started"
        (row,) = survey.disks(ctx, system=replace(away, names=lambda _host: []))
        assert (row.state, row.holders[0].pid) == ("gone", pid)
    assert removed.in_use(ctx) == {}
    assert list(handler.handle(ctx, disk.name, "remove", system=away)) == []


def test_what_nobody_holds_leaves_nothing(make_disk: Callable[[int], LoopDisk], tmp_path: Path) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path)
    mounted(disk, ctx)
    away = without(system(disk), disk)
    items = list(handler.handle(ctx, disk.name, "remove", system=away))
    assert [item.outcome for item in items] == [Outcome.CHANGED]
    assert Records(ctx.host).removed() == {}
    assert os.listdir(tmp_path / "srv") == []


def test_a_mount_by_somebody_else_is_detached_and_stays_so(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path)
    sh(*MKFS["ext4"], "-L", "data", disk.node)
    (tmp_path / "own").mkdir()
    sh("mount", disk.node, str(tmp_path / "own"))
    assert given_up(ctx, disk)[-1].outcome is Outcome.CHANGED
    assert (tmp_path / "own").exists(), "not our folder"
    look(ctx, disk)
    assert where(disk) == Path()
    assert Records(ctx.host).all()[disk.name].state == DiskState.RELEASED
