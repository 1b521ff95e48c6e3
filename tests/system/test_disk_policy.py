"""Each case of the policy's table on a real device: what libblkid, the kernel and the settings say of it,
and that it is left as it is. Decisions on facts alone are tested in tests/unit/disks/test_policy.py.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.block import mounts, storage
from agent.disks import handler as handler
from agent.host.host import Host
from agent.lib.records import replace
from agent.report import Outcome
from tests import media
from tests.system.disks import MIB, LoopDisk, context, sh, system

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.block.storage import Disk
    from agent.context import Context
    from agent.disks.base.system import System

SIZE = 64 * MIB
EXT4 = ("mkfs.ext4", "-q", "-F", "-L", "data")
EFI, NO_AUTO = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "GUID:63"
LUKS = (
    b"LUKS\xba\xbe\x00\x01"
    + b"aes".ljust(32, b"\0")
    + b"xts-plain64".ljust(32, b"\0")
    + b"sha256".ljust(32, b"\0")
)


def put(disk: LoopDisk, offset: int, data: bytes) -> None:
    """Write to the device."""
    with open(disk.node, "r+b") as device:
        device.seek(offset)
        device.write(data)


def two_signatures(disk: LoopDisk) -> None:
    """ext4 does not touch the first KiB, nor what swap writes at the end of the first page."""
    sh(*EXT4, disk.node)
    put(disk, 4086, b"SWAPSPACE2")
    put(disk, 65536 + 64, b"_BHRfS_M")  # and btrfs' magic


#: What is made of the disk, and the reason; {0} is its name.
ON_IT: dict[str, tuple[Callable[[LoopDisk], object], str]] = {
    "blank": (lambda disk: None, "no filesystem on it"),
    "swap": (lambda disk: sh("mkswap", disk.node), "a swap disk"),
    "lvm": (lambda disk: sh("pvcreate", "-qq", "-y", disk.node), "holds an LVM volume"),
    "raid": (lambda disk: put(disk, *media.md_superblock(SIZE)), "holds linux_raid_member"),
    "luks": (lambda disk: put(disk, 0, LUKS.ljust(592, b"\0")), "encrypted"),
    "unknown": (lambda disk: sh("mkfs.minix", disk.node), "minix is not mounted by itself"),
    "config drive": (lambda disk: sh("mkfs.vfat", "-n", "CONFIG-2", disk.node), "a configuration drive"),
    "empty table": (lambda disk: table(disk, ""), "an empty partition table"),
}
#: The one partition of the disk, in sfdisk's words.
PARTITIONS = {
    "efi": (f"type={EFI}", "an EFI system partition"),
    "swap by name": ('name="gandiswap"', "the swap disk"),
    "not automatically": (f'attrs="{NO_AUTO}"', "its partition says that it is not to be mounted"),
}
SETTINGS = {
    "ignored": ("CONFIG_DISK_IGNORE=da*", "CONFIG_DISK_IGNORE=da*"),
    "only others": ("CONFIG_DISK_ONLY=other", "not in CONFIG_DISK_ONLY"),
    "off": ("CONFIG_MOUNT_MODE=off", "mount mode off"),
    "its label is the drive's": ("CONFIG_CONFIGDRIVE_LABEL=data", "a configuration drive"),
}


def table(disk: LoopDisk, lines: str) -> None:
    """Write a GPT; the kernel's table is updated if there is a partition."""
    sh("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", disk.node, stdin=f"label: gpt\n{lines}\n")
    if lines:
        sh("partx", "--update", disk.node)


def left(ctx: Context, disk: LoopDisk, on: System | None = None) -> str:
    """Look at the disk, which is left; the reason. Not a byte of it has changed."""
    before = disk.digest()
    done = list(handler.handle(ctx, disk.name, "add", system=on or system(disk)))
    assert {item.outcome for item in done} <= {Outcome.SKIPPED}, done
    assert not os.listdir(ctx.settings.disk_root)
    assert disk.digest() == before
    return "; ".join(item.detail for item in done)


@pytest.mark.parametrize("case", ON_IT)
def test_what_is_on_it(case: str, make_disk: Callable[[int], LoopDisk], tmp_path: Path) -> None:
    make, reason = ON_IT[case]
    disk = make_disk(SIZE)
    make(disk)
    assert left(context(tmp_path), disk).startswith(reason)


@pytest.mark.parametrize("case", PARTITIONS)
def test_what_its_partition_says(case: str, make_disk: Callable[[int], LoopDisk], tmp_path: Path) -> None:
    words, reason = PARTITIONS[case]
    disk = make_disk(SIZE)
    table(disk, words)
    sh(*EXT4, f"/dev/{disk.part(1)}")
    assert left(context(tmp_path), disk).startswith(reason)


@pytest.mark.parametrize("case", SETTINGS)
def test_what_the_settings_say(case: str, make_disk: Callable[[int], LoopDisk], tmp_path: Path) -> None:
    line, reason = SETTINGS[case]
    disk = make_disk(SIZE)
    sh(*EXT4, disk.node)
    assert left(context(tmp_path, f"{line}\n"), disk) == reason


