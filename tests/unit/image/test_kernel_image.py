"""Kernel images: each compression, and each input that is refused without changing the file."""

from __future__ import annotations

import gzip
import lzma
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.host.host import Host
from agent.image import kernel_image
from agent.lib.errors import AgentError, ConfigError, HostError
from agent.report import Outcome

#: An ELF64 kernel as small as one can be: the header, one segment to be loaded, and its bytes.
CODE = bytes(range(256)) * 600
ELF = (
    b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0x1000000, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    + struct.pack("<IIQQQQQQ", 1, 5, 120, 0, 0, len(CODE), len(CODE), 4096)
    + CODE
)
SETUP_SECTS = 3
OFFSET = 100


def bzimage(packed: bytes, *, version: int = 0x020F, length: int | None = None) -> bytes:
    """Return a kernel image with the payload ``packed``."""
    head = bytearray((SETUP_SECTS + 1) * 512 + OFFSET)
    head[0x1F1] = SETUP_SECTS
    head[0x1FE:0x200] = b"\x55\xaa"
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x206, version)
    struct.pack_into("<II", head, 0x248, OFFSET, len(packed) if length is None else length)
    return bytes(head) + packed + b"what comes after the payload"


def sized(packed: bytes, size: int = len(ELF)) -> bytes:
    return packed + struct.pack("<I", size)


def by(*argv: str) -> Callable[[bytes], bytes]:
    def pack(data: bytes) -> bytes:
        return sized(subprocess.run(argv, input=data, capture_output=True, check=True).stdout, len(data))

    return pack


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lambda data: sized(lzma.compress(data, check=lzma.CHECK_CRC32), len(data)),
    "xz for x86": lambda data: sized(
        lzma.compress(
            data, check=lzma.CHECK_CRC32, filters=[{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2}]
        ),
        len(data),
    ),
    "lz4": by("lz4", "-l", "-9", "-c"),
    "zstd": by("zstd", "-19", "-c"),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "boot/vmlinuz-6.12"
    path.parent.mkdir()
    return path


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the work folder of the real programs below the test's folder."""
    monkeypatch.setattr(kernel_image, "_WORK", str(tmp_path / "work"))


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.usefixtures("tools")
def test_each_packing(packing: str, file: Path) -> None:
    file.write_bytes(bzimage(PACKINGS[packing](ELF)))
    file.chmod(0o600)
    assert kernel_image.unpack_image(Host(), str(file)).outcome is Outcome.CHANGED
    assert file.read_bytes() == ELF
    assert file.stat().st_mode & 0o777 == 0o600
    assert kernel_image.unpack_image(Host(), str(file)).outcome is Outcome.UNCHANGED
    assert [path.name for path in file.parent.iterdir()] == [file.name]


