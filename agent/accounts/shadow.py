"""Complete accounts that useradd left unfinished after a power cut or on a full disk (shadow 4.13 to 4.17).

useradd writes /etc/passwd, shadow, group, gshadow, subuid and subgid one after the other, each to a new file
that it renames (commonio_close in lib/commonio.c), and creates the home last. So a line in passwd does not
mean that the rest exists.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time

from agent.accounts import passwd
from agent.host.chroot_path import unfollowed
from agent.host.sysfs import listed
from agent.lib import text
from agent.lib.errors import ConfigError, HostError
from agent.report import changed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.accounts.passwd import Account
    from agent.host.host import Host
    from agent.report import Item

#: The file that lckpwdf(3) locks. Each program of shadow, PAM and systemd-sysusers holds the lock while it
#: changes one of these files: while the agent holds it, none of their lock files and new files is in use.
_MUTEX = "/etc/.pwd.lock"
#: commonio_lock creates NAME.PID, which contains the PID, and links it to NAME.lock; commonio_close creates
#: NAME+, pam_unix nNAME.
_FILES = ("passwd", "shadow", "group", "gshadow", "subuid", "subgid")
_NEW = frozenset((*(f"{name}+" for name in _FILES), "npasswd", "nshadow"))
#: Most digits of a PID (pid_max is at most 4194304).
_PID = 7
_SKELETON = "/etc/skel"
#: login.defs(5): the defaults of SUB_UID_MIN, SUB_UID_MAX and SUB_UID_COUNT.
_SUBIDS = (100_000, 600_100_000, 65_536)
#: Seconds for sync(1) on a slow disk.
_SYNC_TIMEOUT = 300.0
#: Bytes that a filesystem writes entirely or not at all.
_BLOCK = 512


def remove_stale_locks(host: Host) -> Iterator[Item]:
    """Remove lock files and half-written files of an interrupted program; nothing if another holds the lock.

    shadow removes a lock itself only if no process has its PID: after a boot another program may have that
    PID, and an empty lock, as a power cut leaves it, makes all programs of shadow fail for good. On a
    running machine only files from before this boot are removed.
    """
    left = [name for name in listed(host, "/etc") if name in _NEW or _is_lock(host, name)]
    if not left:
        return
    with _account_lock(host) as is_locked:
        gone = [name for name in left if is_locked and _is_old(host, name) and host.remove(f"/etc/{name}")]
    if gone:
        yield changed("account files", f"removed leftovers of an interrupted program: {', '.join(gone)}")


def complete_account(host: Host, name: str, *, home: bool) -> None:
    """Create the missing parts of an account that has a line in passwd, with ``home`` its home too, and wait
    until they are on the disk. Raise HostError if one cannot be created.
    """
    user = passwd.account(host, name)
    if user is None:
        if host.dry_run:
            return
        raise HostError(f"{name}: useradd created no account", hint="see: journalctl -b -t useradd")
    if user.gid not in map(text.number, _column(host, "/etc/group", 2)):
        host.run(("groupadd", "--gid", str(user.gid), "--", name))
    if passwd.group(host, name) == user.gid:
        complete_group(host, name)
    if host.exists("/etc/shadow") and passwd.password(host, name) is None:
        host.run(("chpasswd", "--encrypted"), stdin=f"{name}:!\n".encode())
    for group in _groups_not_in_gshadow(host, name):
        host.run(("usermod", "--append", "--groups", group, "--", name))
    files = (("/etc/subuid", "--add-subuids"), ("/etc/subgid", "--add-subgids"))
    for file, option in files if user.is_regular_user else ():
        if found := _missing_subids(host, file, user):
            host.run(("usermod", option, f"{found[0]}-{found[1]}", "--", name))
    if home:
        _complete_home(host, user)
    # shadow syncs each file before it renames it, but neither the rename nor the copied skeleton. The record
    # that the account exists must not reach the disk before these do.
    host.run(("sync", "--file-system", "/etc", *([user.home] if home else [])), timeout=_SYNC_TIMEOUT)


def make_group(host: Host, name: str, *, create: bool = True) -> None:
    """Make the group if it is missing. Raise ConfigError without ``create``."""
    if passwd.group(host, name) is None:
        if not create:
            raise ConfigError(f"there is no group {name}", hint="deliver it too, or create_groups: true")
        host.run(("groupadd", "--", name))


def complete_group(host: Host, name: str) -> None:
    """Add the group's line to gshadow, if that file exists: locked, as groupadd writes it."""
    if host.exists("/etc/gshadow") and name not in _column(host, "/etc/gshadow", 0):
        host.run(("gpasswd", "--restrict", name))


def new_home(host: Host, name: str) -> str:
    """Return the path of the home that useradd creates for an account (HOME in /etc/default/useradd)."""
    said = [line[5:] for line in text.lines(host.read("/etc/default/useradd") or "") if line[:5] == "HOME="]
    return f"{said[-1].rstrip('/') if said else '/home'}/{name}"


# -- leftovers -----------------------------------------------------------------------


