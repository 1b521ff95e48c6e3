"""Disks that come and go: names, copies, checks, release by the administrator, removal. Real
filesystems, real mounts.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.block.mounts import mounts
from agent.disks import handler as handler
from agent.disks import mounting, survey
from agent.disks.base.record import Records
from agent.host.host import Host
from agent.lib.errors import HostError
from agent.lib.records import replace
from agent.report import Outcome
from agent.state.store import State
from tests.system.disks import MIB, LoopDisk, context, sh, system, unmount, without

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.block.storage import Disk
    from agent.context import Context
    from agent.disks.base.system import System
    from agent.report import Item

SIZE = 64 * MIB


def ext4(disk: LoopDisk, *options: str) -> None:
    sh("mkfs.ext4", "-q", "-F", *options, disk.node)


def look(ctx: Context, disk: LoopDisk, on: System | None = None) -> list[Item]:
    return list(handler.handle(ctx, disk.name, "change", system=on or system(disk)))


def another(disk: LoopDisk) -> System:
    """Return the system with another disk of the same name and number in the place of the last one."""
    real = system(disk)

    def read(host: Host, name: str) -> Disk | None:
        found = real.read(host, name)
        return replace(found, diskseq="another") if found else None

    return replace(real, read=read)


def mounted() -> dict[str, str]:
    """Where each loop device is mounted."""
    return {mount.source.removeprefix("/dev/"): mount.mountpoint for mount in mounts(Host())}


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("data", "data"),
        ("../../etc", "_._.._etc"),
        ("a\nb", "a_b"),
        ("..", "_."),
        ("a b/c", "a_b_c"),
        ("dépôt", "dépôt"),
    ],
)
def test_a_label_becomes_a_folder_below_the_root_and_nothing_else(
    label: str, name: str, make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path)
    ext4(disk, "-L", label)
    assert [item.outcome for item in look(ctx, disk)] == [Outcome.CHANGED]
    assert os.listdir(tmp_path / "srv") == [name]
    assert os.path.ismount(tmp_path / "srv" / name)


def test_without_a_label_the_device_gives_the_name(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path)
    ext4(disk)
    look(ctx, disk)
    assert mounted()[disk.name] == f"{tmp_path}/srv/{disk.name}"
    options = next(
        line.split(" ")[5]
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if disk.node in line.split(" ")
    )
    assert {"rw", "nosuid", "nodev", "noatime"} <= set(options.split(","))


def test_one_label_twice_keeps_its_places_in_any_order(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    one, two, ctx = make_disk(SIZE), make_disk(SIZE), context(tmp_path)
    for disk in (one, two):
        ext4(disk, "-L", "data")
    both = system(one, two)
    assert [i.outcome for i in handler.mount_all(ctx, system=both)] == [Outcome.CHANGED] * 2
    assert mounted()[one.name] == f"{tmp_path}/srv/data"
    assert mounted()[two.name] == f"{tmp_path}/srv/data_2"
    for disk in (one, two):
        unmount(disk, disk.node)
    shutil.rmtree(tmp_path / "run/disks")  # the machine boots again
    other_way = replace(both, names=lambda _host: [two.name, one.name])
    assert [i.outcome for i in handler.mount_all(ctx, system=other_way)] == [Outcome.CHANGED] * 2
    assert mounted()[one.name] == f"{tmp_path}/srv/data"
    assert mounted()[two.name] == f"{tmp_path}/srv/data_2"


def test_a_copy_of_what_is_mounted_is_left(make_disk: Callable[[int], LoopDisk], tmp_path: Path) -> None:
    """Both have the same filesystem UUID."""
    one, two, ctx = make_disk(SIZE), make_disk(SIZE), context(tmp_path)
    ext4(one, "-L", "data")
    both = system(one, two)
    look(ctx, one, both)
    sh("sync")
    two.image.write_bytes(one.image.read_bytes())
    items = look(ctx, two, both)
    assert [item.outcome for item in items] == [Outcome.SKIPPED]
    assert "same filesystem UUID" in items[0].detail
    assert two.name not in mounted()


def test_links_and_files_in_the_way_are_not_followed(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path)
    ext4(disk, "-L", "data")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "srv/data").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "srv/data_2").write_text("a file")
    look(ctx, disk)
    assert mounted()[disk.name] == f"{tmp_path}/srv/data_3"


def test_a_folder_with_something_in_it_is_mounted_over_with_a_word(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path)
    ext4(disk, "-L", "data")
    (tmp_path / "srv/data").mkdir()
    (tmp_path / "srv/data/old").write_text("x")
    assert "not empty" in look(ctx, disk)[0].detail


def test_released_by_the_administrator_stays_so_until_asked(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path)
    ext4(disk, "-L", "data")
    look(ctx, disk)
    unmount(disk, disk.node)
    assert [item.detail for item in look(ctx, disk)] == ["released by the administrator"]
    ext4(disk, "-L", "new")  # mkfs under their hands makes another event
    assert [item.detail for item in look(ctx, disk)] == ["released by the administrator"]
    assert disk.name not in mounted()
    list(handler.mount_all(ctx, system=system(disk)))  # systemctl restart gandi-mount
    assert mounted()[disk.name] == f"{tmp_path}/srv/new"


def test_a_disk_whose_mount_ends_by_itself_leaves_nothing(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    """PID 1 ends the mount of a device that has gone; asked for a unit that went with it, it refuses."""
    disk, ctx = make_disk(SIZE), context(tmp_path)
    ext4(disk, "-L", "data")
    look(ctx, disk)

    def lose(host: Host, at: str) -> None:
        host.run(("umount", "--lazy", at))
        raise HostError("Unit srv-data.mount not loaded.")

    gone = replace(without(system(disk), disk), unmount=lose)
    assert [item.outcome for item in look(ctx, disk, gone)] == [Outcome.CHANGED]
    assert os.listdir(tmp_path / "srv") == []


def test_a_disk_that_goes_leaves_nothing_and_may_come_back(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path)
    ext4(disk, "-L", "data")
    look(ctx, disk)
    look(ctx, disk)  # a second look must not forget that the folder is ours
    gone = without(system(disk), disk)
    items = look(ctx, disk, gone)
    assert [item.outcome for item in items] == [Outcome.CHANGED]
    assert disk.name not in mounted()
    assert os.listdir(tmp_path / "srv") == []
    assert look(ctx, disk, gone) == []
    look(ctx, disk)
    assert mounted()[disk.name] == f"{tmp_path}/srv/data"


def _dies(when: str, ctx: Context, disk: LoopDisk, real: System) -> None:
    """A look at the disk by a daemon that is killed before, or after, the mount itself."""

    def mount(host: Host, node: str, at: str, fstype: str, options: str) -> None:
        if when == "after":
            real.mount(host, node, at, fstype, options)
        os._exit(9)

    daemon = os.fork()
    if not daemon:
        look(ctx, disk, replace(real, mount=mount))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(daemon, 0)[1]) == 9


@pytest.mark.parametrize("dies", ["before", "after"])
def test_a_daemon_that_dies_while_it_mounts_leaves_no_folder_for_good(
    dies: str, make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    """The next daemon finds in the disk's record that the folder was made for it."""
    disk, ctx = make_disk(SIZE), context(tmp_path)
    ext4(disk, "-L", "data")
    real = system(disk)
    _dies(dies, ctx, disk, real)
    assert os.listdir(tmp_path / "srv") == ["data"]
    look(ctx, disk)
    look(ctx, disk, without(real, disk))
    assert os.listdir(tmp_path / "srv") == []


