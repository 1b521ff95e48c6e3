"""Each case of the policy's table on a real device: what libblkid, the kernel and the settings say of it,
and that it is left as it is. Decisions on facts alone are tested in tests/unit/disks/test_policy.py.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agent.block import mounts, storage
from agent.disks import handler as handler
from agent.disks.base.record import Records
from agent.host.host import Completed, Host
from agent.lib.records import replace
from agent.report import Outcome
from tests import media
from tests.system.disks import MIB, LoopDisk, context, sh, system

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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


class Udev:
    """udev that has missed what is on a disk, until it is made to look again; a rule may hide it."""

    def __init__(self, disk: LoopDisk, monkeypatch: pytest.MonkeyPatch, **properties: str) -> None:
        self.blank = {"USEC_INITIALIZED": "1", **properties}
        self.looked, self.hides, self._real = list[str](), False, system(disk)
        run = Host.run

        def intercepted(host: Host, argv: Sequence[str], **how: Any) -> Completed:
            if tuple(argv[:3]) == ("udevadm", "trigger", "--settle"):
                self.looked += argv[3:]
                return Completed(tuple(argv), 0, "", "")
            return run(host, argv, **how)

        monkeypatch.setattr(Host, "run", intercepted)
        self.system = replace(self._real, read=self.read)

    def read(self, host: Host, name: str) -> Disk | None:
        """As agent.disks.base.system.read, of what udev says."""
        found = self._real.read(host, name)
        if found is None or (self.looked and not self.hides):
            return found
        blank = {**self.blank, **({"ID_PART_TABLE_TYPE": "gpt"} if found.partitions else {})}
        parts = tuple(replace(part, udev=blank) for part in found.partitions)
        disk = replace(found, device=replace(found.device, udev=blank), partitions=parts)
        return disk if Records(host).has_done(name) else storage.with_beginnings(host, disk)


@pytest.mark.parametrize("fs", ["ext4", "xfs", "btrfs", "vfat", "f2fs", "exfat"])
@pytest.mark.parametrize("on", ["disk", "partition"])
def test_what_udev_has_missed_is_found(
    fs: str, on: str, make_disk: Callable[[int], LoopDisk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """udev's record stays blank after a mkfs(8) right behind a wipefs(8). It is made to look once."""
    disk, ctx, node = make_disk(400 * MIB), context(tmp_path), ""
    if on == "partition":
        disk.table("label: gpt\nsize=350M\n")
        node = f"/dev/{disk.part(1)}"
    sh(f"mkfs.{fs}", {"vfat": "-n", "f2fs": "-l"}.get(fs, "-L"), "DATA", node or disk.node)
    udev = Udev(disk, monkeypatch)
    udev.hides = True
    items = [item for _ in range(2) for item in look(ctx, disk, udev, "change")]
    assert {outcome for outcome, _ in items} == {Outcome.SKIPPED}
    assert udev.looked == [node or disk.node], "not again: a rule hides it"
    udev.hides = False
    found = udev.system.read(Host(), disk.name)
    assert found is not None
    assert (found.devices[-1].fstype, found.devices[-1].label) == (fs, b"DATA")
    if fs == "ext4":
        assert look(ctx, disk, udev, "change")[-1] == (Outcome.CHANGED, f"mounted at {tmp_path}/srv/DATA")


def test_udev_is_made_to_look_when_nobody_writes(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mkfs(8) claims the disk, dd does not: half an image is not mounted. udev sees the end of both."""
    disk, ctx = make_disk(SIZE), context(tmp_path)
    sh(*EXT4, disk.node)
    udev = Udev(disk, monkeypatch)
    nothing = [(Outcome.SKIPPED, "no filesystem on it")]
    held = os.open(disk.node, os.O_RDONLY | os.O_EXCL)
    assert look(ctx, disk, udev, "change") == nothing
    os.close(held)
    with open(disk.node, "r+b"):
        assert look(ctx, disk, udev, "change") == nothing
    assert udev.looked == []
    udev.blank["UDEV_DISABLE_PERSISTENT_STORAGE_RULES_FLAG"] = "1"
    assert look(ctx, disk, udev, "change") == nothing
    assert udev.looked == []
    del udev.blank["UDEV_DISABLE_PERSISTENT_STORAGE_RULES_FLAG"]
    with open(disk.node, "rb"):
        assert look(ctx, disk, udev, "change")[0][0] is Outcome.CHANGED


def test_data_that_nobody_knows_is_left(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path)
    put(disk, 0, b"what a database writes")
    udev = Udev(disk, monkeypatch)
    assert look(ctx, disk, udev, "add") == [(Outcome.SKIPPED, "no filesystem on it")]
    assert udev.looked == []


def test_a_released_disk_is_looked_at_when_it_is_asked_for(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path)
    sh(*EXT4, disk.node)
    look(ctx, disk, None, "change")
    sh("umount", disk.node)
    sh("wipefs", "-qa", disk.node)
    sh(*EXT4[:-1], "other", disk.node)
    udev = Udev(disk, monkeypatch)
    assert look(ctx, disk, udev, "change") == [(Outcome.SKIPPED, "no filesystem on it")]
    assert udev.looked == []
    assert look(ctx, disk, udev, "add") == [(Outcome.CHANGED, f"mounted at {tmp_path}/srv/other")]


def look(ctx: Context, disk: LoopDisk, udev: Udev | None, action: str) -> list[tuple[Outcome, str]]:
    on = udev.system if udev else system(disk)
    return [(item.outcome, item.detail) for item in handler.handle(ctx, disk.name, action, system=on)]
