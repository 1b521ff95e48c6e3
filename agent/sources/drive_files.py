"""Read the files of a configuration drive that a dialect may need, beneath its root and within bounds.

A hostile drive may hold links, devices, pipes, a folder within itself, or endless files. Only regular files
in the expected folders are read; what is left out is reported.
"""

from __future__ import annotations

import os
import re
import stat

from agent.block import detached_mount
from agent.lib.errors import ConfigError
from agent.lib.records import dataclass, field
from agent.reader.dialects import DIALECTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

#: Limits: bytes of one file and of all files, names in all folders, depth of folders.
FILE, ALL, NAMES, DEPTH = 16 << 20, 64 << 20, 2000, 6


def _any_of(patterns: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{one})" for one in patterns if one), re.IGNORECASE | re.ASCII)


#: What is read of a drive's root, for any dialect: everything in these folders, and these files.
_FOLDERS = _any_of(dialect.folders for dialect in DIALECTS.values())
_FILES = _any_of(dialect.files for dialect in DIALECTS.values())
#: Other names are skipped: no platform uses them, and they are unsafe to print.
_NAME = re.compile(r"[A-Za-z0-9._:;+@=, -]{1,128}")


@dataclass(slots=True)
class Tree:
    """What was read: ``files``, path on the drive -> content; ``skipped``, path -> why it was left out."""

    files: dict[str, bytes] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    _names: int = 0
    _bytes: int = 0

    def add_folder(self, root: int, folder: str = "", depth: int = 0) -> None:
        """Read a folder of the drive and those below it. Raise ConfigError for too many names, OSError."""
        descriptor = detached_mount.opened(root, folder or ".", os.O_DIRECTORY)
        try:
            with os.scandir(descriptor) as entries:
                names = sorted((entry.name, self._kind(entry)) for entry in self._counted(entries))
        finally:
            os.close(descriptor)
        for name, kind in names:
            path = f"{folder}/{name}" if folder else name
            if not _NAME.fullmatch(name) or not (
                folder or _FOLDERS.fullmatch(name) or _FILES.fullmatch(name)
            ):
                continue
            if kind == "folder" and depth < DEPTH and (folder or _FOLDERS.fullmatch(name)):
                self.add_folder(root, path, depth + 1)
            elif kind == "file":
                self._add_file(root, path)
            elif kind != "folder":
                self.skipped[path] = f"{kind}, not a file"

    def _add_file(self, root: int, path: str) -> None:
        descriptor = detached_mount.opened(root, path)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return
            most = min(FILE, ALL - self._bytes)
            content = bytearray()
            while len(content) <= most and (
                chunk := os.read(descriptor, min(1 << 20, most + 1 - len(content)))
            ):
                content += chunk
        finally:
            os.close(descriptor)
        if len(content) > most:
            self.skipped[path] = (
                f"larger than {FILE >> 20} MiB, or the drive's files than {ALL >> 20} MiB together"
            )
            return
        self._bytes += len(content)
        self.files[path] = bytes(content)

    def _counted(self, entries: os._ScandirIterator[str]) -> list[os.DirEntry[str]]:
        found = []
        for entry in entries:
            self._names += 1
            if self._names > NAMES:
                raise ConfigError(
                    f"has more than {NAMES} names: not read", hint="a configuration drive has a few dozen"
                )
            found.append(entry)
        return found

    @staticmethod
    def _kind(entry: os.DirEntry[str]) -> str:
        if entry.is_symlink():
            return "a symbolic link"
        if entry.is_dir(follow_symlinks=False):
            return "folder"
        return "file" if entry.is_file(follow_symlinks=False) else "a device or pipe"
