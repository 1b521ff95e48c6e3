"""Disks of every bus, table and filesystem, made on the host."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.vm.rig import MIB, Bus, Disk, Table, make_disk, make_filesystem, make_table
from tests.vm.rig.command import run

#: Bytes of a small filesystem of each kind: what its mkfs wants at least, and a little.
SIZES = {"ext4": 64 * MIB, "xfs": 320 * MIB, "btrfs": 128 * MIB, "vfat": 64 * MIB}
BUSES = (Bus.VIRTIO, Bus.SCSI, Bus.NVME)
#: Bytes before and after the one partition.
_BEFORE, _AFTER = MIB, MIB
_LABELS = {Table.MSDOS: "dos", Table.GPT: "gpt"}


@dataclass(frozen=True, slots=True)
class Layout:
    """One disk of the matrix; its name is the label of its filesystem."""

    bus: Bus
    table: Table
    fs: str

    @property
    def name(self) -> str:
        """Return the label; valid on FAT, too: at most 11 characters, upper case."""
        return f"{self.bus[:1]}{self.table[:1]}{self.fs}".upper()

    @property
    def grows(self) -> bool:
        """Return whether it can be enlarged: QEMU cannot resize an NVMe disk, no tool grows a FAT."""
        return self.bus is not Bus.NVME and self.fs != "vfat"

    def make(self, folder: Path) -> Disk:
        """Make the disk; a SCSI one has the platform's vendor name."""
        path = with_table(folder / f"{self.name}.img", self.table, self.fs, self.name)
        vendor = "gandi.ne" if self.bus is Bus.SCSI else ""
        return Disk(path=path, id=self.name, bus=self.bus, serial=f"S-{self.name}", vendor=vendor)

    @property
    def larger(self) -> int:
        """Return the size in bytes to which the disk is enlarged."""
        return 2 * SIZES[self.fs] + _BEFORE + _AFTER


def pairwise() -> list[Layout]:
    """Return twelve disks with every pair of bus, table and filesystem among them."""
    tables = list(Table)
    return [
        Layout(BUSES[(column + row) % len(BUSES)], table, fs)
        for row, fs in enumerate(SIZES)
        for column, table in enumerate(tables)
    ]


def every() -> list[Layout]:
    """Return the disks of all combinations."""
    return [Layout(bus, table, fs) for bus in BUSES for table in Table for fs in SIZES]


def with_table(path: Path, table: Table, fs: str, label: str) -> Path:
    """Make a disk file with a filesystem on the whole disk, or in its only partition."""
    size = SIZES[fs]
    if table is Table.NONE:
        return make_filesystem(path, size, fs, label=label)
    inner = make_filesystem(path.with_suffix(".fs"), size, fs, label=label)
    make_disk(path, _BEFORE + size + _AFTER)
    make_table(path, f"label: {_LABELS[table]}\nstart={_BEFORE // 512}, size={size // 512}\n")
    sparse = ["conv=notrunc,sparse", "status=none"]
    run(["dd", f"if={inner}", f"of={path}", "bs=1M", f"seek={_BEFORE // MIB}", *sparse])
    inner.unlink()
    return path
