"""Find out whether users other than root can change a file that root runs, or a link that root follows.

Owner, mode and POSIX access ACL (acl(5)) are checked. On a file with an ACL the group bits of the mode are
the mask, so the mode shows neither the rights of named users nor those of the group. A default ACL grants
nothing itself: files created below its folder get an access ACL, which is read.
"""

from __future__ import annotations

import errno
import os
import stat

from agent.host.chroot_path import LINKS_FOLLOWED, parts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

_ATTRIBUTE = "system.posix_acl_access"
#: linux/posix_acl_xattr.h: a version, then tag, rights and id of each entry, all little-endian.
_VERSION, _HEAD, _ENTRY = 2, 4, 8
_USER, _GROUP_OBJ, _GROUP, _MASK = 0x02, 0x04, 0x08, 0x10
_WRITE = 2


def why_untrusted(root: str, name: str) -> tuple[str, str]:
    """Return why users other than root can change the file at a path, and the remedy; two empty strings if
    only root can.

    The file, each folder on the path and each link that is followed are checked, below ``root`` as in a
    chroot.
    """
    try:
        for place in _path_components(root, name):
            why, remedy = why_writable(place)
            if why:
                shown = place if root == "/" else place.removeprefix(root) or "/"
                return f"{shown} {why}", f"{remedy} {shown}"
    except OSError as error:
        return f"{name} cannot be examined: {error.strerror}", "see: namei -l " + name
    return "", ""


def why_writable(place: str, *, sticky: bool = True) -> tuple[str, str]:
    """Return who besides root may write to a file or folder, and the command that fixes it; two empty
    strings if only root may. Links are not followed: only their owner counts.

    With ``sticky`` a folder like /tmp is accepted: only the owner of a file in it can replace that file,
    which is checked itself. The user who runs the agent counts as root, for tests. Raise OSError.
    """
    users, groups = {0, os.geteuid()}, {0, os.getegid()}
    info = os.lstat(place)
    if info.st_uid not in users:
        return "does not belong to root", "chown -h root"
    if stat.S_ISLNK(info.st_mode) or (sticky and stat.S_ISDIR(info.st_mode) and info.st_mode & stat.S_ISVTX):
        return "", ""
    try:
        granted = _granted(place, info.st_mode)
    except ValueError:
        return "has an ACL that cannot be read", "setfacl -b"
    by_group = (_GROUP_OBJ, -1) in granted and info.st_gid not in groups
    if by_group or info.st_mode & stat.S_IWOTH:
        return "can be written by others than root", "chmod go-w"
    named = _named(granted, users, groups)
    return (f"has an ACL that lets {named} write it", "setfacl -b") if named else ("", "")


def writers(acl: bytes) -> set[tuple[int, int]]:
    """Return tag and id of each entry of an ACL (the bytes of its xattr) that lets a user other than the
    owner write, within the mask; the id of the owning group is -1. Raise ValueError if it is not an ACL.
    """
    head, rest = acl[:_HEAD], acl[_HEAD:]
    if len(head) < _HEAD or int.from_bytes(head, "little") != _VERSION or len(rest) % _ENTRY:
        raise ValueError("not a POSIX ACL")
    entries = [
        tuple(
            int.from_bytes(rest[start + at : start + end], "little") for at, end in ((0, 2), (2, 4), (4, 8))
        )
        for start in range(0, len(rest), _ENTRY)
    ]
    mask = next((rights for tag, rights, _ in entries if tag == _MASK), _WRITE)
    return {
        (tag, -1 if tag == _GROUP_OBJ else number)
        for tag, rights, number in entries
        if tag in (_USER, _GROUP_OBJ, _GROUP) and rights & mask & _WRITE
    }


def _granted(place: str, mode: int) -> set[tuple[int, int]]:
    """Return the entries with write access in the file's ACL, or by its mode without one."""
    try:
        return writers(os.getxattr(place, _ATTRIBUTE, follow_symlinks=False))
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):  # no ACL; a filesystem without
            raise
    return {(_GROUP_OBJ, -1)} if mode & stat.S_IWGRP else set()


def _named(granted: set[tuple[int, int]], users: Collection[int], groups: Collection[int]) -> str:
    """Return the users and groups besides root's that an ACL names, as "uid 1001, gid 50"."""
    found = [f"uid {number}" for tag, number in sorted(granted) if tag == _USER and number not in users]
    found += [f"gid {number}" for tag, number in sorted(granted) if tag == _GROUP and number not in groups]
    return ", ".join(found)


def _path_components(root: str, name: str) -> list[str]:
    """Return each folder and link on the path to a file, and the file, by paths that contain no links."""
    found, done, pending, links = dict.fromkeys([root]), list[str](), parts(name), 0
    while pending:
        part = pending.pop()
        if part == "..":
            del done[-1:]
            continue
        place = os.path.join(root, *done, part)
        found[place] = None
        if not os.path.islink(place):
            done.append(part)
            continue
        links += 1
        if links > LINKS_FOLLOWED:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        target = os.readlink(place)
        if target.startswith("/"):
            done.clear()
        pending += parts(target)
    return list(found)
