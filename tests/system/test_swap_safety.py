"""Users' disks: whatever they hold, they are not read and not changed by a bit."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.block import storage
from agent.host.host import Host
from agent.reader.common import archive_layout
from agent.reader.formats import tar_archive as archive
from agent.report import Outcome
from agent.sources import SearchRequest
from agent.sources import swap_archive as swap_source
from agent.steps import swap
from tests import media
from tests.media import OFFSET, md_superblock
from tests.system.disks import MIB, MKFS, LoopDisk, own_loop_device, sh, unmount
from tests.system.swapdisks import (
    ARCHIVE,
    Machine,
    MakeDisk,
    blkid,
    carrier,
    content_digest,
    put,
    refused,
    with_gpt,
)


def _fill(disk: LoopDisk, kind: str, at: Path) -> None:
    """Fill a filesystem with a user's file that has an archive at every 4 KiB, so also at 512 KiB of the
    disk.
    """
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
            put(disk)  # There is metadata at that offset: the same case with another cause.
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


def _disk(make_disk: MakeDisk, *pieces: tuple[int, bytes]) -> LoopDisk:
    disk = make_disk(24 * MIB)
    for place, content in pieces:
        put(disk, place, content)
    return disk


def _blocks(archive: bytes) -> bytes:
    """Return the members alone, without the end mark."""
    content = archive.rstrip(b"\0")
    return content + bytes(-len(content) % media.SECTOR)


@pytest.mark.parametrize("offset", [OFFSET, 0])
@pytest.mark.parametrize("where", ["before", "behind", "behind the end"])
@pytest.mark.parametrize("name", media.FOREIGN)
def test_a_strangers_archive(
    make_disk: MakeDisk, machine: Callable[..., Machine], name: str, where: str, offset: int
) -> None:
    foreign = media.FOREIGN[name]
    content = {
        "before": foreign + ARCHIVE,
        "behind": _blocks(ARCHIVE) + foreign + bytes(1024),
        "behind the end": ARCHIVE + foreign + bytes(1024),
    }[where]
    disk = _disk(make_disk, (offset, content))
    (item,) = [item for item in refused(disk, machine) if item.name == disk.node]
    assert item.outcome is Outcome.SKIPPED
    assert f"not the platform's ({name} in it): neither applied nor changed" in item.detail


def _tar_around(archive: bytes, name: str) -> bytes:
    """Return a tar from the start of the disk, with a file's content at 512 KiB."""
    filler = media.member("gandi/filler", bytes(OFFSET - 1024))
    return filler + media.member(name, archive) + bytes(1024)


PIECES: dict[str, tuple[tuple[tuple[int, bytes], ...], str]] = {
    "a file in somebody's tar": (((0, _tar_around(ARCHIVE, "home/disk.img")),), "home/disk.img in it"),
    "data before it": (((100 << 10, b"a database's page"), (OFFSET, ARCHIVE)), "other data was written"),
    "data in the first page": (((0, b"a database's head"), (OFFSET, ARCHIVE)), "other data was written"),
    "data before a mark": (
        ((100 << 10, b"a database's page"), (OFFSET, archive_layout.mark(1 << 20))),
        "other data was written",
    ),
    "a thousand and one members": (
        ((OFFSET, media.member("gandi/x") * 1000 + media.member("home/x", b"mine") + ARCHIVE),),
        "more than 1000 members",
    ),
}


@pytest.mark.parametrize("what", PIECES)
def test_an_archive_within_something_else(
    make_disk: MakeDisk, machine: Callable[..., Machine], what: str
) -> None:
    pieces, said = PIECES[what]
    disk = _disk(make_disk, *pieces)
    (item,) = [item for item in refused(disk, machine) if item.name == disk.node]
    assert said in item.detail


def test_another_programs_member_of_the_marks_name(
    make_disk: MakeDisk, machine: Callable[..., Machine]
) -> None:
    """Otherwise its size in bytes would be overwritten."""
    content = media.member(archive_layout.WIPED, b"mine" * 4096) + bytes(1024)
    refused(_disk(make_disk, (OFFSET, content)), machine)


def test_the_archive_at_0_counts_where_it_reaches_to_the_other_place(
    make_disk: MakeDisk, machine: Callable[..., Machine]
) -> None:
    """A customer's script may contain an archive."""
    evil = media.make_archive({"vm_hostname": "evil", "vif": []})
    config = media.member("gandi/config", b'{"vm_hostname": "good", "vif": []}')
    filler = media.member("gandi/script", bytes(OFFSET - len(config) - 512) + evil)
    disk = _disk(make_disk, (0, config + filler + bytes(1024)))
    ctx, _ = machine(disk).boot()
    assert ctx.config is not None
    assert ctx.config.hostname == "good"
    assert blkid(disk.node)["TYPE"] == "swap"


