"""Homes: where useradd makes them, and what it copies into one (shadow 4.13 to 4.17)."""

from __future__ import annotations

import os
import stat

from agent.accounts import defaults
from agent.host.chroot_path import unfollowed
from agent.host.sysfs import listed
from agent.lib.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.accounts.passwd import Account
    from agent.host.host import Host

_SKELETON = "/etc/skel"
#: Bytes that a filesystem writes entirely or not at all.
_BLOCK = 512
#: What a skeleton may have at most: files and folders, bytes, and folders in one another.
_FILES, _BYTES, _DEPTH = 10_000, 256 << 20, 32


def new_home(host: Host, name: str) -> str:
    """Return the path of the home that useradd creates for an account (HOME in /etc/default/useradd)."""
    return f"{defaults.useradd(host, 'HOME', '/home').rstrip('/')}/{name}"


def complete(host: Host, user: Account) -> None:
    """Complete the home as useradd creates it: owner, mode, and the files of the skeleton that are missing
    or that a power cut left incomplete. Raise HostError, also for a skeleton that is too large.
    """
    owner = (user.uid, user.gid)
    # login.defs(5): HOME_MODE, else what UMASK leaves.
    mode = defaults.number(host, "HOME_MODE", 0o777 & ~defaults.number(host, "UMASK", 0o022))
    if not host.mkdir(user.home, mode=mode, owner=owner):
        info = os.lstat(host.path(user.home))
        if stat.S_ISDIR(info.st_mode) and info.st_uid == 0 != user.uid:
            # useradd creates it as root and changes the owner afterwards.
            host.set_mode_and_owner(user.home, mode, owner)
    _Copy(host, owner).folder(defaults.useradd(host, "SKEL", "") or _SKELETON, user.home)


class _Copy:
    """The copy of a skeleton for its owner (uid, gid), within the bounds."""

    def __init__(self, host: Host, owner: tuple[int, int]) -> None:
        self.host, self.owner = host, owner
        self._files, self._bytes = _FILES, _BYTES

    def folder(self, source: str, target: str, depth: int = 0) -> None:
        """Copy what is in a folder. A link is copied, and not followed."""
        host = self.host
        for name in listed(host, source):
            origin, copy = f"{source}/{name}", f"{target}/{name}"
            real, there = os.path.join(host.path(source), name), os.path.join(host.path(target), name)
            info = os.lstat(real)
            self._count(info.st_size if stat.S_ISREG(info.st_mode) else 0)
            if stat.S_ISDIR(info.st_mode):
                if depth == _DEPTH:
                    what = f"{source}: more than {_DEPTH} folders in one another: not copied as a whole"
                    raise HostError(what, hint="make it flatter")
                host.mkdir(copy, mode=stat.S_IMODE(info.st_mode), owner=self.owner)
                self.folder(origin, copy, depth + 1)
            elif stat.S_ISLNK(info.st_mode) and not os.path.lexists(there):
                host.symlink(copy, os.readlink(real), owner=self.owner)
            elif stat.S_ISREG(info.st_mode):
                content = host.read_bytes(origin) or b""
                if _is_partial(host, copy, content):
                    host.write(copy, content, mode=stat.S_IMODE(info.st_mode), owner=self.owner)

    def _count(self, size: int) -> None:
        self._files -= 1
        self._bytes -= size
        if self._files < 0 or self._bytes < 0:
            what = f"the skeleton has more than {_FILES} files or {_BYTES >> 20} MiB: not copied as a whole"
            raise HostError(what, hint="make it smaller")


def _is_partial(host: Host, copy: str, content: bytes) -> bool:
    """Return whether a copy of the content is missing or incomplete: shorter, or with zeros in place of
    blocks, as ext4 may write a file's size to the disk before its blocks.
    """
    try:
        info = os.lstat(unfollowed(host, copy))
    except FileNotFoundError:
        return True
    if not stat.S_ISREG(info.st_mode) or info.st_nlink != 1 or info.st_size != len(content):
        return stat.S_ISREG(info.st_mode) and info.st_size < len(content)
    there = host.read_file(copy)
    written = there.content if there else b""
    blocks = [slice(n, n + _BLOCK) for n in range(0, len(content), _BLOCK)]
    apart = [written[block] for block in blocks if written[block] != content[block]]
    return bool(apart) and not any(map(any, apart))