@pytest.mark.parametrize("dies", ["before", "after"])
def test_a_daemon_that_dies_while_it_mounts_and_a_disk_that_goes_before_the_next_one(
    dies: str, make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    """The next daemon gets no event for the disk, but finds its record and removes the folder."""
    disk, ctx = make_disk(SIZE), context(tmp_path)
    ext4(disk, "-L", "data")
    real = system(disk)
    _dies(dies, ctx, disk, real)
    assert Records(ctx.host).disks() == {disk.name}
    items = look(ctx, disk, without(real, disk))
    assert [item.outcome for item in items] == [Outcome.CHANGED]
    assert disk.name not in mounted()
    assert os.listdir(tmp_path / "srv") == []
    assert Records(ctx.host).disks() == set()


def test_a_disk_that_went_while_the_machine_was_down_leaves_no_folder(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    """The records in /run are lost with a power cut; a folder that is not empty is never removed."""
    disk, other, ctx = make_disk(SIZE), make_disk(SIZE), context(tmp_path)
    for label, one in (("data", disk), ("kept", other)):
        ext4(one, "-L", label)
        look(ctx, one)
        unmount(one, tmp_path / "srv" / label)
    (tmp_path / "srv/kept/file").touch()
    shutil.rmtree(tmp_path / "run/disks")
    nothing = replace(system(disk), names=lambda _host: [])
    list(handler.mount_all(ctx, system=nothing))
    assert os.listdir(tmp_path / "srv") == ["kept"]


def test_a_folder_that_was_there_before_stays(make_disk: Callable[[int], LoopDisk], tmp_path: Path) -> None:
    """Also where the disk's former folder was ours."""
    disk, ctx = make_disk(SIZE), context(tmp_path)
    ext4(disk, "-L", "data")
    for made in ([], ["data"]):
        for name in made:
            (tmp_path / "srv" / name).mkdir()
        look(ctx, disk)
        look(ctx, disk, without(system(disk), disk))
        assert os.listdir(tmp_path / "srv") == made


def test_another_disk_in_the_place_of_the_last_one_is_not_taken_for_it(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path)
    ext4(disk, "-L", "data")
    look(ctx, disk)
    again = replace(another(disk), name_of=without(system(disk), disk).name_of)
    items = look(ctx, disk, again)
    assert items[0].detail.startswith("gone, was mounted at")
    assert mounted()[disk.name] == f"{tmp_path}/srv/data"


@pytest.mark.parametrize(
    "asked",
    [
        ("tune2fs", "-c", "5", "-C", "9"),
        ("debugfs", "-w", "-R", "ssv state 2"),
        ("debugfs", "-w", "-R", "ssv state 0"),
    ],
)
def test_a_filesystem_that_asks_for_a_check_gets_one_first(
    asked: tuple[str, ...], make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path)
    ext4(disk, "-L", "data")
    sh(*asked, disk.node)
    written: list[str] = []
    real = system(disk)

    def write(host: object, unit: str, node: str, argv: tuple[str, ...], stdin: str = "") -> None:
        written.append(unit)
        real.write(ctx.host, unit, node, argv, stdin)

    assert [i.outcome for i in look(ctx, disk, replace(real, write=write))] == [Outcome.CHANGED]
    assert written == [f"gandi-fsck-{disk.name}"]
    assert mounted()[disk.name] == f"{tmp_path}/srv/data"


def test_a_filesystem_that_cannot_be_repaired_by_itself_is_not_mounted_and_checked_once(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path)
    ext4(disk, "-L", "data")
    sh("debugfs", "-w", "-R", "ssv state 2", disk.node)
    sh("debugfs", "-w", "-R", "clri <2>", disk.node)  # the root folder's inode
    asked: list[str] = []
    real = system(disk)

    def write(host: object, unit: str, node: str, argv: tuple[str, ...], stdin: str = "") -> None:
        asked.append(unit)
        real.write(ctx.host, unit, node, argv, stdin)

    for _ in range(2):
        items = look(ctx, disk, replace(real, write=write))
        assert [item.outcome for item in items] == [Outcome.FAILED]
        assert "fsck.ext4" in items[0].hint
    assert disk.name not in mounted()
    assert os.listdir(tmp_path / "srv") == []
    assert len(asked) == 1


def test_a_disk_that_somebody_has_locked_is_left(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path)
    ext4(disk, "-L", "data")
    import fcntl

    with open(disk.node, "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "locked" in look(ctx, disk)[0].detail
    assert look(ctx, disk)[0].outcome is Outcome.CHANGED


def test_a_disk_in_exclusive_use_is_left(make_disk: Callable[[int], LoopDisk], tmp_path: Path) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path)
    ext4(disk, "-L", "data")
    held = os.open(disk.node, os.O_RDONLY | os.O_EXCL)
    items = look(ctx, disk)
    os.close(held)
    assert [(item.outcome, item.detail) for item in items] == [
        (Outcome.SKIPPED, "in exclusive use by another program")
    ]
    assert os.listdir(tmp_path / "srv") == []


def test_a_mount_that_fails_leaves_no_folder_and_the_others_go_on(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    bad, good, ctx = make_disk(SIZE), make_disk(SIZE), context(tmp_path)
    ext4(bad, "-L", "bad")
    ext4(good, "-L", "good")
    with open(bad.node, "r+b") as device:  # the group descriptors: the superblock stays, the kernel refuses
        device.seek(2048)
        device.write(b"\xff" * 4096)
        device.seek(4096)
        device.write(b"\xff" * 4096)
    items = list(handler.mount_all(ctx, system=system(bad, good)))
    assert [item.outcome for item in items] == [Outcome.FAILED, Outcome.CHANGED]
    assert os.listdir(tmp_path / "srv") == ["good"]


def test_a_check_is_waited_for_two_seconds_and_its_end_is_recorded(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    import threading

    asks, good, ctx = make_disk(SIZE), make_disk(SIZE), context(tmp_path)
    ext4(asks, "-L", "asks")
    sh("tune2fs", "-c", "1", "-C", "5", asks.node)
    ext4(good, "-L", "good")
    real, go = system(asks, good), threading.Event()

    def write(*arguments: object) -> None:
        go.wait(30)
        real.write(*arguments)

    begun = time.monotonic()
    items = list(handler.mount_all(ctx, system=replace(real, write=write)))
    assert time.monotonic() - begun < 4
    told = {item.name: item for item in items}
    assert told[good.name].outcome is Outcome.CHANGED
    assert told[asks.name].outcome is Outcome.SKIPPED, "the stage has not failed"
    assert "the check of" in told[asks.name].detail
    entry = ctx.status.read()["devices"][asks.name]
    assert entry["outcome"] == Outcome.FAILED
    assert ctx.status.read()["work"][asks.name]["waiting"].startswith("the check of")
    go.set()
    deadline = time.monotonic() + 30
    while ctx.status.read()["devices"][asks.name]["outcome"] == Outcome.FAILED:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert mounted()[asks.name] == f"{tmp_path}/srv/asks"
    assert asks.name not in ctx.status.read()["work"]


def test_a_disk_that_hangs_is_named_in_time_and_the_rest_is_there(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    import threading

    slow, good = make_disk(SIZE), make_disk(SIZE)
    ctx = context(tmp_path, "CONFIG_MOUNT_TIMEOUT=1\n")
    ext4(slow, "-L", "slow")
    ext4(good, "-L", "good")
    real, go, ended = system(slow, good), threading.Event(), threading.Event()

    def mount(host: object, node: str, at: str, fstype: str, options: str) -> None:
        if node == slow.node:
            go.wait(20)
        real.mount(ctx.host, node, at, fstype, options)
        if node == slow.node:
            ended.set()

    items = list(handler.mount_all(ctx, system=replace(real, mount=mount)))
    assert [(item.name, item.outcome) for item in items] == [
        (good.name, Outcome.CHANGED),
        (slow.name, Outcome.FAILED),
    ]
    go.set()
    assert ended.wait(20)
    deadline = threading.Event()
    for _ in range(200):
        if slow.name in ctx.status.read()["devices"]:
            break
        deadline.wait(0.05)
    assert ctx.status.read()["devices"][slow.name]["outcome"] == "changed"


def test_what_is_used_by_others_is_left_with_the_reason(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    swap, pv, blank = make_disk(SIZE), make_disk(SIZE), make_disk(SIZE)
    sh("mkswap", swap.node)
    sh("pvcreate", "-qq", "-y", "--config", "global{use_lvmpolld=0}", pv.node)
    ctx = context(tmp_path)
    rows = survey.disks(ctx, system=system(swap, pv, blank))
    assert {(row.state, row.decision) for row in rows} == {("left", "leave")}
    reasons = [row.reason for row in rows]
    assert reasons[0] == "a swap disk"
    assert "LVM" in reasons[1]
    assert reasons[2] == "no filesystem on it"


def test_describe_changes_nothing_and_tells_what_is_mounted(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path)
    ext4(disk, "-L", "data")
    (row,) = survey.disks(ctx, system=system(disk))
    assert (row.state, row.decision, row.mountpoint) == ("not mounted", "mount", f"{tmp_path}/srv/data")
    assert ctx.state.disks() == {}
    look(ctx, disk)
    (row,) = survey.disks(ctx, system=system(disk))
    assert (row.state, row.decision, row.mountpoint) == ("mounted", "keep", f"{tmp_path}/srv/data")


def test_the_owner_of_the_mountpoint_is_set_when_it_is_wanted(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path, "CONFIG_MOUNT_OWNER=root:1001:0775\n")
    ext4(disk, "-L", "data")
    look(ctx, disk)
    info = (tmp_path / "srv/data").stat()
    assert (info.st_uid, info.st_gid, info.st_mode & 0o7777) == (0, 1001, 0o775)


def test_a_plan_mounts_nothing(make_disk: Callable[[int], LoopDisk], tmp_path: Path) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path)
    ext4(disk, "-L", "data")
    ctx.host.dry_run = ctx.state.host.dry_run = True
    items = list(handler.mount_all(ctx, system=system(disk)))
    assert [item.outcome for item in items] == [Outcome.CHANGED]
    assert any("mount" in line for line in ctx.host.planned)
    assert disk.name not in mounted()
    assert os.listdir(tmp_path / "srv") == []
    assert subprocess.run(("ls", str(tmp_path / "var")), capture_output=True).returncode != 0


def test_a_mountpoint_that_cannot_be_remembered_is_a_failure_and_a_mount(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The root filesystem is full: no reason to boot without the data."""
    disk, ctx = make_disk(SIZE), context(tmp_path)
    ext4(disk, "-L", "data")

    def full(*_args: object, **_facts: object) -> None:
        raise HostError("/var/lib/gandi/disks.json: cannot be written: No space left on device")

    monkeypatch.setattr(State, "remember_disk", full)
    items = list(handler.mount_all(ctx, system=system(disk)))
    assert [item.outcome for item in items] == [Outcome.FAILED, Outcome.CHANGED]
    assert "No space left" in items[0].detail
    assert mounted()[disk.name] == f"{tmp_path}/srv/data"


def test_a_device_that_fails_costs_its_neighbour_nothing(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even for the next look: a device that was to be mounted is not "being mounted" for ever."""
    disk, ctx = make_disk(2 * SIZE), context(tmp_path)
    disk.table(f"label: gpt\nsize={SIZE // 2 // MIB}M\nsize={SIZE // 2 // MIB}M\n")
    for number in (1, 2):
        sh("mkfs.ext4", "-q", "-F", "-L", f"data{number}", f"/dev/{disk.part(number)}")
    look(ctx, disk)
    shutil.rmtree(tmp_path / "run/disks")
    sh("umount", f"/dev/{disk.part(2)}")

    def full(*_args: object) -> None:
        raise HostError("/run/gandi/disks/vdb.json: cannot be written: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(mounting, "record_existing_mount", full)
        items = look(ctx, disk)
    assert [item.outcome for item in items] == [Outcome.FAILED, Outcome.CHANGED]
    assert mounted()[disk.part(2)] == f"{tmp_path}/srv/data2"


def test_a_disk_that_cannot_be_read_is_named_at_once(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    bad, good, ctx = make_disk(SIZE), make_disk(SIZE), context(tmp_path)
    ext4(good, "-L", "good")
    ext4(bad, "-L", "bad")
    real = system(bad, good)
    look(ctx, bad, real)

    def read(host: Host, name: str) -> object:
        if name == bad.name:
            raise ValueError(name)
        return real.read(host, name)

    begun = time.monotonic()
    items = list(handler.mount_all(ctx, system=replace(real, read=read)))  # type: ignore[arg-type]  # as above
    assert time.monotonic() - begun < 10
    assert [(item.name, item.outcome) for item in items] == [
        (bad.name, Outcome.FAILED),
        (good.name, Outcome.CHANGED),
    ]
    assert mounted()[bad.name] == f"{tmp_path}/srv/bad", "what cannot be read has not gone"