@pytest.mark.parametrize("line", ["UUID={uuid} /data ext4 noauto 0 0", "LABEL=data /data ext4 defaults 0 0"])
def test_what_fstab_names(
    line: str, make_disk: Callable[[int], LoopDisk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, ctx, real = make_disk(SIZE), context(tmp_path), mounts.claims
    sh(*EXT4, disk.node)
    uuid = sh("blkid", "-p", "-o", "value", "-s", "UUID", disk.node)
    (tmp_path / "etc/fstab").write_text(f"# fstab\n{line.format(uuid=uuid)}\n")
    monkeypatch.setattr(mounts, "claims", lambda _host: real(Host(tmp_path)))
    assert left(ctx, disk) == "the administrator's: /etc/fstab line 2"


@pytest.mark.parametrize("flag", ["SYSTEMD_READY=0", "UDISKS_IGNORE=1", "DM_MULTIPATH_DEVICE_PATH=1"])
def test_what_udev_says(flag: str, make_disk: Callable[[int], LoopDisk], tmp_path: Path) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path)
    sh(*EXT4, disk.node)
    real, (name, value) = system(disk), flag.split("=")

    def read(host: Host, kernel_name: str) -> object:
        found = real.read(host, kernel_name)
        if found is None:
            return None
        return replace(found, device=replace(found.device, udev={**found.device.udev, name: value}))

    told = left(ctx, disk, replace(real, read=read))  # type: ignore[arg-type]  # one property more
    assert told == f"udev says {flag}"


def test_several_signatures(make_disk: Callable[[int], LoopDisk], tmp_path: Path) -> None:
    disk = make_disk(SIZE)
    two_signatures(disk)
    assert left(context(tmp_path), disk) == "more than one signature on it"


def test_swap_that_is_in_use(make_disk: Callable[[int], LoopDisk], tmp_path: Path) -> None:
    disk = make_disk(SIZE)
    sh("mkswap", disk.node)
    sh("swapon", disk.node)
    try:
        assert left(context(tmp_path), disk) == "in use as swap"
    finally:
        sh("swapoff", disk.node)


def test_a_read_only_disk_is_mounted_so(make_disk: Callable[[int], LoopDisk], tmp_path: Path) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path)
    sh(*EXT4, disk.node)
    sh("blockdev", "--setro", disk.node)
    (item,) = handler.handle(ctx, disk.name, "add", system=system(disk))
    assert item.outcome is Outcome.CHANGED
    (mount,) = (mount for mount in mounts.mounts(Host()) if mount.source == disk.node)
    assert os.statvfs(mount.mountpoint).f_flag & os.ST_RDONLY


def test_two_partitions_of_one_label_and_one_in_the_way(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path)
    table(disk, "size=16M\nsize=16M")
    for number in (1, 2):
        sh(*EXT4, f"/dev/{disk.part(number)}")
    (tmp_path / "srv/data").write_text("a file that is in the way")
    list(handler.handle(ctx, disk.name, "add", system=system(disk)))
    places = {m.source: m.mountpoint for m in mounts.mounts(Host()) if disk.is_source(m.source)}
    assert places == {
        f"/dev/{disk.part(1)}": f"{tmp_path}/srv/data_2",
        f"/dev/{disk.part(2)}": f"{tmp_path}/srv/data_3",
    }


def blank_for_udev(disk: LoopDisk, **udev: str) -> System:
    """Return the system in which udev says that nothing is on the disk's devices."""
    real = system(disk)

    def read(host: Host, name: str) -> Disk | None:
        found = real.read(host, name)
        if found is None:
            return None
        blank = {"USEC_INITIALIZED": "1", **udev}
        parts = tuple(
            replace(part, udev={**blank, "ID_PART_TABLE_TYPE": "gpt"}) for part in found.partitions
        )
        return storage.with_contents(
            host, replace(found, device=replace(found.device, udev=blank), partitions=parts)
        )

    return replace(real, read=read)


@pytest.mark.parametrize("fs", ["ext4", "xfs", "btrfs", "vfat", "f2fs", "exfat"])
def test_what_udev_has_missed_is_found(
    fs: str, make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    """udev's record stays blank after a mkfs(8) right behind a wipefs(8): what is there is found."""
    whole, parted, label = make_disk(400 * MIB), make_disk(400 * MIB), {"vfat": "-n", "f2fs": "-l"}
    parted.table("label: gpt\nsize=350M\n")
    for node in (whole.node, f"/dev/{parted.part(1)}"):
        sh(f"mkfs.{fs}", label.get(fs, "-L"), "DATA", node)
    found = [blank_for_udev(disk).read(Host(), disk.name) for disk in (whole, parted)]
    assert [[(device.fstype, device.label) for device in disk.devices] for disk in found if disk] == [
        [(fs, b"DATA")],
        [("", b""), (fs, b"DATA")],
    ]
    if fs == "ext4":
        items = handler.handle(context(tmp_path), whole.name, "change", system=blank_for_udev(whole))
        assert [item.detail for item in items] == [f"mounted at {tmp_path}/srv/DATA"]


def test_what_udev_is_to_see_or_not_to_see_is_left(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    """A mkfs(8) that still writes has the disk exclusively; a rule may hide what is on it."""
    disk, ctx = make_disk(SIZE), context(tmp_path)
    sh(*EXT4, disk.node)

    def look(**udev: str) -> list[tuple[Outcome, str]]:
        items = handler.handle(ctx, disk.name, "change", system=blank_for_udev(disk, **udev))
        return [(item.outcome, item.detail) for item in items]

    nothing = [(Outcome.SKIPPED, "no filesystem on it")]
    held = os.open(disk.node, os.O_RDONLY | os.O_EXCL)
    assert look() == nothing
    os.close(held)
    assert look(UDEV_DISABLE_PERSISTENT_STORAGE_RULES_FLAG="1") == nothing
    assert look()[0][0] is Outcome.CHANGED
