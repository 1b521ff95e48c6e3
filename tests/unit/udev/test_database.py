"""udev's record of a block device, as systemd 257 writes it, in a tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.host.host import Host
from agent.udev import database

if TYPE_CHECKING:
    from pathlib import Path

DEVICE = "devices/pci0000:00/0000:00:05.0/virtio2/block/vdb"
RECORD = """S:disk/by-label/data
S:disk/by-diskseq/9
I:2188093
E:ID_FS_TYPE=ext4
E:ID_FS_LABEL_ENC=a=b\\x20c
E:ID_SERIAL=
G:systemd
G:gandi
Q:gandi
V:1
"""


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Make a machine with one disk that udev has not processed."""
    folder = tmp_path / "sys" / DEVICE
    folder.mkdir(parents=True)
    (folder / "dev").write_text("254:16\n")
    (folder / "uevent").write_text("MAJOR=254\nMINOR=16\nDEVNAME=vdb\nDEVTYPE=disk\nDISKSEQ=9\n")
    (tmp_path / "sys/class/block").mkdir(parents=True)
    (tmp_path / "sys/class/block/vdb").symlink_to(f"../../{DEVICE}")
    (tmp_path / "run/udev/data").mkdir(parents=True)
    return Host(tmp_path)


def test_the_kernels_and_udevs_properties_together(host: Host, tmp_path: Path) -> None:
    (tmp_path / "run/udev/data/b254:16").write_text(RECORD)
    assert database.block(host, "vdb") == {
        "MAJOR": "254",
        "MINOR": "16",
        "DEVNAME": "/dev/vdb",
        "DEVTYPE": "disk",
        "DISKSEQ": "9",
        "SUBSYSTEM": "block",
        "DEVPATH": f"/{DEVICE}",
        "DEVLINKS": "/dev/disk/by-label/data /dev/disk/by-diskseq/9",
        "USEC_INITIALIZED": "2188093",
        "ID_FS_TYPE": "ext4",
        "ID_FS_LABEL_ENC": "a=b\\x20c",
    }


def test_before_udev_has_seen_it_only_the_kernel_speaks(host: Host) -> None:
    found = database.block(host, "vdb")
    assert found["DEVNAME"] == "/dev/vdb"
    assert "USEC_INITIALIZED" not in found


def test_no_such_device(host: Host) -> None:
    assert database.block(host, "vdz") == {}


def test_a_nic_has_its_name_when_udev_has_finished_with_it(host: Host, tmp_path: Path) -> None:
    record = tmp_path / "run/udev/data/n3"
    assert not database.is_initialized(host, 3)
    record.write_text("E:ID_PROCESSING=1\nV:1\n")
    assert not database.is_initialized(host, 3)
    record.write_text("E:ID_NET_NAME_PATH=enp0s4\nI:2188093\nV:1\n")
    assert database.is_initialized(host, 3)
