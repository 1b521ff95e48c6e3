"""Replace compressed kernels (bzImage) with their ELF image, for loaders that cannot unpack them.

The loader of a Xen PV machine builds the domain from an ELF image; older loaders unpack only gzip. Place and
length of the payload are in the header of the x86 boot protocol (the kernel's
Documentation/arch/x86/boot.rst). The ELF image is checked before the file is replaced, in one rename.
"""

from __future__ import annotations

import re
import struct
import zlib

from agent.host import machine_uuid
from agent.lib.errors import ConfigError, HostError
from agent.lib.records import dataclass
from agent.report import changed, guarded, skipped, unchanged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.host.host import Host
    from agent.report import Item

FOLDER = "/boot"
#: Names of installed kernels on Debian and Fedora.
_INSTALLED = re.compile(r"vmlinuz-[0-9].*")
#: Work folder of the unpacking tools, accessible to root only.
_WORK = "/var/lib/gandi/kernel"
#: Maximum bytes of a kernel image, compressed or not: the largest today have 80 MB.
LIMIT = 256 << 20
#: Seconds for a tool to unpack one kernel: an emulated machine takes ten.
_TIMEOUT = 300.0
#: boot.rst: setup_sects, boot_flag, header, version, payload_offset, payload_length.
_SETUP_SECTS, _BOOT_FLAG, _HEADER, _VERSION, _PAYLOAD = 0x1F1, 0x1FE, 0x202, 0x206, 0x248
_SECTOR, _DEFAULT_SECTS = 512, 4
#: The first protocol version with the payload's place in the header (Linux 2.6.26).
_OLDEST = 0x0208
#: The kernel's scripts/Makefile.lib appends the unpacked size to the payload; in gzip it is the trailer.
_SIZE = struct.Struct("<I")
#: The ELF header after e_ident, by class: type, machine, version, entry, phoff, shoff, flags, ehsize,
#: phentsize, phnum.
_ELF = {1: struct.Struct("<HHIIIIIHHH"), 2: struct.Struct("<HHIQQQIHHH")}
_IDENT, _LITTLE = 16, 1
#: A program header, by class (elf(5)): p_type is its first field.
_SEGMENT = {1: struct.Struct("<IIIIIIII"), 2: struct.Struct("<IIQQQQQQ")}
_EXECUTABLE, _LOAD = 2, 1
_MACHINES = frozenset({3, 62})  # EM_386, EM_X86_64


@dataclass(frozen=True, slots=True)
class Tool:
    """A program for a format that the standard library cannot unpack, and the package that contains it."""

    package: str
    argv: tuple[str, ...]


_TOOLS = {
    b"\x02\x21\x4c\x18": Tool("lz4", ("lz4", "-d", "-f", "-q")),
    b"\x28\xb5\x2f\xfd": Tool("zstd", ("zstd", "-d", "-f", "-q", "--no-progress", "-o")),
}
_GZIP, _XZ = b"\x1f\x8b", b"\xfd7zXZ\x00"


def why_skipped(host: Host, setting: str) -> str:
    """Return why kernels stay packed, by CONFIG_DECOMPRESS_KERNEL and the machine; "" to unpack them."""
    if setting == "0":
        return "CONFIG_DECOMPRESS_KERNEL=0"
    if setting == "1" or machine_uuid.is_xen_pv(host):
        return ""
    return "only a Xen PV machine needs it, and this is not one (CONFIG_DECOMPRESS_KERNEL=1: unpack anyway)"


def installed(host: Host) -> list[str]:
    """Return the paths of the kernels in /boot."""
    from agent.host.sysfs import listed

    return [f"{FOLDER}/{name}" for name in listed(host, FOLDER) if _INSTALLED.fullmatch(name)]


def unpack_all(host: Host, names: list[str]) -> Iterator[Item]:
    """Unpack each kernel; a failure is reported, and the others are unpacked all the same."""
    for name in names:
        yield from guarded(name, _items(host, name))


def _items(host: Host, name: str) -> Iterator[Item]:
    yield unpack_image(host, name)


def unpack_image(host: Host, name: str) -> Item:
    """Replace a bzImage with the ELF image in it, with the file's owner and mode.

    Raise ConfigError for a file that is not a kernel image or is damaged, HostError if it cannot be unpacked
    here. The file is then unchanged.
    """
    there = host.read_file(name, limit=LIMIT)
    if there is None:
        raise ConfigError(f"{name}: no such file")
    data = there.content
    if data.startswith(b"\x7fELF"):
        check_elf(name, data)
        return unchanged(name, "is an ELF image already")
    packed, size = payload(name, data)
    if host.dry_run:
        return changed(name, f"{size} bytes unpacked")
    image = _unpacked(host, name, packed, size)
    if len(image) != size:
        raise ConfigError(f"{name}: damaged: {len(image)} bytes unpacked, {size} expected")
    check_elf(name, image)
    host.write(name, image, mode=there.mode, owner=there.owner, sync=True)
    return changed(name, f"{size} bytes unpacked")


