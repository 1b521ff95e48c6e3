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
    """One disk of the matrix; its filesystem's label is its name."""

    bus: Bus
    table: Table
    fs: str

    @property
    def name(self) -> str:
        """A label that FAT can hold too (11 characters, and it has no small ones)."""
        return f"{self.bus[:1]}{self.table[:1]}{self.fs}".upper()

    @property
    def grows(self) -> bool:
        """Whether it can be enlarged: QEMU resizes no NVMe disk, and nothing grows a FAT."""
        return self.bus is not Bus.NVME and self.fs != "vfat"

    def make(self, folder: Path) -> Disk:
        """The disk; those on SCSI say that they are the platform's."""
        path = with_table(folder / f"{self.name}.img", self.table, self.fs, self.name)
        vendor = "gandi.ne" if self.bus is Bus.SCSI else ""
        return Disk(path=path, id=self.name, bus=self.bus, serial=f"S-{self.name}", vendor=vendor)

    @property
    def larger(self) -> int:
        """The size to which the disk is enlarged, in bytes."""
        return 2 * SIZES[self.fs] + _BEFORE + _AFTER


def pairwise() -> list[Layout]:
    """Twelve disks among which each two of bus, table and filesystem meet."""
    tables = list(Table)
    return [
        Layout(BUSES[(column + row) % len(BUSES)], table, fs)
        for row, fs in enumerate(SIZES)
        for column, table in enumerate(tables)
    ]


def every() -> list[Layout]:
    """All of them."""
    return [Layout(bus, table, fs) for bus in BUSES for table in Table for fs in SIZES]


def with_table(path: Path, table: Table, fs: str, label: str) -> Path:
    """A disk file with a filesystem on the whole of it, or in its one partition."""
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
