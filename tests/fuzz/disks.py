"""What is on a disk that someone attached, and what the firmware and the kernel say of the machine."""

from __future__ import annotations

import gzip
import lzma
import os
import re
import struct
from collections.abc import Iterator
from functools import partial

from agent.block.storage import Device, Disk
from agent.disks import mode_notify, policy
from agent.disks.base import filesystem, partition_table
from agent.disks.usage import services_file
from agent.host import smbios
from agent.image import boot_record, kernel_image
from agent.lib.errors import AgentError, ConfigError, HostError
from agent.programs import ownership
from agent.sources import superblock
from agent.systemd import units
from tests import hostile
from tests.fuzz.target import Target, with_file
from tests.unit.image.test_kernel_image import ELF, OFFSET, SETUP_SECTS, bzimage

NODE = "/dev/vdb"
#: Bytes of the disk that an input is the beginning of.
SIZE = 64 << 20
#: More bytes than a filesystem's fields can count: 64-bit numbers of blocks of 32-bit sizes.
LARGEST = 1 << 96


def _partition_table(sector: int, data: bytes) -> None:
    host = with_file(NODE, data)
    disk = Disk(Device("vdb", "254:16", SIZE), sector_size=sector)
    table = partition_table.read(host, disk)
    assert table.limit <= SIZE
    assert isinstance(table.blank_guid, bool)
    if table.extended:
        assert 1 <= table.extended.number <= 4
        assert 0 <= table.extended.start <= table.extended.end


def _boot_record(data: bytes) -> None:
    """The place for the boot loader is inside the disk, and before the first partition."""
    host = with_file(NODE, data)
    os.truncate(f"{host.root}{NODE}", SIZE)
    layout = boot_record.layout(host, NODE)
    assert layout.sectors >= 0
    assert (layout.first + layout.sectors) * boot_record.SECTOR <= SIZE
    assert sum(layout.esp) * boot_record.SECTOR <= SIZE


