"""What the passwd package's programs leave when a power cut or a full disk ends them (shadow 4.13 to 4.17).

useradd writes /etc/passwd, shadow, group, gshadow, subuid and subgid one after the other, each by a file of
its own that is renamed (commonio_close in lib/commonio.c), and makes the home last. So a line of passwd says
nothing of the rest.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time

from agent.accounts import passwd
from agent.host.sysfs import listed
from agent.lib import text
from agent.lib.errors import HostError
from agent.report import changed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.accounts.passwd import Account
    from agent.host.host import Host
    from agent.report import Item

#: What lckpwdf(3) locks. Each program of shadow, PAM and systemd-sysusers holds it while it changes one of
#: these files, so whoever holds it knows that none of their lock files and new files is in use.
_MUTEX = "/etc/.pwd.lock"
#: commonio_lock makes NAME.PID, which holds the PID, and links it to NAME.lock; commonio_close makes NAME+,
#: pam_unix nNAME.
_LOCK = re.compile(r"(?:passwd|shadow|group|gshadow|subuid|subgid)\.(?:lock|[0-9]{1,7})")
_NEW = re.compile(r"(?:passwd|shadow|group|gshadow|subuid|subgid)\+|n(?:passwd|shadow)")
_SKELETON = "/etc/skel"
#: login.defs(5): SUB_UID_MIN, SUB_UID_MAX and SUB_UID_COUNT where it does not say.
_SUBIDS = (100_000, 600_100_000, 65_536)
#: Seconds for what was made to reach a slow disk.
_SYNC_TIMEOUT = 300.0
#: Bytes of which a filesystem writes all or none.
_BLOCK = 512


def tidy(host: Host) -> Iterator[Item]:
    """Remove lock files and half-written files of a program that was cut.

    shadow itself removes a lock only where the process of its PID has ended: after a boot that PID may be
    another program's, and a lock that a power cut left empty makes each of its programs fail for good. While
    the machine runs, only what is older than this boot is taken.
    """
    left = [name for name in listed(host, "/etc") if _NEW.fullmatch(name) or _is_lock(host, name)]
    if not left:
        return
    with _undisturbed(host) as alone:
        gone = [name for name in left if alone and _is_old(host, name) and host.remove(f"/etc/{name}")]
    if gone:
        yield changed("account files", f"removed leftovers of an interrupted program: {', '.join(gone)}")


def complete(host: Host, name: str, *, home: bool) -> None:
    """Make what is missing of an account that has its line in passwd, and wait until it is on the disk;
    ``home``: its home is to be made too. Raises HostError when a part cannot be made.
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
    for group in _half_joined(host, name):
        host.run(("usermod", "--append", "--groups", group, "--", name))
    for file, option in (("/etc/subuid", "--add-subuids"), ("/etc/subgid", "--add-subgids")):
        if found := _lacking(host, file, user):
            host.run(("usermod", option, f"{found[0]}-{found[1]}", "--", name))
    if home:
        _complete_home(host, user)
    # Each file of shadow's is on the disk before its name is, but neither the names nor what was copied from
    # the skeleton: the record that the account is there must come later than all of it.
    host.run(("sync", "--file-system", "/etc", *([user.home] if home else [])), timeout=_SYNC_TIMEOUT)


def complete_group(host: Host, name: str) -> None:
    """Give the group its line in gshadow, where that file is in use: locked, as groupadd makes it."""
    if host.exists("/etc/gshadow") and name not in _column(host, "/etc/gshadow", 0):
        host.run(("gpasswd", "--restrict", name))


def new_home(host: Host, name: str) -> str:
    """The path of the home that useradd makes for an account (HOME in /etc/default/useradd)."""
    said = [line[5:] for line in text.lines(host.read("/etc/default/useradd") or "") if line[:5] == "HOME="]
    return f"{said[-1].rstrip('/') if said else '/home'}/{name}"


# -- leftovers -----------------------------------------------------------------------


def _is_lock(host: Host, name: str) -> bool:
    """Whether the file is a lock as shadow makes them: its PID, or nothing where a power cut took that. A
    copy that the administrator made (passwd.1) holds accounts.
    """
    if not _LOCK.fullmatch(name):
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
    # One from the future was made by another clock than this boot's.
    return not now - time.clock_gettime(time.CLOCK_BOOTTIME) <= made <= now