def _is_lock(host: Host, name: str) -> bool:
    """Return whether the file is a lock of shadow: it contains a PID, or nothing after a power cut. A copy
    that the administrator made (passwd.1) contains accounts.
    """
    stem, _, end = name.rpartition(".")
    if stem not in _FILES or (end != "lock" and (text.number(end) is None or len(end) > _PID)):
        return False
    held = (host.read(f"/etc/{name}", limit=16) or "").rstrip("\0\n")
    return not held or (text.number(held) is not None and name.rpartition(".")[2] in ("lock", held))


def _is_old(host: Host, name: str) -> bool:
    if not host.live:
        return True  # nothing of an image runs
    try:
        made = os.lstat(host.path(f"/etc/{name}")).st_mtime
    except FileNotFoundError:
        return False
    now = time.time()
    # A time in the future was written before this boot, by another clock.
    return not now - time.clock_gettime(time.CLOCK_BOOTTIME) <= made <= now


@contextlib.contextmanager
def _account_lock(host: Host) -> Iterator[bool]:
    """Hold the lock of lckpwdf(3); yield False if another program has it."""
    import fcntl

    if host.dry_run:
        yield True
        return
    with host.opened(_MUTEX, os.O_RDWR | os.O_CREAT) as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True


# -- parts of an account -------------------------------------------------------------


def _groups_not_in_gshadow(host: Host, name: str) -> list[str]:
    """Return the groups that list the account in /etc/group but not in /etc/gshadow."""
    shadowed = {line[0]: line[3] for line in passwd.records(host, "/etc/gshadow", 4)}
    return [
        line[0]
        for line in passwd.records(host, "/etc/group", 4)
        if name in line[3].split(",") and name not in shadowed.get(line[0], name).split(",")
    ]


def _missing_subids(host: Host, file: str, user: Account) -> tuple[int, int] | None:
    """Return the first and last subordinate id that useradd would assign to the account (subuid(5)); None
    if it has some or gets none. Raise HostError if no range is free.
    """
    taken = list(passwd.records(host, file, 3))
    if not host.exists(file) or any(line[0] in (user.name, str(user.uid)) for line in taken):
        return None
    kind = "SUB_UID" if file == "/etc/subuid" else "SUB_GID"
    values = zip(("MIN", "MAX", "COUNT"), _SUBIDS, strict=True)
    first, last, count = (_login_defs(host, f"{kind}_{name}", default) for name, default in values)
    spans = [(text.number(line[1]), text.number(line[2])) for line in taken]
    first = max([first, *(at + size for at, size in spans if at is not None and size is not None)])
    if not count:
        return None
    if first + count - 1 > last:
        raise HostError(f"{file}: no range is free above {first}", hint="raise the maximum in login.defs")
    return first, first + count - 1


def _complete_home(host: Host, user: Account) -> None:
    """Complete the home as useradd creates it: owner, mode, and the files of the skeleton that are missing
    or that a power cut left incomplete.
    """
    owner = (user.uid, user.gid)
    # login.defs(5): HOME_MODE, else what UMASK leaves.
    mode = _login_defs(host, "HOME_MODE", 0o777 & ~_login_defs(host, "UMASK", 0o022))
    if not host.mkdir(user.home, mode=mode, owner=owner):
        info = os.lstat(host.path(user.home))
        if stat.S_ISDIR(info.st_mode) and info.st_uid == 0 != user.uid:
            # useradd creates it as root and changes the owner afterwards.
            host.set_mode_and_owner(user.home, mode, owner)
    _copy(host, _SKELETON, user.home, owner)


def _copy(host: Host, source: str, target: str, owner: tuple[int, int]) -> None:
    for name in listed(host, source):
        origin, copy = f"{source}/{name}", f"{target}/{name}"
        real, there = os.path.join(host.path(source), name), os.path.join(host.path(target), name)
        info = os.lstat(real)
        if stat.S_ISDIR(info.st_mode):
            host.mkdir(copy, mode=stat.S_IMODE(info.st_mode), owner=owner)
            _copy(host, origin, copy, owner)
        elif stat.S_ISLNK(info.st_mode) and not os.path.lexists(there):
            host.symlink(copy, os.readlink(real))
        elif stat.S_ISREG(info.st_mode):
            content = host.read_bytes(origin) or b""
            if _is_partial(host, copy, content):
                host.write(copy, content, mode=stat.S_IMODE(info.st_mode), owner=owner)


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


# -- reading -------------------------------------------------------------------------


def _column(host: Host, file: str, number: int) -> list[str]:
    return [line[number] for line in passwd.records(host, file, number + 1)]


def _login_defs(host: Host, name: str, default: int) -> int:
    """Return a number of login.defs(5) in C notation (decimal, 0octal, 0xhexadecimal), or the default."""
    for line in text.lines(host.read("/etc/login.defs") or ""):
        word, *rest = text.words(line) or [""]
        if word == name and rest and re.fullmatch(r"0[xX][0-9a-fA-F]+|[0-9]{1,12}", rest[0]):
            digits = rest[0]
            base = 16 if digits[:2] in ("0x", "0X") else 8 if digits[0] == "0" else 10
            with contextlib.suppress(ValueError):
                return int(digits, base)
    return default