def test_swap_of_before_is_no_reason_to_leave_a_disk(
    make_disk: MakeDisk, machine: Callable[..., Machine]
) -> None:
    """A disk that was swap: it has the signature, and any data may be before and after the archive."""
    disk = make_disk(24 * MIB)
    put(disk, 8192, os.urandom(8 * MIB))
    sh("mkswap", "-q", disk.node)
    put(disk)
    one = machine(disk)
    ctx, _ = one.boot()
    assert ctx.config is not None
    assert one.swapped_on == [disk.node]


def test_a_strangers_archive_hides_none_of_the_platforms(
    make_disk: MakeDisk, machine: Callable[..., Machine]
) -> None:
    stranger, own = make_disk(24 * MIB), make_disk(24 * MIB)
    put(stranger, content=media.FOREIGN["home/user/notes"] + ARCHIVE)
    put(own)
    before = content_digest(stranger)
    one = machine(stranger, own)
    ctx, items = one.boot()
    assert ctx.config is not None
    assert one.swapped_on == [own.node]
    assert content_digest(stranger) == before
    assert "home/user/notes in it" in next(item.detail for item in items if item.name == stranger.node)


def test_a_disk_is_looked_at_once_and_another_one_in_its_place_is_not_touched(
    make_disk: MakeDisk, machine: Callable[..., Machine], tmp_path: Path
) -> None:
    made, _ = carrier(make_disk, "raw")
    made.detach()
    with own_loop_device(made.image) as disk:
        one = machine(disk)
        ctx, _ = one.boot(until="source")
        assert ctx.medium is not None
        other = tmp_path / "other"
        other.write_bytes(disk.image.read_bytes())
        sh("losetup", "--detach", disk.node)
        sh("losetup", disk.node, str(other))
        (item,) = swap.apply(ctx, one.names)
        assert item.outcome is Outcome.FAILED
        assert "another disk than before" in item.detail
        assert other.read_bytes() == disk.image.read_bytes()

        sh("losetup", "--detach", disk.node)
        sh("losetup", disk.node, str(disk.image))
        _, items = one.boot()
        assert [item.outcome for item in items] == [Outcome.UNCHANGED, Outcome.CHANGED], (
            "stored by the first run"
        )
        assert [command[0] for command in one.host.commands].count("blkid") == 1


def test_a_gandiswap_partition_that_is_not_blank(
    make_disk: MakeDisk, machine: Callable[..., Machine]
) -> None:
    """Data that libblkid does not know may be a user's: a name does not prove that the partition
    is blank.
    """
    disk = make_disk(24 * MIB)
    with_gpt(disk, 24 * MIB)
    put(disk, media.PARTITION + 8192, b"a database's page")
    items = refused(disk, machine)
    assert "not blank, its first or last 4 MiB are not all zero" in items[-1].detail


def test_a_disk_that_blkid_could_not_look_at_is_not_formatted(
    make_disk: MakeDisk, machine: Callable[..., Machine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed probe does not mean that there is no content."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/blkid").write_text("#!/bin/sh\nkill -9 $$\n")
    (tmp_path / "bin/blkid").chmod(0o755)
    disk, _ = carrier(make_disk, "raw")
    other, _ = carrier(make_disk, "raw")
    before = content_digest(disk)
    probe = storage.probe

    def asked(host: Host, node: str) -> dict[str, str]:
        with monkeypatch.context() as path:
            if node == disk.node:
                path.setattr(
                    "agent.host.host.ENVIRONMENT", {"PATH": f"{tmp_path}/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
                )
            return probe(host, node)

    monkeypatch.setattr(storage, "probe", asked)
    refused(disk, machine)
    one = machine(disk, other)
    ctx, items = one.boot()
    assert ctx.config is not None, "hides no other"
    assert "blkid ended with status" in next(item.detail for item in items if item.name == disk.node)
    assert one.swapped_on == [other.node]
    assert content_digest(disk) == before


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
    """Any local user can make one through udisks."""
    disk, _ = carrier(make_disk, "raw")
    assert disk.name not in swap_source.platform_disks(Host())
    found = swap_source.search(SearchRequest(Host(), ("gandi",))).found
    assert found is None or found.medium.disk != disk.name


def test_no_process_on_a_boot_without_an_archive(
    make_disk: MakeDisk, machine: Callable[..., Machine]
) -> None:
    disk = make_disk(24 * MIB)
    sh("mkfs.ext4", "-q", disk.node)
    one = machine(disk)
    one.boot()
    assert one.host.commands == []