@contextlib.contextmanager
def _undisturbed(host: Host) -> Iterator[bool]:
    """Hold what lckpwdf(3) holds; False where a program of shadow does."""
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


def _half_joined(host: Host, name: str) -> list[str]:
    """Groups that list the account in /etc/group and not in /etc/gshadow."""
    shadowed = {line[0]: line[3] for line in _lines(host, "/etc/gshadow", 4)}
    return [
        line[0]
        for line in _lines(host, "/etc/group", 4)
        if name in line[3].split(",") and name not in shadowed.get(line[0], name).split(",")
    ]


def _lacking(host: Host, file: str, user: Account) -> tuple[int, int] | None:
    """The range of subordinate ids that useradd would give the account; None where it has one, or none is
    given (subuid(5)).
    """
    taken = _lines(host, file, 3)
    if not host.exists(file) or any(line[0] in (user.name, str(user.uid)) for line in taken):
        return None
    kind = "SUB_UID" if file == "/etc/subuid" else "SUB_GID"
    values = zip(("MIN", "MAX", "COUNT"), _SUBIDS, strict=True)
    first, last, count = (_defined(host, f"{kind}_{name}", default) for name, default in values)
    spans = [(text.number(line[1]), text.number(line[2])) for line in taken]
    first = max([first, *(at + size for at, size in spans if at is not None and size is not None)])
    if not count:
        return None
    if first + count - 1 > last:
        raise HostError(f"{file}: no range is free above {first}", hint="raise the maximum in login.defs")
    return first, first + count - 1


def _complete_home(host: Host, user: Account) -> None:
    """Make the home as useradd does: its owner, its mode, and the skeleton's files that are missing or that
    a power cut left empty.
    """
    owner = (user.uid, user.gid)
    # login.defs(5): HOME_MODE, else what UMASK leaves.
    mode = _defined(host, "HOME_MODE", 0o777 & ~_defined(host, "UMASK", 0o022))
    if not host.mkdir(user.home, mode=mode, owner=owner):
        info = os.lstat(host.path(user.home))
        if stat.S_ISDIR(info.st_mode) and info.st_uid == 0 != user.uid:
            # useradd makes it root's, and gives it away then.
            host.give(user.home, mode, owner)
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
    """Whether a copy of the content is missing, or was not written to its end: it is shorter then or, since
    ext4 may bring a file's size to the disk before its blocks, it has zeros in their place.
    """
    try:
        folder, _, name = copy.rpartition("/")
        info = os.lstat(os.path.join(host.path(folder), name))
    except FileNotFoundError:
        return True
    if not stat.S_ISREG(info.st_mode) or info.st_nlink != 1 or info.st_size != len(content):
        return stat.S_ISREG(info.st_mode) and info.st_size < len(content)
    there = host.as_it_is(copy)
    written = there.content if there else b""
    blocks = [slice(n, n + _BLOCK) for n in range(0, len(content), _BLOCK)]
    apart = [written[block] for block in blocks if written[block] != content[block]]
    return bool(apart) and not any(map(any, apart))


# -- reading -------------------------------------------------------------------------


def _lines(host: Host, file: str, fields: int) -> list[list[str]]:
    found = (line.split(":") for line in text.lines(host.read(file) or ""))
    return [line for line in found if len(line) >= fields]


def _column(host: Host, file: str, number: int) -> list[str]:
    return [line[number] for line in _lines(host, file, number + 1)]


def _defined(host: Host, name: str, default: int) -> int:
    """A number of login.defs(5), as C writes it: decimal, 0octal, 0xhexadecimal."""
    for line in text.lines(host.read("/etc/login.defs") or ""):
        word, *rest = text.words(line) or [""]
        if word == name and rest and re.fullmatch(r"0[xX][0-9a-fA-F]+|[0-9]{1,12}", rest[0]):
            digits = rest[0]
            base = 16 if digits[:2] in ("0x", "0X") else 8 if digits[0] == "0" else 10
            with contextlib.suppress(ValueError):
                return int(digits, base)
    return default
