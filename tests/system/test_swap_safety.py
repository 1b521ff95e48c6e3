"""Disks of somebody else: whatever stands on them, they are not searched and not changed by a bit."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.host import Host
from agent.parse import archive
from agent.sources import Asked
from agent.sources import swap as swap_source
from tests.media import OFFSET, md_superblock
from tests.system.disks import MIB, MKFS, LoopDisk, sh, unmount
from tests.system.swapdisks import (
    ARCHIVE,
    Machine,
    MakeDisk,
    carrier,
    put,
    refused,
)


def _fill(disk: LoopDisk, kind: str, at: Path) -> None:
    """A filesystem full of a user's file with an archive at every 4 KiB, so also at 512 KiB of the disk."""
    sh(*MKFS[kind], disk.node)
    at.mkdir()
    sh("mount", disk.node, str(at))
    try:
        block = ARCHIVE.rstrip(b"\0").ljust(4096, b"\0")
        with (at / "mine").open("wb") as file, contextlib.suppress(OSError):
            while file.write(block * 256):
                file.flush()
        assert (at / "mine").stat().st_size > 16 * MIB
        sh("sync")
    finally:
        unmount(disk, at)


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_file_on_a_data_disk(
    make_disk: MakeDisk, machine: Callable[..., Machine], tmp_path: Path, kind: str
) -> None:
    disk = make_disk(320 * MIB if kind == "xfs" else 32 * MIB)
    _fill(disk, kind, tmp_path / "mnt")
    with open(disk.node, "rb") as device:
        device.seek(OFFSET)
        if archive.header(device.read(512)) is None:
            put(disk)  # Metadata stands there: the same picture from another side.
    refused(disk, machine)


def _lvm(disk: LoopDisk) -> None:
    sh("pvcreate", "--quiet", "--metadatasize", "128k", "--dataalignment", "1m", disk.node)


def _md_at_end(disk: LoopDisk) -> None:
    at, head = md_superblock(64 * MIB)
    put(disk, at, head)


def _luks(disk: LoopDisk) -> None:
    put(disk, 0, b"LUKS\xba\xbe\x00\x01".ljust(592, b"\0"))


def _gpt(script: str) -> Callable[[LoopDisk], None]:
    return lambda disk: disk.table(f"label: gpt\n{script}")


def _btrfs(disk: LoopDisk) -> None:
    sh(*MKFS["btrfs"], disk.node)


def _empty_gpt(disk: LoopDisk) -> None:
    sh("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", disk.node, stdin="label: gpt\n")


LAYOUTS: dict[str, Callable[[LoopDisk], None]] = {
    "LVM": _lvm,
    "md at the end": _md_at_end,
    "LUKS": _luks,
    "btrfs": _btrfs,
    "foreign GPT": _gpt("start=2048, size=20480, name=data\n"),
    "GPT with another one besides": _gpt(
        "start=2048, size=20480, name=gandiswap\nstart=22528, size=20480, name=data\n"
    ),
    "empty GPT": _empty_gpt,
    "msdos": lambda disk: disk.table("label: dos\nstart=2048, size=20480, type=82\n"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_never_searched_and_never_formatted(
    make_disk: MakeDisk, machine: Callable[..., Machine], layout: str
) -> None:
    size = 128 * MIB if layout == "btrfs" else 64 * MIB
    disk = make_disk(size)
    LAYOUTS[layout](disk)
    put(disk)
    refused(disk, machine, f"CONFIG_SWAP_DEVICE={disk.node}\n")


def test_a_gandiswap_partition_that_holds_a_filesystem(
    make_disk: MakeDisk, machine: Callable[..., Machine]
) -> None:
    disk, target = carrier(make_disk, "gpt")
    sh("mkfs.ext4", "-q", target)
    items = refused(disk, machine)
    assert "holds ext4" in items[-1].detail


def test_a_blank_disk_that_nobody_named(make_disk: MakeDisk, machine: Callable[..., Machine]) -> None:
    refused(make_disk(24 * MIB), machine)


def test_a_loop_device_is_no_disk_of_the_platform(make_disk: MakeDisk) -> None:
    """Any local user can make one, through udisks."""
    disk, _ = carrier(make_disk, "raw")
    assert disk.name not in swap_source.platform_disks(Host())
    found = swap_source.look(Asked(Host(), ("gandi",))).found
    assert found is None or found.medium.disk != disk.name


def test_no_process_on_a_boot_without_an_archive(
    make_disk: MakeDisk, machine: Callable[..., Machine]
) -> None:
    disk = make_disk(24 * MIB)
    sh("mkfs.ext4", "-q", disk.node)
    one = machine(disk)
    one.boot()
    assert one.host.commands == []
