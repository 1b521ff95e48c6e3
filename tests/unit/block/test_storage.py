"""Disks in sysfs: their bus, order and partitions."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.block import storage
from agent.block.transport import Transport, attachment
from agent.host.host import Host
from tests.unit.sysfs import PCI, Sysfs, virtio


@pytest.fixture
def sysfs(tmp_path: Path) -> Sysfs:
    return Sysfs(tmp_path)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def answered(_name: str) -> dict[str, str]:
    """Answer as udev for a device that it has processed, so libblkid is not run."""
    return {"ID_FS_USAGE": "filesystem", "ID_FS_TYPE": "ext4"}


def attached(
    sysfs: Sysfs, host: Host, path: str, subsystems: dict[str, str], **attributes: str
) -> tuple[Transport | None, str]:
    for place, name in subsystems.items():
        sysfs.subsystem(place, name)
    folder = sysfs.disk(path, "8:0", **attributes)
    disk = storage.read(host, folder.name, answered)
    assert disk is not None
    return disk.transport, disk.excluded


SCSI = {
    PCI: "pci",
    f"{PCI}/virtio3": "virtio",
    f"{PCI}/virtio3/host0": "scsi",
    f"{PCI}/virtio3/host0/target0:0:0/0:0:0:0": "scsi",
}


@pytest.mark.parametrize(
    ("path", "subsystems", "bus"),
    [
        (f"{PCI}/virtio2/block/vdb", {PCI: "pci", f"{PCI}/virtio2": "virtio"}, Transport.VIRTIO),
        (
            "platform/a0.virtio_mmio/virtio0/block/vdb",
            {"platform/a0.virtio_mmio/virtio0": "virtio"},
            Transport.VIRTIO,
        ),
        (f"{PCI}/virtio3/host0/target0:0:0/0:0:0:0/block/sda", SCSI, Transport.SCSI),
        (
            f"{PCI}/ata3/host2/target2:0:0/2:0:0:0/block/sdb",
            {PCI: "pci", f"{PCI}/ata3/host2": "scsi", f"{PCI}/ata3/host2/target2:0:0": "scsi"},
            Transport.SATA,
        ),
        ("vbd-51728/block/xvdb", {"vbd-51728": "xen"}, Transport.XEN),
    ],
)
def test_buses_of_the_platform(
    path: str, subsystems: dict[str, str], bus: Transport, sysfs: Sysfs, host: Host
) -> None:
    assert attached(sysfs, host, path, subsystems) == (bus, "")


@pytest.mark.parametrize(
    ("path", "subsystems", "why"),
    [
        ("virtual/block/loop0", {}, "a virtual device (loop)"),
        ("virtual/block/dm-0", {}, "a virtual device (dm)"),
        ("virtual/block/zram0", {}, "a virtual device (zram)"),
        ("virtual/block/nbd0", {}, "a virtual device (nbd)"),
        ("virtual/block/md127", {}, "a virtual device (md)"),
        ("virtual/block/drbd1", {}, "a virtual device (drbd)"),
        (
            "platform/host3/session1/target3:0:0/3:0:0:1/block/sdc",
            {"platform/host3": "scsi"},
            "an iSCSI disk",
        ),
        (
            f"{PCI}/host4/rport-4:0-0/target4:0:0/4:0:0:0/block/sdd",
            {PCI: "pci", f"{PCI}/host4": "scsi"},
            "a Fibre",
        ),
        (
            "pseudo_0/adapter0/host5/target5:0:0/5:0:0:0/block/sde",
            {"pseudo_0/adapter0/host5": "scsi"},
            "a SCSI disk",
        ),
        (
            f"{PCI}/usb1/1-1/1-1:1.0/host6/block/sdf",
            {PCI: "pci", f"{PCI}/usb1": "usb", f"{PCI}/usb1/1-1": "usb"},
            "a USB",
        ),
        ("rbd/0/block/rbd0", {}, "not on a disk bus"),
        (
            f"{PCI}/mmc_host/mmc0/mmc0:1/block/mmcblk0",
            {PCI: "pci", f"{PCI}/mmc_host/mmc0/mmc0:1": "mmc"},
            "not on a",
        ),
        (f"{PCI}/virtio3/host0/target0:0:0/0:0:0:0/block/sr0", SCSI, "an optical drive"),
    ],
)
def test_never_a_data_disk(
    path: str, subsystems: dict[str, str], why: str, sysfs: Sysfs, host: Host
) -> None:
    bus, excluded = attached(sysfs, host, path, subsystems)
    assert bus is None
    assert excluded.startswith(why)


def test_removable(sysfs: Sysfs, host: Host) -> None:
    path = f"{PCI}/virtio3/host0/target0:0:0/0:0:0:0/block/sda"
    assert attached(sysfs, host, path, SCSI, removable="1") == (None, "a removable disk")


@pytest.mark.parametrize(
    ("transport", "bus"), [("pcie", Transport.NVME), ("tcp", None), ("rdma", None), ("fc", None)]
)
@pytest.mark.parametrize("multipath", [False, True])
def test_nvme(transport: str, bus: Transport | None, multipath: bool, sysfs: Sysfs, host: Host) -> None:
    controller = f"{PCI}/nvme/nvme0"
    sysfs.subsystem(PCI, "pci")
    sysfs.subsystem(controller, "nvme", transport=transport)
    if not multipath:
        assert attached(sysfs, host, f"{controller}/nvme0n1", {})[0] == bus
        return
    shared = "virtual/nvme-subsystem/nvme-subsys0"
    sysfs.subsystem(shared, "nvme-subsystem")
    sysfs.link(f"devices/{shared}/nvme0", sysfs.root / "sys/devices" / controller)
    assert attached(sysfs, host, f"{shared}/nvme0n1", {})[0] == bus


def test_disks_come_in_bus_order_and_hidden_ones_not_at_all(sysfs: Sysfs, host: Host) -> None:
    virtio(sysfs, "vdc", "254:32", "0a.0")
    virtio(sysfs, "vdb", "254:16", "10.0")
    virtio(sysfs, "vda", "254:0", "09.0")
    sysfs.disk("virtual/nvme-subsystem/nvme-subsys0/nvme0c0n1", "0:1", hidden="1")
    base = f"{PCI}/virtio3/host0"
    for target, name in (("10", "sda"), ("2", "sdb")):
        sysfs.disk(f"{base}/target0:0:{target}/0:0:{target}:0/block/{name}", f"8:{ord(name[-1])}")
    assert storage.names(host) == ["sdb", "sda", "vda", "vdc", "vdb"]


def test_partitions_stand_in_the_order_of_their_places(sysfs: Sysfs, host: Host) -> None:
    disk = virtio(sysfs)
    sysfs.partition(disk, 1, "254:17", start=1000)
    sysfs.partition(disk, 2, "254:18", start=100, size=50)
    read = storage.read(host, "vdb", answered)
    assert read is not None
    assert [part.name for part in read.partitions] == ["vdb2", "vdb1"]
    assert (read.partitions[0].start, read.partitions[0].end) == (51200, 76800)
    assert read.diskseq == "9"
    assert storage.whole_disk(host, "vdb2") == "vdb"
    assert storage.names(host) == ["vdb"]
    assert storage.name_of(host, "254:18") == "vdb2"


def test_a_disk_that_has_gone(host: Host, sysfs: Sysfs) -> None:
    virtio(sysfs)
    assert storage.read(host, "vdz", answered) is None
    assert storage.whole_disk(host, "vdz1") == "vdz1"
    assert storage.current_size(host, "vdz") == 0


def test_what_a_volume_lies_on(sysfs: Sysfs, host: Host) -> None:
    disk = virtio(sysfs)
    piece = sysfs.partition(disk, 1, "254:17", start=100)
    mapped = sysfs.disk("virtual/block/dm-0", "253:0")
    (mapped / "slaves").mkdir()
    sysfs.link("devices/virtual/block/dm-0/slaves/vdb1", piece)
    assert storage.underlying_disks(host, "dm-0") == {"vdb"}
    assert storage.underlying_disks(host, "vdb1") == {"vdb"}


@pytest.mark.parametrize(
    ("udev", "asked"), [({}, 1), ({"ID_SERIAL": "x"}, 1), ({"USEC_INITIALIZED": "1"}, 0)]
)
def test_libblkid_is_asked_only_until_udev_has_an_answer(
    udev: dict[str, str], asked: int, sysfs: Sysfs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    virtio(sysfs)
    probed = list[str]()

    def probe(_host: Host, node: str) -> dict[str, str]:
        probed.append(node)
        return {}

    monkeypatch.setattr(storage, "probe", probe)
    storage.read(Host(tmp_path), "vdb", lambda _name: udev)
    assert len(probed) == asked


def test_a_disk_that_goes_while_it_is_looked_at_is_no_error(sysfs: Sysfs, host: Host) -> None:
    sysfs.subsystem(f"{PCI}/nvme/nvme0", "nvme")
    assert attachment(host, f"/sys/devices/{PCI}/nvme/nvme0/gone/nvme0n1")[0] is None
    assert attachment(host, "/sys/devices/pci0000:07/0000:07:00.0/virtio9/block/vdz")[0] is None