def _gpt(entries: int = 128, number: int = 128) -> bytes:
    """Return the beginning of a disk with a BIOS boot partition and an ESP."""
    mbr = bytearray(512)
    mbr[446:462] = struct.pack("<BBHBBHII", 0, 0, 0, 0xEE, 0, 0, 1, SIZE // 512 - 1)
    mbr[510:] = b"\x55\xaa"
    head = struct.pack("<8sIIIIQQQQ16sQIII", b"EFI PART", 1 << 16, 92, 0, 0, 1, SIZE // 512 - 1, 34, 131038,
                       bytes(16), 2, number, entries, 0)  # fmt: skip
    parts = b"".join(
        struct.pack("<16s16sQQ", kind, bytes(16), first, last).ljust(entries, b"\0")
        for kind, first, last in ((boot_record._BIOS_BOOT, 40, 2047), (boot_record._ESP, 2048, 8191))
    )
    return bytes(mbr) + head.ljust(512, b"\0") + parts


def _msdos() -> bytes:
    parts = ((0x83, 2048, 8192), (0x05, 10240, 8192))
    table = b"".join(struct.pack("<B3xB3xII", 0, kind, first, count) for kind, first, count in parts)
    return bytes(446) + table.ljust(64, b"\0") + b"\x55\xaa"


def _filesystem(fstype: str, data: bytes) -> None:
    host = with_file(NODE, data)
    assert 0 <= filesystem.unmounted_size(host, fstype, NODE) < LARGEST
    if fstype == "ext4":
        block = filesystem.superblock(host, NODE)
        assert not filesystem.wants_check(block, 1.0e9) or filesystem.may_want_check(block)


def _ext4() -> Iterator[bytes]:
    block = bytearray(1024)
    struct.pack_into("<I", block, 4, 4096)
    struct.pack_into("<I", block, 0x18, 2)
    struct.pack_into("<HhHH", block, 0x34, 1, -1, 0xEF53, 1)
    yield bytes(1024) + bytes(block)


def _xfs() -> Iterator[bytes]:
    yield (b"XFSB" + struct.pack(">IQ", 4096, 4096)).ljust(512, b"\0")


def _btrfs() -> Iterator[bytes]:
    yield bytes(64 << 10) + (bytes(64) + b"_BHRfS_M" + bytes(40) + struct.pack("<Q", 1 << 24)).ljust(
        512, b"\0"
    )


def _label(data: bytes) -> None:
    """A drive is recognised by a label of printable characters, or it is none."""
    boot, volume = data[:512], data[512:2560]
    host = with_file(NODE, boot.ljust(superblock._VOLUME, b"\0") + volume)
    with_file("/sys/class/block/vdb/size", b"%d\n" % (SIZE // 512))
    label = superblock._guess(host, "vdb")
    assert label is None or (len(label) <= 32 and label == label.lower())


def _labels() -> Iterator[bytes]:
    yield bytes(512) + (b"\x01CD001\x01" + bytes(33) + b"CIDATA".ljust(32)).ljust(2048, b"\0")
    yield bytes(43) + b"CIDATA     FAT16   ".ljust(467, b"\0") + b"\x55\xaa"
    yield bytes(71) + b"config-2   FAT32   ".ljust(439, b"\0") + b"\x55\xaa"


def _folder_name(data: bytes) -> None:
    """Any label is a folder's name, a part of a unit's name, and a line for terminals."""
    name = policy.folder_name(data)
    assert "/" not in name
    assert not name.startswith(".")
    assert len(os.fsencode(name)) <= 255
    assert name.isprintable()
    for number in (1, 2, 1000):
        assert len(os.fsencode(policy.numbered_name(name, number))) <= 255
    if name:
        unit = units.of_path(f"/srv/{name}", "mount")
        assert re.fullmatch(r"[A-Za-z0-9:_.\\-]+\.mount", unit)
    said = mode_notify.announcement(NODE, data, SIZE, "ext4", f"/srv/{name}")
    assert hostile.HARMLESS.fullmatch(said.replace("\r\n", "\n")), said


def _services(data: bytes) -> None:
    found = services_file.names(data)
    assert len(found) <= 64
    for name in found:
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9:_.@\\-]*\.service", name)
        assert not name.startswith(("ssh.", "sshd.", "gandi-", "systemd-"))


def _kernel(data: bytes) -> None:
    """What is unpacked has the size that the image names, and is one to be booted."""
    if data.startswith(b"\x7fELF"):
        kernel_image.check_elf("vmlinuz", data)
        return
    packed, size = kernel_image.payload("vmlinuz", data)
    assert len(packed) < len(data)
    if size <= 1 << 20 and packed.startswith((kernel_image._GZIP, kernel_image._XZ)):
        image = kernel_image._unpacked(with_file("/boot/vmlinuz", data), "vmlinuz", packed, size)
        assert len(image) <= size + 1
        kernel_image.check_elf("vmlinuz", image)


def _kernels() -> Iterator[bytes]:
    image = ELF[:200]
    sized = lzma.compress(image, check=lzma.CHECK_CRC32) + struct.pack("<I", len(image))
    yield from (bzimage(gzip.compress(image, mtime=0)), bzimage(sized), ELF[:1200])
    yield bzimage(b"\x28\xb5\x2f\xfd" + bytes(20))[: (SETUP_SECTS + 1) * 512 + OFFSET + 24]


def _smbios(data: bytes) -> None:
    uuid = smbios.uuid_in(data)
    assert uuid == "" or re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", uuid)


def _tables() -> Iterator[bytes]:
    bios = bytes((0, 24, 0, 0)) + bytes(20) + b"vendor\0version\0\0"
    yield bios + bytes((1, 27, 1, 0)) + bytes(4) + bytes(range(16)) + bytes(3) + b"maker\0\0"


def _acl(data: bytes) -> None:
    for tag, number in ownership.writers(data):
        assert tag in (2, 4, 8)
        assert -1 <= number < 1 << 32


_GPTS = (_gpt(), _gpt(256, 8))

TARGETS = (
    *(
        Target(
            f"partition-table-{sector}",
            partial(_partition_table, sector),
            lambda: [*_GPTS, _msdos(), _msdos()[:446].ljust(4096, b"\0") + _gpt()[512:]],
            (HostError,),
            (b"EFI PART", b"\x55\xaa", b"\xee", b"\x0f"),
            8192,
        )
        for sector in (512, 4096)
    ),
    Target(
        "boot-record",
        _boot_record,
        lambda: [*_GPTS, _msdos()],
        (ConfigError, HostError),
        (b"EFI PART", b"\x55\xaa", boot_record._BIOS_BOOT, boot_record._ESP),
        8192,
    ),
    Target("ext4", partial(_filesystem, "ext4"), _ext4, (HostError,), (b"\x53\xef",), 2048),
    Target("xfs", partial(_filesystem, "xfs"), _xfs, (HostError,), (b"XFSB",), 512),
    Target("btrfs", partial(_filesystem, "btrfs"), _btrfs, (HostError,), (b"_BHRfS_M",), 66048),
    Target("drive-label", _label, _labels, (), (b"\x01CD001\x01", b"FAT12", b"\x55\xaa"), 2560),
    Target("folder-name", _folder_name, lambda: hostile.LABELS, largest=512),
    Target("services-file", _services, lambda: [b"# mine\nnginx\npostgresql@15-main.service\nssh\n"]),
    Target("kernel-image", _kernel, _kernels, (AgentError,), (b"HdrS", b"\x7fELF", b"\x55\xaa"), 16384),
    Target("smbios", _smbios, _tables),
    Target(
        "acl",
        _acl,
        lambda: [struct.pack("<I", 2) + struct.pack("<HHI", 1, 7, 0) + struct.pack("<HHI", 8, 7, 100)],
        (ValueError,),
        largest=256,
    ),
)
