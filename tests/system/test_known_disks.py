"""Which data disks are left to PID 1 for the next boot, and how; real filesystems, real mounts."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.disks import handler as handler
from agent.disks import known_mounts, survey
from agent.systemd import boot_mounts
from tests.system.disks import MIB, LoopDisk, context, sh, system, unmount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIZE = 64 * MIB
LINKS = Path("/dev/disk/by-uuid")
NEVER = ("mkfs.ext4", "-q", "-F", "-L", "data")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that replaces the build host's own units."""
    place = tmp_path / "units"
    place.mkdir()
    monkeypatch.setattr(boot_mounts, "FOLDER", str(place))
    monkeypatch.setattr(boot_mounts, "WANTS", f"{place}/gandi-disks.target.wants")
    return place


@contextlib.contextmanager
def linked(*disks: LoopDisk) -> Iterator[None]:
    """Make the link that udev would make, which does not run here."""
    LINKS.mkdir(parents=True, exist_ok=True)
    links = [LINKS / sh("blkid", "-p", "-o", "value", "-s", "UUID", disk.node) for disk in disks]
    for link, disk in zip(links, disks, strict=True):
        link.symlink_to(disk.node)
    try:
        yield
    finally:
        for link in links:
            link.unlink(missing_ok=True)


def test_a_mounted_disk_is_left_and_taken_away_when_it_is_so_no_more(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path, folder: Path
) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path)
    sh(*NEVER, disk.node)
    real = system(disk)
    list(handler.mount_all(ctx, system=real))
    with linked(disk):
        uuids = known_mounts.write_units(ctx, system=real)
        (unit,) = boot_mounts.agent_units(ctx.host)
        text = (folder / unit).read_text()
        assert uuids == {sh("blkid", "-p", "-o", "value", "-s", "UUID", disk.node)}
        assert f"\nWhere={tmp_path}/srv/data\n" in text
        assert "\nType=ext4\nOptions=rw,nosuid,nodev,noatime\nLazyUnmount=yes\n" in text
        assert os.readlink(folder / "gandi-disks.target.wants" / unit) == f"../{unit}"
        assert sh("systemd-escape", "--path", "--suffix=mount", f"{tmp_path}/srv/data") == unit
        assert known_mounts.write_units(ctx, system=real) == uuids
        # A unit that the administrator changed is kept, and its disk counts as not mounted by PID 1.
        (folder / unit).write_text(text + "# mine\n")
        assert known_mounts.write_units(ctx, system=real) == frozenset()
        assert (folder / unit).read_text().endswith("# mine\n")
        (folder / unit).write_text(text)
        unmount(disk, disk.node)
        assert known_mounts.write_units(ctx, system=real) == frozenset()
    assert list(folder.iterdir()) == []


def test_the_table_takes_a_mount_by_such_a_unit_for_the_agents(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path)
    sh(*NEVER, disk.node)
    real = system(disk)
    list(handler.mount_all(ctx, system=real))
    with linked(disk):
        known_mounts.write_units(ctx, system=real)
    shutil.rmtree(tmp_path / "run/disks")  # as in a boot in which only PID 1 has mounted it
    (row,) = survey.disks(ctx, system=real)
    assert (row.state, row.reason) == ("mounted", "")
    boot_mounts.remove_all(ctx.host)
    (row,) = survey.disks(ctx, system=real)
    assert (row.state, row.reason) == ("mounted", "not by the agent")


@pytest.mark.parametrize(
    "setting", ["CONFIG_ALLOW_MOUNT=0", "CONFIG_MOUNT_MODE=notify", "CONFIG_MOUNT_MODE=off", "a hook"]
)
def test_none_is_left_where_a_boot_does_more_or_less_than_mount(
    setting: str, make_disk: Callable[[int], LoopDisk], tmp_path: Path, folder: Path
) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path)
    sh(*NEVER, disk.node)
    real = system(disk)
    list(handler.mount_all(ctx, system=real))
    with linked(disk):
        assert known_mounts.write_units(ctx, system=real)
        if setting == "a hook":
            setting = f"GANDI_HOOK_DIR={tmp_path}"
            (tmp_path / "post-disk-attach").write_text("#!/bin/sh\n")
        with (tmp_path / "etc/default/gandi").open("a") as settings:
            settings.write(f"{setting}\n")
        assert known_mounts.write_units(ctx, system=real) == frozenset()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "asks", [("-c", "30"), ("-i", "6m"), ("-O", "^has_journal")], ids=["mounts", "time", "no journal"]
)
def test_one_that_may_want_a_check_is_left_to_the_stage(
    asks: tuple[str, ...], make_disk: Callable[[int], LoopDisk], tmp_path: Path, folder: Path
) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path)
    sh(*NEVER, disk.node)
    sh("tune2fs", *asks, disk.node)
    real = system(disk)
    list(handler.mount_all(ctx, system=real))
    assert os.path.ismount(tmp_path / "srv/data")
    with linked(disk):
        assert known_mounts.write_units(ctx, system=real) == frozenset()
    assert list(folder.iterdir()) == []


def test_a_copy_that_udevs_link_leads_to_is_no_known_disk(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    disk, copy, ctx = make_disk(SIZE), make_disk(SIZE), context(tmp_path)
    sh(*NEVER, disk.node)
    copy.image.write_bytes(disk.image.read_bytes())
    real = system(disk)
    list(handler.mount_all(ctx, system=real))
    with linked(copy):
        assert known_mounts.write_units(ctx, system=real) == frozenset()
