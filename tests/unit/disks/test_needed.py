"""On which machines, and for which events, the disk handler is needed; in doubt it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.context import Context, context
from agent.disks import handler, needed
from agent.disks.base import automounter
from agent.disks.growth import root
from agent.host.host import Host
from agent.report import Item, Outcome
from tests.unit.sysfs import Sysfs, virtio

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def sysfs(tmp_path: Path) -> Sysfs:
    """The root disk vda with a mounted partition, and the swap disk vdb."""
    sysfs = Sysfs(tmp_path)
    sysfs.partition(virtio(sysfs, "vda", "254:0", "01.0"), 1, "254:1", start=8)
    virtio(sysfs, "vdb", "254:16", "02.0")
    return sysfs


@pytest.fixture
def ctx(tmp_path: Path, sysfs: Sysfs) -> Context:
    ctx = context(Host(tmp_path))
    ctx.host.write("/proc/self/mountinfo", "27 1 254:1 / / rw - ext4 /dev/vda1 rw\n")
    swapped(ctx, "/dev/vdb")
    return ctx


def swapped(ctx: Context, *names: str) -> None:
    """Set the devices in use as swap."""
    found = "".join(f"{name} partition 1 0 -2\n" for name in names)
    ctx.host.write("/proc/swaps", f"Filename Type Size Used Priority\n{found}")


def test_a_system_disk_and_a_swap_disk_are_no_data_disks(ctx: Context) -> None:
    assert not needed.has_data_disk(ctx)


def test_any_other_disk_of_the_platform_may_be_one(ctx: Context, sysfs: Sysfs) -> None:
    virtio(sysfs, "vdc", "254:32", "03.0")
    assert needed.has_data_disk(ctx)


@pytest.mark.parametrize("names", [(), ("/swapfile",), ("/dev/vdz",)])
def test_a_disk_that_is_not_swapped_on_may_be_one(ctx: Context, names: tuple[str, ...]) -> None:
    swapped(ctx, *names)
    assert needed.has_data_disk(ctx)


def test_a_swap_disk_with_one_partition_is_none(ctx: Context, sysfs: Sysfs) -> None:
    folder = next(sysfs.root.glob("sys/devices/**/block/vdb"))
    sysfs.partition(folder, 1, "254:17", start=8)
    assert needed.has_data_disk(ctx), "the partition may be anything"
    swapped(ctx, "/dev/vdb1")
    assert not needed.has_data_disk(ctx)


def test_a_second_partition_beside_swap_may_hold_data(ctx: Context, sysfs: Sysfs) -> None:
    disk = next(sysfs.root.glob("sys/devices/**/block/vdb"))
    for number in (1, 2):
        sysfs.partition(disk, number, f"254:{16 + number}", start=200 * number)
    swapped(ctx, "/dev/vdb1")
    assert needed.has_data_disk(ctx)
    swapped(ctx, "/dev/vdb1", "/dev/vdb2")
    assert not needed.has_data_disk(ctx)


def test_a_system_that_is_on_no_known_disk_leaves_every_disk_in_doubt(ctx: Context) -> None:
    ctx.host.write("/proc/self/mountinfo", "27 1 0:30 / / rw - overlay overlay rw\n")
    assert needed.has_data_disk(ctx)


@pytest.mark.parametrize(
    ("path", "bus"),
    [
        ("pci0000:00/0000:00:09.0/usb1/1-1/1-1:1.0/host6/block/sdf", "usb"),
        ("virtual/block/loop0", ""),
        ("virtual/block/zram0", ""),
    ],
)
def test_what_the_platform_does_not_attach_is_none(ctx: Context, sysfs: Sysfs, path: str, bus: str) -> None:
    if bus:
        sysfs.subsystem(path.partition("/1-1")[0], bus)
    sysfs.disk(path, "8:80")
    assert not needed.has_data_disk(ctx)


@pytest.mark.parametrize("line", ["CONFIG_ALLOW_MOUNT=0", "CONFIG_MOUNT_MODE=autofs"])
def test_a_setting_that_is_about_disks_is_heeded(ctx: Context, line: str) -> None:
    ctx.host.write("/etc/default/gandi", f"{line}\n")
    assert needed.has_data_disk(ctx)


@pytest.mark.parametrize("leads", [True, False])
def test_an_automounter_that_was_told_of_us_is_heeded(ctx: Context, leads: bool) -> None:
    if leads:
        ctx.host.write("/usr/share/gandi/gandi.autofs", "")
    ctx.host.symlink(automounter.AUTOFS_LINK, "/usr/share/gandi/gandi.autofs")
    assert needed.has_data_disk(ctx)


@pytest.mark.parametrize("name", [automounter.AUTOFS_STATE, f"{needed.RECORDS}/vdb.json"])
def test_what_was_done_in_this_boot_is_heeded(ctx: Context, name: str) -> None:
    ctx.host.write(name, "{}")
    assert needed.has_data_disk(ctx)


def test_a_disk_that_is_remembered_is_heeded(ctx: Context) -> None:
    ctx.state.remember_disk("u-u-i-d", at="/srv/x")
    assert needed.has_data_disk(ctx)


@pytest.mark.parametrize(
    ("name", "action", "who"),
    [
        ("vda", "change", "root"),
        ("vda1", "change", "root"),
        ("vda", "remove", "disk"),
        ("vdb", "change", "swap"),
        ("vdb", "remove", "disk"),
        ("vdc", "add", "disk"),
    ],
)
def test_what_deals_with_data_disks_is_not_loaded_for_the_systems_own(
    ctx: Context, monkeypatch: pytest.MonkeyPatch, name: str, action: str, who: str
) -> None:
    """Each event goes to the module that handles that kind of disk."""
    asked = list[str]()

    def noted(who: str) -> Callable[..., list[Item]]:
        def note(*_what: object) -> list[Item]:
            asked.append(who)
            return []

        return note

    monkeypatch.setattr(handler, "handle", noted("disk"))
    monkeypatch.setattr(root, "grow_on", noted("root"))
    items = list(needed.handle(ctx, name, action))
    assert (asked or [item.detail for item in items]) == (["in use as swap"] if who == "swap" else [who])


def test_a_disk_that_was_dealt_with_in_this_boot_takes_the_whole_way(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx.host.write(f"{needed.RECORDS}/vdb.json", "{}")
    looked = Item("vdb", Outcome.UNCHANGED)
    monkeypatch.setattr(handler, "handle", lambda *_what: [looked])
    assert list(needed.handle(ctx, "vdb", "change")) == [looked]
