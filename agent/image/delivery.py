"""Read a delivery that the operator names by its path, to configure an image or to check a document.

It can be a JSON document, a folder laid out as a drive, or an image or device that holds an archive or a
drive's filesystem. The operator has chosen the medium, so its label and bus are not checked.
"""

from __future__ import annotations

import contextlib
import os
import stat

from agent.block import detached_mount, storage
from agent.host.host import READ_LIMIT
from agent.lib.errors import ConfigError, HostError
from agent.lib.text import WHITE
from agent.reader import client
from agent.reader.common import archive_layout
from agent.sources import config_drives
from agent.sources.drive_files import Tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.host.host import Host
    from agent.reader.client import Parsed

#: Names a document on standard input, which leaves no copy on a disk.
STDIN = "-"
_HINT = "name a JSON document, a folder laid out as a drive, or an image or device that holds one of these"


def read(host: Host, path: str) -> Parsed:
    """Return the parsed delivery. Raise ConfigError if the path holds none, HostError if reading fails."""
    if path == STDIN:
        return document(standard_input())
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", hint=_HINT) from error
    if stat.S_ISDIR(mode):
        with host.opened(path, os.O_RDONLY | os.O_DIRECTORY) as root:
            return _drive(path, root)
    if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
        raise ConfigError(f"{path}: not a file, a folder or a disk", hint=_HINT)
    with host.opened(path, os.O_RDONLY) as medium:
        try:
            found = _archive(path, medium)
        except OSError as error:
            raise HostError(f"{path}: cannot be read: {error.strerror}") from error
    if found is not None:
        return found
    fstype = storage.probe(host, os.path.abspath(path)).get("ID_FS_TYPE", "")
    if fstype in ("iso9660", "vfat"):
        with _device(host, path, mode) as node:
            info = os.stat(node).st_rdev
            with detached_mount.mounted(node, fstype, f"{os.major(info)}:{os.minor(info)}") as root:
                return _drive(path, root)
    if stat.S_ISBLK(mode):
        raise ConfigError(f"{path}: contains {fstype or 'no known format'}, not a configuration", hint=_HINT)
    return document(host.read_bytes(path) or b"")


def document(data: bytes) -> Parsed:
    """Parse a document as that of an archive, native or not: its top level decides."""
    return client.parse_files("gandi", {archive_layout.CONFIG: data})


def standard_input() -> bytes:
    """Return all of standard input. Raise ConfigError if it is larger than READ_LIMIT."""
    data = bytearray()
    while len(data) <= READ_LIMIT and (chunk := os.read(0, 1 << 20)):
        data += chunk
    if len(data) > READ_LIMIT:
        raise ConfigError(f"standard input: larger than {READ_LIMIT >> 20} MiB", hint="deliver less")
    return bytes(data)


def _drive(path: str, root: int) -> Parsed:
    tree = Tree()
    try:
        tree.add_folder(root)
    except OSError as error:
        raise HostError(f"{path}: cannot be read: {error.strerror}") from error
    dialect = config_drives.dialect_of(tree)
    if not dialect:
        raise ConfigError(f"{path}: contains no configuration", hint="see gandi-agent(1), SOURCES")
    return config_drives.read_tree(dialect, tree)


def _archive(path: str, medium: int) -> Parsed | None:
    blocks = (os.pread(medium, archive_layout.BLOCK, offset) for offset in archive_layout.OFFSETS)
    if not any(map(archive_layout.has_magic, blocks)):
        return None
    found = client.parse_disk(medium)
    if found.foreign:
        what = f"{path}: its archive is not the platform's: {found.foreign}"
        raise ConfigError(what, hint="every member must be below gandi/")
    return found if found.is_recognised else None


@contextlib.contextmanager
def _device(host: Host, path: str, mode: int) -> Iterator[str]:
    """Yield a block device for the path: the device itself, or a loop device that is removed afterwards."""
    if stat.S_ISBLK(mode):
        yield path
        return
    node = host.run(("losetup", "--find", "--show", "--read-only", path)).stdout.strip(WHITE)
    try:
        yield node
    finally:
        host.run(("losetup", "--detach", node))
