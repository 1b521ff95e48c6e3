"""Step: unpack the platform's archive of kernel modules, for images with a kernel that the host provides.

Only an archive for the running kernel is unpacked, directly from the medium, and only below /lib/modules and
/boot. Each archive is unpacked once, so modules that the administrator removes stay removed.
"""

from __future__ import annotations

import os
from functools import partial
from io import RawIOBase

from agent.host.sysfs import devnode
from agent.lib.errors import ConfigError, HostError
from agent.reader.common.archive_layout import modules_release
from agent.report import Item, changed, failed, skipped, unchanged
from agent.state.json_file import digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    import tarfile
    from collections.abc import Iterator
    from typing import IO, Literal

    from agent.context import Context
    from agent.host.host import Host
    from agent.reader.client import Piece

#: Folders that members may be below, as the archive spells them.
PLACES = ("lib/modules", "boot")
#: Limits of an archive: members, and bytes of all of them together when unpacked.
MEMBERS, SIZE = 100_000, 4 << 30
#: Bytes of a member in memory at a time.
_CHUNK = 1 << 20
#: Seconds for depmod(8) over thousands of modules on a slow machine.
_DEPMOD_TIMEOUT = 300.0
#: Seconds for sync(1) of gigabytes to a slow disk.
_SYNC_TIMEOUT = 300.0


def apply(ctx: Context) -> Iterator[Item]:
    """Unpack the archive for the running kernel; yield nothing if this boot's medium has no archive."""
    medium = ctx.medium
    if medium is None or not medium.modules:
        return
    release = os.uname().release
    fitting = [piece for piece in medium.modules if modules_release(piece.name) == release]
    for piece in medium.modules:
        if piece not in fitting:
            yield skipped(piece.name, f"not for the running kernel ({release})")
    if not fitting:
        return
    # With two archives for one kernel, take the bzip2 one.
    piece = max(fitting, key=lambda one: one.name.endswith(".bz2"))
    node = devnode(medium.disk)
    mark = f"modules-{digest(f'{piece.name} {piece.size} {_fingerprint(ctx.host, node, piece)}')[:32]}"
    if ctx.state.is_done(mark):
        yield unchanged("modules", release)
        return
    if not ctx.host.exists("/lib/modules") or not os.access(ctx.host.path("/lib/modules"), os.W_OK):
        yield skipped("modules", "/lib/modules is not writable")
        return
    if ctx.host.allows(f"unpack {piece.name} below /lib/modules and /boot"):
        yield from _unpack(ctx.host, node, piece)
    ctx.host.run(("depmod", release), timeout=_DEPMOD_TIMEOUT)
    # Without this, a power cut could keep the mark and leave the modules empty.
    ctx.host.run(("sync",), timeout=_SYNC_TIMEOUT)
    ctx.state.mark_done(mark)
    yield changed("modules", release)


def _fingerprint(host: Host, node: str, piece: Piece) -> str:
    """Return a digest of the archive's first and last 4 KiB; the end holds its checksums, so two archives of
    one size differ there.
    """
    edge = min(piece.size, 4096)
    with host.opened(node, os.O_RDONLY) as descriptor:
        ends = [os.pread(descriptor, edge, at) for at in (piece.offset, piece.offset + piece.size - edge)]
    return digest(b"".join(ends))


def _unpack(host: Host, node: str, piece: Piece) -> Iterator[Item]:
    import tarfile  # late: it imports twenty modules, and few machines get such an archive
    from typing import cast

    mode: Literal["r|bz2", "r|gz"] = "r|bz2" if piece.name.endswith(".bz2") else "r|gz"
    refused: list[str] = []
    try:
        with host.opened(node, os.O_RDONLY) as descriptor:
            stream = cast("IO[bytes]", _Window(descriptor, piece.offset, piece.size))
            with tarfile.open(fileobj=stream, mode=mode) as tar:
                _extract(host, tar, refused)
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise ConfigError(
            f"{piece.name}: damaged: {error}", hint="the platform must deliver it again"
        ) from error
    except OSError as error:
        raise HostError(f"{piece.name}: cannot be unpacked: {error.strerror or error}") from error
    if refused:
        what = f"{len(refused)} members not unpacked, the first: {ascii(refused[0])[:80]}"
        yield failed(piece.name, what, "only files below lib/modules/ and boot/ are taken")


def _extract(host: Host, tar: tarfile.TarFile, refused: list[str]) -> None:
    from tarfile import FilterError, data_filter

    total = 0
    for count, member in enumerate(tar):
        total += member.size
        if count >= MEMBERS or total > SIZE:
            limits = f"at most {MEMBERS} members and {SIZE} bytes"
            raise ConfigError("the modules archive is too large", hint=limits)
        place = _place(member.name)
        # The target of a hard link is earlier in the stream, which cannot be read again.
        if place is None or member.islnk():
            refused.append(member.name)
            continue
        folder, inside = place
        if not inside:
            continue
        member.name = inside
        try:
            _put(host, tar, data_filter(member, host.path(f"/{folder}")), f"/{folder}/{inside}")
        except FilterError:
            refused.append(member.name)


def _put(host: Host, tar: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
    """Create a member that tarfile's data filter has passed: a folder, a link that stays within the folder,
    or a regular file; owned by root.
    """
    if member.isdir():
        host.mkdir(path)
    elif member.issym():
        host.symlink(path, member.linkname)
    elif content := tar.extractfile(member):
        host.write_chunks(
            path, iter(partial(content.read, _CHUNK), b""), mode=(member.mode or 0o644) & 0o777
        )


def _place(name: str) -> tuple[str, str] | None:
    """Return a member's folder (one of PLACES) and its name there, ("", "") for a parent of those folders,
    None for a member that is refused.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts:
        return None
    path = "/".join(parts)
    for folder in PLACES:
        if path == folder or path.startswith(f"{folder}/"):
            return folder, path[len(folder) + 1 :]
    return ("", "") if path in ("", ".", "lib") else None


class _Window(RawIOBase):
    """A range of bytes of a device as a read-only file."""

    def __init__(self, descriptor: int, offset: int, size: int) -> None:
        super().__init__()
        self._descriptor, self._place, self._end = descriptor, offset, offset + size

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        left = self._end - self._place
        data = os.pread(self._descriptor, left if size < 0 else min(size, left), self._place)
        self._place += len(data)
        return data
