"""Who uses what: mountinfo, swaps, fstab, crypttab and units, read as the administrator wrote them."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import mounts
from agent.host import Host
from agent.storage import Device
from tests.unit.sysfs import Sysfs, virtio

DEVICE = Device(
    "vdb1",
    "254:17",
    1,
    udev={
        "ID_FS_UUID": "F00D-1",
        "ID_FS_LABEL_ENC": "my\\x20data",
        "ID_PART_ENTRY_UUID": "11-22",
        "ID_PART_ENTRY_NAME": "big\\x20one",
        "DEVLINKS": "/dev/disk/by-id/virtio-S1-part1 /dev/disk/by-path/pci-0",
    },
)


@pytest.mark.parametrize(
    "what",
    [
        "/dev/vdb1",
        "UUID=f00d-1",
        'UUID="F00D-1"',
        "LABEL=my data",
        "PARTUUID=11-22",
        "PARTLABEL=big one",
        "ID=virtio-S1-part1",
        "/dev/disk/by-path/pci-0",
        "/dev/disk/by-uuid/F00D-1",
        "/dev/disk/by-label/my\\x20data",
        "/dev/disk/by-partuuid/11-22",
    ],
)
def test_ways_to_name_a_device(what: str) -> None:
    assert mounts.claimed(DEVICE, what)


@pytest.mark.parametrize(
    "what", ["", "none", "/dev/vdb", "UUID=", "LABEL=", "UUID=x", "LABEL=data", "tmpfs", "host:/x=y"]
)
def test_names_of_something_else(what: str) -> None:
    assert not mounts.claimed(DEVICE, what)
    assert not mounts.claimed(Device("vdc", "254:32", 1), what)


def test_claims(tmp_path: Path) -> None:
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    (tmp_path / "etc/fstab").write_text(
        "# a comment\nUUID=1 / ext4 rw 0 1\n\n"
        "LABEL=my\\040data /srv/my\\040data ext4 noauto 0 0\nUUID=3 none swap sw 0 0\n"
    )
    (tmp_path / "etc/crypttab").write_text("vault /dev/vdd none luks\n")
    (units / "srv-x.mount").write_text("[Mount]\nWhat = /dev/vdc\nWhere=/srv/x\n")
    (units / "srv-y.automount").write_text("[Automount]\nWhere=/srv/y\n")
    (units / "dev-vde.swap").write_text("[Swap]\nWhat=/dev/vde\n")
    (units / "other.service").write_text("[Service]\nWhat=/dev/vdf\n")
    found = {(claim.what, claim.where) for claim in mounts.claims(Host(tmp_path))}
    assert found == {
        ("UUID=1", "/"),
        ("LABEL=my data", "/srv/my data"),
        ("UUID=3", ""),
        ("/dev/vdd", ""),
        ("/dev/vdc", "/srv/x"),
        ("", "/srv/y"),
        ("/dev/vde", ""),
    }


def test_mountinfo(tmp_path: Path) -> None:
    sysfs = Sysfs(tmp_path)
    disk = virtio(sysfs)
    sysfs.partition(disk, 1, "254:17", start=8)
    members = tmp_path / "sys/fs/btrfs/aa-bb/devices"
    members.mkdir(parents=True)
    (members / "vdb1").symlink_to(disk / "vdb1")
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text(
        "27 1 254:0 / / rw shared:1 - ext4 /dev/root rw\n"
        "30 27 0:40 /sub /srv/my\\040data rw,noatime shared:2 master:1 - btrfs /dev/vdb1 rw,subvol=/sub\n"
        "31 27 0:41 / /tmp rw - tmpfs tmpfs rw\n"
    )
    (tmp_path / "proc/swaps").write_text("Filename Type Size Used Priority\n/dev/vdb1 partition 1 0 -2\n")
    found = mounts.mounts(Host(tmp_path))
    assert [(m.at, m.numbers, m.root) for m in found] == [
        ("/", frozenset({"254:0"}), "/"),
        ("/srv/my data", frozenset({"254:17"}), "/sub"),
        ("/tmp", frozenset({"0:41"}), "/"),
    ]
    assert mounts.swaps(Host(tmp_path)) == {"254:17"}
