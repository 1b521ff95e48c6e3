"""Which mounts are dead: by the kernel's table of mounts, and by what has the device's number now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.block import mounts, storage
from agent.disks.base.system import SYSTEMD
from agent.disks.usage import dead_mounts
from agent.host.host import Host
from tests.unit.sysfs import Sysfs, virtio

if TYPE_CHECKING:
    from pathlib import Path

ROOT = "22 1 254:1 / / rw - ext4 /dev/vda1 rw\n"
MINE = "40 22 254:16 / /mnt/mine rw shared:1 - ext4 /dev/vdb rw\n"


def found(tmp_path: Path, table: str, devno: str = "254:16") -> list[str]:
    host = Host(tmp_path)
    host.write(mounts.MOUNTINFO, table)
    return [mount.mountpoint for mount in dead_mounts.find(host, SYSTEMD, "vdb", devno)]


@pytest.mark.parametrize(
    ("line", "dead"),
    [
        ("40 22 254:16 / /mnt/mine rw shared:1 - ext4 /dev/vdb rw\n", True),
        ("40 22 254:16 /sub /mnt/mine rw shared:1 - ext4 /dev/vdb rw\n", True),
        ("40 22 254:16 / /mnt/mine rw - ext4 /dev/disk/by-uuid/aaaa-1 rw\n", True),  # by mount(2)
        ("40 22 254:48 / /mnt/mine rw - ext4 /dev/vdb rw\n", True),  # another number than the record has
        ("40 22 0:41 / /mnt/mine rw - btrfs /dev/vdb rw\n", True),
        ("40 22 254:32 / /mnt/mine rw - ext4 /dev/vdc rw\n", False),
        ("40 22 254:17 / /mnt/mine rw - ext4 /dev/vdb1 rw\n", False),
        ("40 22 253:0 / /mnt/mine rw - ext4 /dev/mapper/data rw\n", False),
        ("40 22 0:41 / /mnt/mine rw - btrfs /dev/vdc rw\n", False),
        ("40 22 0:42 / /mnt/mine rw - fuse.data /dev/vdb rw\n", False),
        ("40 22 0:42 / /mnt/mine rw - tmpfs /dev/vdb rw\n", False),
    ],
)
def test_what_was_on_a_device(line: str, dead: bool, tmp_path: Path) -> None:
    assert found(tmp_path, ROOT + line) == (["/mnt/mine"] if dead else [])


def test_one_without_a_record_has_no_number(tmp_path: Path) -> None:
    assert found(tmp_path, ROOT + MINE, devno="") == ["/mnt/mine"]


@pytest.mark.parametrize("is_claimed", [False, True])
def test_a_number_that_another_device_has_by_now(
    is_claimed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is mounted is claimed: of a device that is not, the mount is of the device before."""
    virtio(Sysfs(tmp_path))
    asked = list[str]()

    def claimed(_host: Host, node: str) -> bool:
        asked.append(node)
        return is_claimed

    monkeypatch.setattr(storage, "is_claimed", claimed)
    assert found(tmp_path, ROOT + MINE) == ([] if is_claimed else ["/mnt/mine"])
    assert asked == ["/dev/vdb"]


def test_the_disk_of_the_system_itself_is_left(tmp_path: Path) -> None:
    bound = "41 22 254:16 /var/lib /mnt/lib rw - ext4 /dev/vdb rw\n"
    assert found(tmp_path, f"22 1 254:16 / / rw - ext4 /dev/vdb rw\n{bound}") == []


def test_a_btrfs_whose_other_device_is_there(tmp_path: Path) -> None:
    sysfs = Sysfs(tmp_path)
    for name in ("vdb", "vdc"):
        (tmp_path / "sys/fs/btrfs/aaaa-1/devices" / name).mkdir(parents=True)
    table = f"{ROOT}40 22 0:41 / /mnt/two rw - btrfs /dev/vdc rw\n"
    assert found(tmp_path, table) == ["/mnt/two"], "both have gone"
    virtio(sysfs, "vdc", "254:32")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "is_claimed", lambda _host, _node: True)
        assert found(tmp_path, table) == []
        assert dead_mounts.surviving(Host(tmp_path), SYSTEMD, "vdb") == "/mnt/two"
