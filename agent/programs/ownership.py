"""Who else than root can change a file: what root runs, and the links that root follows, must be root's.

By owner, mode and POSIX access ACL (acl(5)). Of a file with an ACL the group bits of the mode are its mask,
so the mode alone shows neither whether a named user may write nor whether the group may. A default ACL gives
no right to what is there: what is made below its folder gets an access ACL of its own, which is read then.
"""

from __future__ import annotations

import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

_ATTRIBUTE = "system.posix_acl_access"
#: linux/posix_acl_xattr.h: a version, then for each entry tag, rights and id, all little-endian.
_VERSION, _HEAD, _ENTRY = 2, 4, 8
_USER, _GROUP_OBJ, _GROUP, _MASK = 0x02, 0x04, 0x08, 0x10
_WRITE = 2
_LINKS_FOLLOWED = 40  # as the kernel's MAXSYMLINKS


def untrusted(root: str, name: str) -> tuple[str, str]:
    """Return why others than root can have another file found under a path, in words, and the remedy; two
    empty texts where only root can.

    The file, each folder that is passed on the way to it and each link that is followed are looked at,
    below ``root`` as in a chroot.
    """
    try:
        for place in _way(root, name):
            why, remedy = writable(place)
            if why:
                shown = place if root == "/" else place.removeprefix(root) or "/"
                return f"{shown} {why}", f"{remedy} {shown}"
    except OSError as error:
        return f"{name} cannot be examined: {error.strerror}", "see: namei -l " + name
    return "", ""


def writable(place: str, *, sticky: bool = True) -> tuple[str, str]:
    """Return who else than root may write a file, or replace what is in a folder, in words, and the command
    that changes it; two empty texts where only root may. A link is not followed: only its owner counts.

    With ``sticky``, a folder like /tmp is in order, where only its owner can replace a file: the file is
    looked at by itself. Whoever runs the agent counts as root (a test). Raises OSError.
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
    """Return tag and id of each entry of an ACL, as its attribute holds it, that gives others than the owner
    the right to write within the mask; the id of the owning group is -1. Raises ValueError for what is none.
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
    """Return the writers by the file's ACL, or by the mode of one that has none."""
    try:
        return writers(os.getxattr(place, _ATTRIBUTE, follow_symlinks=False))
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):  # no ACL; a filesystem without
            raise
    return {(_GROUP_OBJ, -1)} if mode & stat.S_IWGRP else set()


def _named(granted: set[tuple[int, int]], users: Collection[int], groups: Collection[int]) -> str:
    """Return those beside root that an ACL names, as "uid 1001, gid 50"."""
    found = [f"uid {number}" for tag, number in sorted(granted) if tag == _USER and number not in users]
    found += [f"gid {number}" for tag, number in sorted(granted) if tag == _GROUP and number not in groups]
    return ", ".join(found)


def _way(root: str, name: str) -> list[str]:
    """Return each folder and link that is passed on the way to a file, and the file, without links in their
    names.
    """
    found, done, pending, links = dict.fromkeys([root]), list[str](), _parts(name), 0
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
        if links > _LINKS_FOLLOWED:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        target = os.readlink(place)
        if target.startswith("/"):
            done.clear()
        pending += _parts(target)
    return list(found)


def _parts(name: str) -> list[str]:
    return [part for part in name.split("/") if part not in ("", ".")][::-1]
