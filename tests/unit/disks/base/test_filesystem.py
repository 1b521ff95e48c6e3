"""Whether an ext superblock requires a check. Each row is a superblock as the kernel writes it."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

import pytest

from agent.disks.base import filesystem
from agent.disks.base.filesystem import grower, wants_check
from agent.host.host import Host
from agent.lib.errors import HostError
from tests.unit.disks.facts import whole

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_700_000_000
DAY = 86400


def block(state: int = 1, count: int = 0, limit: int = -1, checked: int = 0, interval: int = 0) -> bytes:
    data = bytearray(1024)
    struct.pack_into("<HhHH", data, 0x34, count, limit, 0xEF53, state)
    struct.pack_into("<II", data, 0x40, checked, interval)
    return bytes(data)


@pytest.mark.parametrize(
    ("superblock", "why"),
    [
        (block(), ""),
        (block(count=500, limit=0), ""),
        (block(count=500, limit=-1), ""),
        (block(count=41, limit=42), ""),
        (block(count=42, limit=42), "it has been mounted 42 times"),
        (block(state=0), "it was not unmounted cleanly"),
        (block(state=3), "errors were seen on it"),
        (block(checked=NOW - DAY, interval=2 * DAY), ""),
        (block(checked=NOW - 3 * DAY, interval=2 * DAY), "its last check is too long ago"),
    ],
)
def test_checks(superblock: bytes, why: str) -> None:
    assert wants_check(superblock, NOW) == why


def test_a_disk_that_cannot_be_read_is_an_error_of_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, disk = Host(tmp_path), whole()
    host.write(disk.device.node, "")

    def refuse(*_where: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("os.pread", refuse)
    for read in (
        lambda: filesystem.superblock(host, disk.device.node),
        lambda: filesystem.unmounted_size(host, "ext4", disk.device.node),
        lambda: filesystem.unmounted_size(host, "xfs", disk.device.node),
    ):
        with pytest.raises(HostError, match="cannot be read: Input/output error"):
            read()
    assert not filesystem.fills_disk(host, disk.device)


@pytest.mark.parametrize(("exponent", "size"), [(0, 5 << 10), (6, 5 << 16), (7, 0), (1 << 31, 0)])
def test_an_ext_superblock_is_no_reason_for_a_number_of_any_size(
    tmp_path: Path, exponent: int, size: int
) -> None:
    host, made = Host(tmp_path), bytearray(block())
    struct.pack_into("<I", made, 0x4, 5)
    struct.pack_into("<I", made, 0x18, exponent)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/vdb").write_bytes(bytes(1024) + made)
    if size:
        assert filesystem.unmounted_size(host, "ext4", "/dev/vdb") == size
    else:
        with pytest.raises(HostError, match="damaged ext superblock"):
            filesystem.unmounted_size(host, "ext4", "/dev/vdb")


def test_growers_are_asked_by_device_or_by_mountpoint() -> None:
    assert grower("ext3", "/dev/vdb", "/srv/a b") == ("resize2fs", "/dev/vdb")
    assert grower("xfs", "/dev/vdb", "/srv/a b") == ("xfs_growfs", "/srv/a b")
    assert grower("vfat", "/dev/vdb", "/srv/a") == ()
