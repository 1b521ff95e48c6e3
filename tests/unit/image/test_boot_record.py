"""Partition tables as sfdisk(8) makes them, damaged ones, and where GRUB's boot record is written."""

from __future__ import annotations

import random
import struct
import subprocess
from pathlib import Path

import pytest

from agent.host.host import Host
from agent.image import boot_record
from agent.image.boot_record import Layout
from agent.lib.errors import ConfigError
from tests.contents import digest

MIB = 1 << 20
SIZE = 128 * MIB
MSDOS = "label: dos\nstart=2048, size=4096, type=82\nstart=6144, type=83, bootable\n"
GPT = (
    "label: gpt\nstart=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649\n"
    "start=4096, size=131072, type=U\nstart=135168, type=L\n"
)
#: As grub-mkimage writes them, as far as their format is read here.
BOOT = bytes([1]) * 510 + b"\x55\xaa"
CORE = bytes([2]) * 500 + struct.pack("<QHH", 2, 60, 0x820) + bytes([3]) * 30000


def made(tmp_path: Path, table: str = "") -> Path:
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(SIZE)
    if table:
        subprocess.run(["sfdisk", "-q", disk], input=table, text=True, check=True)
    return disk


@pytest.mark.parametrize(
    ("table", "layout"),
    [
        (MSDOS, Layout("msdos", 1, 1024)),
        ("label: dos\nstart=63, type=83\n", Layout("msdos", 1, 62)),
        (GPT, Layout("gpt", 2048, 1024, (4096, 131072))),
        ("label: gpt\nstart=2048, type=L\n", Layout("gpt", 0, 0)),
        ("label: gpt\nstart=2048, size=8192, type=U\n", Layout("gpt", 0, 0, (2048, 8192))),
    ],
)
def test_where_a_boot_loader_has_room(tmp_path: Path, table: str, layout: Layout) -> None:
    assert boot_record.layout(Host(), str(made(tmp_path, table))) == layout


def test_a_disk_without_a_table_boots_by_no_bios(tmp_path: Path) -> None:
    disk = made(tmp_path)
    subprocess.run(["mkfs.ext4", "-q", "-F", disk], check=True)
    with pytest.raises(ConfigError, match="no partition table: no BIOS boots it") as caught:
        boot_record.layout(Host(), str(disk))
    assert "partition=gpt or msdos" in caught.value.hint


def test_a_partition_at_the_beginning_leaves_no_room(tmp_path: Path) -> None:
    disk = made(tmp_path, MSDOS)
    with disk.open("r+b") as file:
        file.seek(446 + 8)
        file.write(bytes(4))
    assert boot_record.layout(Host(), str(disk)) == Layout("msdos", 1, 0)


@pytest.mark.parametrize("field", [72, 80, 84])
def test_a_damaged_gpt_is_refused(tmp_path: Path, field: int) -> None:
    """Its fields: where the partitions are, how many, and their size."""
    disk = made(tmp_path, GPT)
    with disk.open("r+b") as file:
        file.seek(512 + field)
        file.write(b"\xff\xff\xff\xff")
    with pytest.raises(ConfigError, match="its GPT is damaged"):
        boot_record.layout(Host(), str(disk))


def test_no_table_leads_outside_the_disk(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chosen = random.Random(seed)
    disk = made(tmp_path, GPT)
    whole = disk.read_bytes()[: 34 * 512]
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(chosen.randrange(1, 40)):
            damaged[chosen.choice((chosen.randrange(446, 510), chosen.randrange(512, 1600)))] = (
                chosen.randrange(256)
            )
        with disk.open("r+b") as file:
            file.write(damaged)
        try:
            found = boot_record.layout(Host(), str(disk))
        except ConfigError:
            continue
        assert (found.first + found.sectors) * 512 <= SIZE
        assert sum(found.esp) * 512 <= SIZE
        assert found.sectors == 0 or found.first >= (34 if found.table == "gpt" else 1)


@pytest.mark.parametrize("table", [MSDOS, GPT])
def test_both_images_are_written_and_all_else_stays(tmp_path: Path, table: str) -> None:
    disk = made(tmp_path, table)
    before, size = disk.read_bytes(), -(-len(CORE) // 512) * 512
    there = boot_record.layout(Host(), str(disk))
    assert boot_record.write(Host(), str(disk), there, BOOT, CORE)
    after, core = disk.read_bytes(), there.first * 512
    # The code, with the place of core.img and no jump for a floppy; signature and partitions are kept.
    assert after[0x5A:0x5C] == BOOT[0x5A:0x5C]
    assert struct.unpack_from("<Q", after, 0x5C) == (there.first,)
    assert after[0x66:0x68] == b"\x90\x90"
    assert after[0x68:0x1B8] == BOOT[0x68:0x1B8]
    assert after[0x1B8:0x200] == before[0x1B8:0x200]
    assert struct.unpack_from("<QHH", after, core + 0x1F4) == (there.first + 1, size // 512 - 1, 0x820)
    assert after[core + 512 : core + len(CORE)] == CORE[512:]
    assert after[512:core] == before[512:core]
    assert after[core + size :] == before[core + size :]
    assert not boot_record.write(Host(), str(disk), there, BOOT, CORE), "there already"


@pytest.mark.parametrize(
    ("boot", "core", "said"),
    [
        (b"", CORE, "boot.img: not a boot record"),
        (BOOT[:-2] + b"\0\0", CORE, "boot.img: not a boot record"),
        (BOOT, b"", "core.img: not an image"),
        (BOOT, bytes(len(CORE)), "core.img: not an image"),
        (BOOT, CORE * 40, "1024 sectors are free for GRUB, and it needs 2384"),
    ],
    # pytest puts the name of a test into the environment of the programs, which has a limit.
    ids=["no record", "no signature", "no core", "empty core", "too large"],
)
def test_what_is_no_image_or_does_not_fit_leaves_the_disk(
    tmp_path: Path, boot: bytes, core: bytes, said: str
) -> None:
    disk = made(tmp_path, MSDOS)
    before = digest(disk)
    with pytest.raises(ConfigError, match=said):
        boot_record.write(Host(), str(disk), boot_record.layout(Host(), str(disk)), boot, core)
    assert digest(disk) == before
