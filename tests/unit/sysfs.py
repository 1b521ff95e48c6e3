"""A made-up /sys, /dev-less, under a test's root: block devices where the kernel would put them."""

from __future__ import annotations

import os
from pathlib import Path

from agent.lib.records import dataclass

SECTORS = 2048


@dataclass(slots=True)
class Sysfs:
    """Builds below ``root``/sys."""

    root: Path

    def disk(self, path: str, number: str, **attributes: str) -> Path:
        """A block device at /sys/devices/``path``; a partition when its parent is one already."""
        folder = self.root / "sys/devices" / path
        folder.mkdir(parents=True)
        name = folder.name
        files = {"dev": number, "size": str(SECTORS), "ro": "0", "hidden": "0"} | attributes
        for key, value in files.items():
            (folder / key).write_text(value + "\n")
        (folder / "holders").mkdir()
        self.link(f"class/block/{name}", folder)
        self.link(f"dev/block/{number}", folder)
        return folder

    def partition(self, disk: Path, number: int, devno: str, start: int, size: int = 100) -> Path:
        """A partition; ``start`` and ``size`` in sectors of 512 bytes."""
        separator = "p" if disk.name[-1].isdigit() else ""
        path = disk.relative_to(self.root / "sys/devices") / f"{disk.name}{separator}{number}"
        return self.disk(str(path), devno, partition=str(number), start=str(start), size=str(size))

    def subsystem(self, path: str, name: str, **attributes: str) -> None:
        """Say which subsystem the device at /sys/devices/``path`` belongs to."""
        folder = self.root / "sys/devices" / path
        folder.mkdir(parents=True, exist_ok=True)
        (self.root / "sys/bus" / name).mkdir(parents=True, exist_ok=True)
        target = self.root / "sys/bus" / name
        (folder / "subsystem").symlink_to(os.path.relpath(target, folder))
        for key, value in attributes.items():
            (folder / key).write_text(value + "\n")

    def link(self, name: str, target: Path) -> None:
        """/sys/``name`` -> target, relative as the kernel's are."""
        link = self.root / "sys" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(target, link.parent))


PCI = "pci0000:00/0000:00:05.0"


def virtio(sysfs: Sysfs, name: str = "vdb", number: str = "254:16", slot: str = "05.0") -> Path:
    """A virtio-blk disk."""
    pci = f"pci0000:00/0000:00:{slot}"
    if not (sysfs.root / "sys/devices" / pci).exists():
        sysfs.subsystem(pci, "pci")
        sysfs.subsystem(f"{pci}/virtio1", "virtio")
    return sysfs.disk(f"{pci}/virtio1/block/{name}", number, diskseq="9")


def scsi_disk(sysfs: Sysfs, name: str, address: str, number: str) -> Path:
    """A disk of virtio-scsi, by host:channel:target:lun."""
    controller = f"pci0000:00/virtio-{address.partition(':')[0]}"
    host = f"{controller}/host{address.partition(':')[0]}"
    if not (sysfs.root / "sys/devices" / host).exists():
        sysfs.subsystem(controller, "virtio")
        sysfs.subsystem(host, "scsi")
    path = f"{host}/target/{address}"
    sysfs.subsystem(path, "scsi", type="0")
    disk, device = sysfs.disk(f"{path}/block/{name}", number), sysfs.root / "sys/devices" / path
    for folder in (disk, device / "scsi_disk" / address):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "device").symlink_to(os.path.relpath(device, folder))
    sysfs.link(f"class/scsi_disk/{address}", device / "scsi_disk" / address)
    return disk