def payload(name: str, data: bytes) -> tuple[bytes, int]:
    """Return the payload of a bzImage and its unpacked size in bytes. Raise ConfigError for data that is not
    a bzImage or is truncated.
    """
    headed = len(data) >= _PAYLOAD + 8 and data[_BOOT_FLAG : _BOOT_FLAG + 2] == b"\x55\xaa"
    if not headed or data[_HEADER : _HEADER + 4] != b"HdrS":
        raise ConfigError(f"{name}: not an x86 kernel image")
    (version,) = struct.unpack_from("<H", data, _VERSION)
    if version < _OLDEST:
        raise ConfigError(
            f"{name}: boot protocol {version >> 8}.{version & 255:02} does not give the payload's place"
        )
    offset, length = struct.unpack_from("<II", data, _PAYLOAD)
    begin = ((data[_SETUP_SECTS] or _DEFAULT_SECTS) + 1) * _SECTOR + offset
    if length <= _SIZE.size or begin + length > len(data):
        raise ConfigError(f"{name}: truncated: its payload ends at byte {begin + length} of {len(data)}")
    packed = data[begin : begin + length]
    (size,) = _SIZE.unpack_from(packed, length - _SIZE.size)
    if not 0 < size <= LIMIT:
        raise ConfigError(f"{name}: damaged: it would have {size} bytes when unpacked")
    return packed, size


def _unpacked(host: Host, name: str, packed: bytes, size: int) -> bytes:
    if packed.startswith(_GZIP):
        return _by_library(name, packed, size, _gunzip)
    body = packed[: -_SIZE.size]
    if body.startswith(_XZ):
        return _by_library(name, body, size, _unxz)
    tool = next((tool for magic, tool in _TOOLS.items() if body.startswith(magic)), None)
    if tool is None:
        raise ConfigError(f"{name}: unknown compression (its payload begins with {body[:4].hex()})")
    return _by_tool(host, name, body, size, tool)


def _by_library(name: str, packed: bytes, size: int, unpacker: Callable[[bytes, int], bytes]) -> bytes:
    import lzma

    try:
        return unpacker(packed, size)
    except (zlib.error, lzma.LZMAError, EOFError) as error:
        raise ConfigError(f"{name}: damaged: {error}") from error


def _gunzip(packed: bytes, size: int) -> bytes:
    stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
    image = stream.decompress(packed, size + 1)
    if not stream.eof:
        raise EOFError("its payload does not end where it should")
    return image


def _unxz(packed: bytes, size: int) -> bytes:
    import lzma

    stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=LIMIT)
    image = stream.decompress(packed, size + 1)
    if not stream.eof and len(image) == size:
        image += stream.decompress(b"", 1)  # read the index at the end, which is verified
    if not stream.eof:
        raise EOFError("its payload does not end where it should")
    return image


def _by_tool(host: Host, name: str, packed: bytes, size: int, tool: Tool) -> bytes:
    """Unpack with a program, from file to file; it may write no more than ``size`` bytes."""
    if not host.which(tool.package):
        raise HostError(
            f"{name}: needs {tool.package}, which is not installed",
            hint=f"install the package {tool.package}",
        )
    source, target = f"{_WORK}/packed", f"{_WORK}/unpacked"
    host.mkdir(_WORK.rpartition("/")[0], mode=0o700)
    host.mkdir(_WORK, mode=0o700)
    try:
        host.write(source, packed, mode=0o600)
        host.remove(target)
        where = (target, source) if tool.argv[-1] == "-o" else (source, target)
        host.run(("prlimit", f"--fsize={size}", *tool.argv, *where), timeout=_TIMEOUT)
        return host.read_bytes(target, limit=size + 1) or b""
    except HostError as error:
        what = f"{name}: damaged, or cannot be unpacked here: {error.message}"
        raise HostError(what, hint=error.hint) from error
    finally:
        for left in (source, target, _WORK):
            host.remove(left)


def check_elf(name: str, image: bytes) -> None:
    """Raise ConfigError unless this is a whole executable ELF image for x86."""
    kind = image[4] if len(image) > _IDENT else 0
    header = _ELF.get(kind)
    if not image.startswith(b"\x7fELF") or header is None or image[5] != _LITTLE:
        raise ConfigError(f"{name}: contains no ELF image")
    if len(image) < _IDENT + header.size:
        raise ConfigError(f"{name}: truncated")
    found = header.unpack_from(image, _IDENT)
    sort, machine, phoff, phentsize, phnum = found[0], found[1], found[4], found[8], found[9]
    segment = _SEGMENT[kind]
    if sort != _EXECUTABLE or machine not in _MACHINES or phentsize != segment.size:
        raise ConfigError(f"{name}: contains no kernel for x86")
    if phoff + phnum * phentsize > len(image):
        raise ConfigError(f"{name}: truncated")
    loaded = 0
    for number in range(phnum):
        fields = segment.unpack_from(image, phoff + number * phentsize)
        offset, length = (fields[1], fields[4]) if kind == 1 else (fields[2], fields[5])
        if fields[0] == _LOAD:
            loaded += 1
            if offset + length > len(image):
                raise ConfigError(f"{name}: truncated: it ends within a loadable segment")
    if not loaded:
        raise ConfigError(f"{name}: it has no loadable segment")


def decompress(host: Host, names: list[str], *, setting: str, force: bool, quiet: bool) -> int:
    """Unpack these kernels, by default the installed ones, if the machine needs it or with ``force``. Return
    the exit status: 1 if one failed. ``quiet``: print only changes and failures.
    """
    from agent.host import terminal
    from agent.report import Outcome

    why = "" if force else why_skipped(host, setting)
    items = [skipped("kernel images", why)] if why else unpack_all(host, names or installed(host))
    worst = 0
    for item in items:
        worst = max(worst, int(item.outcome is Outcome.FAILED))
        if not quiet or item.outcome in (Outcome.CHANGED, Outcome.FAILED):
            terminal.print_lines(item)
    return worst