GZIP, XZ = PACKINGS["gzip"](ELF), PACKINGS["xz"](ELF)
DAMAGED = {
    "empty": (b"", "not an x86 kernel image"),
    "text": (b"#!/bin/sh\n" * 200, "not an x86 kernel image"),
    "truncated": (bzimage(GZIP)[:-200], "truncated"),
    "header only": (bzimage(GZIP)[:512], "not an x86 kernel image"),
    "old protocol": (bzimage(GZIP, version=0x0204), "boot protocol 2.04"),
    "no payload": (bzimage(b""), "truncated"),
    "length beyond the file": (bzimage(GZIP, length=0xFFFFFFF0), "truncated"),
    "a bit in gzip": (bzimage(GZIP[:200] + bytes([GZIP[200] ^ 255]) + GZIP[201:]), "damaged"),
    "a bit in xz": (bzimage(XZ[:200] + bytes([XZ[200] ^ 255]) + XZ[201:]), "damaged"),
    "gzip that does not end": (bzimage(GZIP[:-300] + GZIP[-4:]), "damaged"),
    "larger than said": (bzimage(XZ[:-4] + struct.pack("<I", 1000)), "damaged"),
    "smaller than said": (bzimage(XZ[:-4] + struct.pack("<I", len(ELF) + 1)), "damaged"),
    "a bomb": (bzimage(XZ[:-4] + struct.pack("<I", 0xFFFFFFFF)), "damaged"),
    "packed in no known way": (bzimage(sized(b"BZh91AY" * 40)), "unknown compression"),
    "no ELF": (bzimage(gzip.compress(CODE)), "contains no ELF image"),
    "ELF for another machine": (
        bzimage(gzip.compress(ELF[:18] + b"\xb7\0" + ELF[20:])),
        "contains no kernel for x86",
    ),
    "ELF that ends early": (bzimage(gzip.compress(ELF[:-1])), "truncated"),
    "ELF header alone": (bzimage(gzip.compress(ELF[:40])), "truncated"),
    "an ELF file that is cut off": (ELF[:-1], "truncated"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_is_damaged_is_refused_and_left(name: str, file: Path) -> None:
    data, why = DAMAGED[name]
    file.write_bytes(data)
    before = file.stat()
    with pytest.raises(ConfigError, match=why):
        kernel_image.unpack_image(Host(), str(file))
    assert (file.read_bytes(), file.stat().st_mtime_ns) == (data, before.st_mtime_ns)


@pytest.mark.parametrize("packing", ["lz4", "zstd"])
@pytest.mark.usefixtures("tools")
def test_a_tool_writes_no_more_than_the_image_says(packing: str, file: Path) -> None:
    data = bzimage(PACKINGS[packing](ELF)[:-4] + struct.pack("<I", 1000))
    file.write_bytes(data)
    with pytest.raises(AgentError, match="damaged"):
        kernel_image.unpack_image(Host(), str(file))
    assert file.read_bytes() == data


def test_a_tool_that_is_missing_is_named_by_its_package(tmp_path: Path, file: Path) -> None:
    file.write_bytes(bzimage(sized(b"\x28\xb5\x2f\xfd" + bytes(400))))
    with pytest.raises(HostError) as error:
        kernel_image.unpack_image(Host(tmp_path), "/boot/vmlinuz-6.12")
    assert error.value.hint == "install the package zstd"


def sysfs(root: Path, kind: str, guest: str) -> Host:
    (root / "sys/hypervisor").mkdir(parents=True)
    (root / "sys/hypervisor/type").write_text(f"{kind}\n")
    (root / "sys/hypervisor/guest_type").write_text(f"{guest}\n")
    return Host(root)


@pytest.mark.parametrize(
    ("kind", "guest", "is_pv"), [("xen", "PV", True), ("xen", "PVH", False), ("xen", "HVM", False)]
)
def test_only_xen_pv_needs_it(tmp_path: Path, kind: str, guest: str, is_pv: bool) -> None:
    host = sysfs(tmp_path, kind, guest)
    assert (kernel_image.why_skipped(host, "auto") == "") is is_pv
    assert kernel_image.why_skipped(host, "1") == ""
    assert kernel_image.why_skipped(host, "0") == "CONFIG_DECOMPRESS_KERNEL=0"
    assert kernel_image.why_skipped(Host(tmp_path, offline=True), "auto"), (
        "another machine's /sys says nothing"
    )


def test_elsewhere_the_installed_kernels_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert kernel_image.decompress(Host(tmp_path), [], setting="auto", force=False, quiet=True) == 0
    assert capsys.readouterr().out == ""


def test_one_that_fails_does_not_keep_the_others_packed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = sysfs(tmp_path, "xen", "PV")
    (tmp_path / "boot").mkdir()
    for name, data in (("vmlinuz-1", b"x"), ("vmlinuz-2", bzimage(GZIP)), ("vmlinuz.old", b"x")):
        (tmp_path / "boot" / name).write_bytes(data)
    assert kernel_image.decompress(host, [], setting="auto", force=False, quiet=True) == 1
    assert (tmp_path / "boot/vmlinuz-2").read_bytes() == ELF
    said = capsys.readouterr().out
    assert "failed: /boot/vmlinuz-1" in said
    assert "vmlinuz.old" not in said
