"""Complete accounts that useradd left unfinished after a power cut or on a full disk (shadow 4.13 to 4.17).

useradd writes /etc/passwd, shadow, group, gshadow, subuid and subgid one after the other, each to a new file
that it renames (commonio_close in lib/commonio.c), and creates the home last. So a line in passwd does not
mean that the rest exists.
"""

from __future__ import annotations

import contextlib
import os
import time

from agent.accounts import defaults, homes, passwd
from agent.accounts.changes import changes
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
#: login.defs(5): the defaults of SUB_UID_MIN, SUB_UID_MAX and SUB_UID_COUNT.
_SUBIDS = (100_000, 600_100_000, 65_536)


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
    change = changes(host)
    if user.gid not in map(text.number, _column(host, "/etc/group", 2)):
        change.add_group(name, user.gid)
    if passwd.group(host, name) == user.gid:
        complete_group(host, name)
    if host.exists("/etc/shadow") and passwd.password(host, name) is None:
        change.set_hash(name, "!")
    for group in _groups_not_in_gshadow(host, name):
        change.join(name, group)
    files = (("/etc/subuid", change.add_subuids), ("/etc/subgid", change.add_subgids))
    for file, add in files if user.is_regular_user else ():
        if found := _missing_subids(host, file, user):
            add(name, *found)
    if home:
        homes.complete(host, user)
    # shadow syncs each file before it renames it, but neither the rename nor the copied skeleton. The record
    # that the account exists must not reach the disk before these do.
    change.flush(user.home if home else "")


def make_group(host: Host, name: str, *, create: bool = True) -> None:
    """Make the group if it is missing. Raise ConfigError without ``create``."""
    if passwd.group(host, name) is None:
        if not create:
            raise ConfigError(f"there is no group {name}", hint="deliver it too, or create_groups: true")
        changes(host).add_group(name)


def complete_group(host: Host, name: str) -> None:
    """Add the group's line to gshadow, if that file exists: locked, as groupadd writes it."""
    if host.exists("/etc/gshadow") and name not in _column(host, "/etc/gshadow", 0):
        changes(host).restrict_group(name)


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
    first, last, count = (defaults.number(host, f"{kind}_{name}", default) for name, default in values)
    spans = [(text.number(line[1]), text.number(line[2])) for line in taken]
    first = max([first, *(at + size for at, size in spans if at is not None and size is not None)])
    if not count:
        return None
    if first + count - 1 > last:
        raise HostError(f"{file}: no range is free above {first}", hint="raise the maximum in login.defs")
    return first, first + count - 1


# -- reading -------------------------------------------------------------------------


def _column(host: Host, file: str, number: int) -> list[str]:
    return [line[number] for line in passwd.records(host, file, number + 1)]
