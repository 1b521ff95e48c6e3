"""On which devices a drive is accepted, and the notes on those that only look like one; none is opened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.block import storage, transport
from agent.host.host import Host
from agent.sources import SearchRequest, config_drives, superblock
from tests.unit.sysfs import PCI, Sysfs, virtio

SCSI = f"{PCI}/host0/target0:0:0/0:0:0:0"


@pytest.fixture
def sysfs(tmp_path: Path) -> Sysfs:
    (tmp_path / "sys/class/block").mkdir(parents=True)
    return Sysfs(tmp_path)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def _udev(host: Host, number: str, label: str) -> None:
    path = Path(host.root) / f"run/udev/data/b{number}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"S:disk/by-label/{label}\nE:ID_FS_LABEL={label}\nE:ID_FS_TYPE=iso9660\n")


@pytest.mark.parametrize(
    ("path", "subsystems", "why"),
    [
        (f"{SCSI}/block/sr0", {PCI: "pci", f"{PCI}/host0": "scsi"}, ""),
        (f"{SCSI}/block/sda", {PCI: "pci", f"{PCI}/host0": "scsi"}, ""),
        ("vbd-51760/block/xvdd", {"vbd-51760": "xen"}, ""),
        ("virtual/block/loop0", {}, "a virtual device (loop)"),
        ("virtual/block/dm-0", {}, "a virtual device (dm)"),
        ("virtual/block/md0", {}, "a virtual device (md)"),
        ("virtual/block/zram0", {}, "a virtual device (zram)"),
        ("virtual/block/nbd0", {}, "a virtual device (nbd)"),
        (
            f"{PCI}/usb1/1-1/host6/target6:0:0/6:0:0:0/block/sr1",
            {PCI: "pci", f"{PCI}/usb1": "usb", f"{PCI}/usb1/1-1/host6": "scsi"},
            "a USB disk",
        ),
        (
            "platform/host3/session1/target3:0:0/3:0:0:1/block/sr2",
            {"platform/host3": "scsi"},
            "an iSCSI disk",
        ),
        ("pseudo_0/host5/target5:0:0/5:0:0:0/block/sr3", {"pseudo_0/host5": "scsi"}, "a SCSI disk without"),
    ],
)
def test_where_a_drive_counts(
    path: str, subsystems: dict[str, str], why: str, sysfs: Sysfs, host: Host
) -> None:
    for place, name in subsystems.items():
        sysfs.subsystem(place, name)
    name = sysfs.disk(path, "11:0", removable="1").name
    assert transport.why_not_platform_disk(host, storage.devpath(host, name)).startswith(why)
    assert (config_drives.candidate_devices(host) == [name]) is not bool(why)


def test_a_partition_is_a_place_and_the_bus_gives_the_order(sysfs: Sysfs, host: Host) -> None:
    later = virtio(sysfs, "vda", "254:0", slot="07.0")
    sysfs.partition(later, 15, "254:15", 1)
    sysfs.partition(later, 2, "254:2", 2)
    virtio(sysfs, "vdz", "254:32", slot="04.0")
    assert config_drives.candidate_devices(host) == ["vdz", "vda", "vda2", "vda15"]


@pytest.mark.parametrize("label", ["cidata", "CIDATA", "config-2", "config", "gandi"])
def test_a_loop_device_with_our_label_is_named_and_never_opened(
    sysfs: Sysfs, host: Host, label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sysfs.disk("virtual/block/loop0", "7:0")
    _udev(host, "7:0", label)
    monkeypatch.setattr(Host, "opened", lambda *_: pytest.fail("opened"))
    findings = config_drives.search(SearchRequest(host, ("nocloud", "openstack", "cloudstack", "native")))
    assert findings.found is None
    (note,) = findings.notes
    assert (
        str(note)
        == f"skipped: /dev/loop0: labelled {label.lower()}, but a virtual device (loop): never read"
    )
    assert not config_drives.may_have_drive(host, "loop0", "config")


def test_other_labels_are_of_no_interest(sysfs: Sysfs, host: Host) -> None:
    sysfs.disk("virtual/block/loop0", "7:0")
    _udev(host, "7:0", "snap")
    sysfs.disk("virtual/block/loop1", "7:1")
    assert config_drives.search(SearchRequest(host, ("nocloud",))).notes == ()


def test_the_setting_names_cloudstacks_label(sysfs: Sysfs, host: Host) -> None:
    sysfs.disk("virtual/block/loop0", "7:0")
    _udev(host, "7:0", "Settings")
    assert len(list(config_drives.excluded_drives(host, "settings"))) == 1
    assert list(config_drives.excluded_drives(host, "config")) == []


def test_an_empty_setting_is_no_label(sysfs: Sysfs, host: Host) -> None:
    sysfs.disk("virtual/block/loop0", "7:0")
    assert list(config_drives.excluded_drives(host, "")) == []


def test_a_drive_without_a_medium(sysfs: Sysfs, host: Host) -> None:
    sysfs.subsystem(PCI, "pci")
    sysfs.subsystem(f"{PCI}/host0", "scsi")
    sysfs.disk(f"{SCSI}/block/sr0", "11:0")
    assert superblock.labelled(host, "sr0", config_drives.LABELS) is None
    (Path(host.root) / "dev").mkdir()
    os.mkfifo(Path(host.root) / "dev/sr0")
    assert superblock.labelled(host, "sr0", config_drives.LABELS) is None, "what cannot be read is no drive"
