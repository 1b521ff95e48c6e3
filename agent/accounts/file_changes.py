"""Changes of the accounts of an image by its files alone: nothing of it is run.

Each change has the result of the passwd package's program that ``Changes`` runs (shadow 4.13 to 4.17):
tests/system/test_account_files.py compares the files byte for byte. Not made are a mail spool
(CREATE_MAIL_SPOOL) and the records of an earlier login of the same uid (lastlog, faillog).
"""

from __future__ import annotations

import os
import re
import time
from itertools import chain

from agent.accounts import account_files, defaults, hashing, homes, passwd
from agent.lib.errors import ConfigError, HostError, NeedsProgram
from agent.lib.text import number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.accounts.account_files import Table, Tables
    from agent.accounts.changes import NewAccount
    from agent.host.host import Host

_DAY = 86400
#: Names that Debian's useradd accepts.
_NAME = re.compile(r"(?!\.{1,2}\Z)[^-+~:,/\\\x00-\x20\x7f][^:,/\\\x00-\x20\x7f]*")
#: The field of a password that is in shadow(5) or gshadow(5), and that of a locked one.
_ELSEWHERE, _LOCKED = "x", "!"
#: Places of fields in passwd(5) and shadow(5).
_GID, _COMMENT, _SHELL = 3, 4, 6
_HASH, _CHANGED, _INACTIVE, _EXPIRES = 1, 2, 6, 7
#: login.defs(5): the limits of uids, gids and of those of system accounts, where it does not say others.
_FIRST, _LAST, _SYSTEM_FIRST = 1000, 60000, 101
_SUB_FIRST, _SUB_LAST, _SUB_COUNT = 100_000, 600_100_000, 65_536
#: useradd's GROUP and SHELL, where /etc/default/useradd does not say others.
_DEFAULT_GROUP, _DEFAULT_SHELL = "100", "/bin/bash"


class FileChanges:
    """What ``Changes`` does, by the files. Each raises HostError."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def add(self, new: NewAccount) -> None:
        """Make the account, with its home."""
        host, name = self._host, new.name
        _check_name(name)
        home = new.home or homes.new_home(host, name)
        if not home.startswith("/"):
            raise ConfigError(f"{name}: home {home!r}: not absolute", hint="deliver a path from /")
        with account_files.changing(host) as tables:
            if tables.passwd.find(name) is not None:
                raise HostError(f"{name}: the account exists already")
            uid = self._uid(tables, new)
            gid = self._group_of(tables, new, uid)
            hidden = _ELSEWHERE if tables.shadow else _LOCKED
            shell = new.shell or defaults.useradd(host, "SHELL", _DEFAULT_SHELL)
            tables.passwd.put(name, hidden, str(uid), str(gid), "", home, shell)
            if tables.shadow:
                tables.shadow.put(*self._shadow(name, _LOCKED, is_system=new.system))
            if new.member_of:
                _join(tables, name, new.member_of)
            if not new.system and (
                new.uid is None or self._limits("UID")[0] <= uid <= self._limits("UID")[1]
            ):
                self._add_ranges(tables, name)
        if new.create_home and not host.exists(home):
            made = passwd.account(host, name)
            if made is not None:
                homes.complete(host, made)

    def add_group(self, name: str, gid: int | None = None) -> None:
        """Make the group."""
        _check_name(name)
        with account_files.changing(self._host) as tables:
            self._add_group(tables, name, gid)

    def restrict_group(self, name: str) -> None:
        """Lock the group's password; a line in gshadow that is missing is made."""
        with account_files.changing(self._host) as tables:
            group = tables.group.get(name)
            if tables.gshadow:
                _, _, admins, members = tables.gshadow.find(name) or (name, "", "", group[3])
                tables.gshadow.put(name, _LOCKED, admins, members)
                tables.group.put(name, _ELSEWHERE, *group[2:])
            else:
                tables.group.put(name, _LOCKED, *group[2:])

    def join(self, name: str, group: str) -> None:
        """Make the account a member of the group."""
        with account_files.changing(self._host) as tables:
            tables.passwd.get(name)
            _join(tables, name, group)

    def set_shell(self, name: str, shell: str) -> None:
        """Set the login shell."""
        self._set_field(name, _SHELL, shell)

    def set_group(self, name: str, group: str) -> None:
        """Raise NeedsProgram: usermod also changes the group of the files in the home."""
        raise NeedsProgram("usermod")

    def set_comment(self, name: str, comment: str) -> None:
        """Set the comment (GECOS)."""
        self._set_field(name, _COMMENT, comment)

    def set_inactive(self, name: str, days: str) -> None:
        """Set the days after which an expired password locks the account; -1 for none."""
        self._set_shadow(name, _INACTIVE, "" if days == "-1" else days)

    def set_expiry(self, name: str, day: str) -> None:
        """Set the day on which the account expires, counted from the first of January 1970."""
        self._set_shadow(name, _EXPIRES, day)

    def add_subuids(self, name: str, first: int, last: int) -> None:
        """Give the account a range of subordinate uids."""
        with account_files.changing(self._host) as tables:
            tables.subuid.add(name, str(first), str(last - first + 1))

    def add_subgids(self, name: str, first: int, last: int) -> None:
        """Give the account a range of subordinate gids."""
        with account_files.changing(self._host) as tables:
            tables.subgid.add(name, str(first), str(last - first + 1))

    def lock(self, name: str) -> None:
        """Put the lock before the hash of the password."""
        with account_files.changing(self._host) as tables:
            table = tables.shadow or tables.passwd
            fields = table.get(name)
            fields[_HASH] = _LOCKED + fields[_HASH].removeprefix(_LOCKED)
            table.put(*fields)

    def set_password(self, name: str, plain: str) -> None:
        """Set the password, hashed as the image would do it."""
        self.set_hash(name, hashing.hashed(self._host, plain))

    def set_hash(self, name: str, hashed: str) -> None:
        """Set the password's field of shadow(5)."""
        with account_files.changing(self._host) as tables:
            account = tables.passwd.get(name)
            fields = tables.shadow.find(name)
            if fields is None and tables.shadow and account[_HASH] == _ELSEWHERE:
                fields = self._shadow(name, hashed, is_default=False)
            elif fields is not None:
                fields[_HASH], fields[_CHANGED] = hashed, _today()
            if fields is not None:
                tables.shadow.put(*fields)
            if fields is None or account[_HASH] != _ELSEWHERE:
                account[_HASH] = hashed
                tables.passwd.put(*account)

    def expire_password(self, name: str) -> None:
        """Have the account change its password at the next login."""
        self._set_shadow(name, _CHANGED, "0")

    def flush(self, home: str) -> None:
        """Wait until the files in /etc and, unless it is "", the home are on the disk."""
        for folder in ("/etc", *([home] if home else [])):
            if self._host.allows(f"sync {folder}"):
                with self._host.opened(folder, os.O_RDONLY) as descriptor:
                    os.fsync(descriptor)

    # -- fields ------------------------------------------------------------------------

    def _set_field(self, name: str, place: int, value: str) -> None:
        with account_files.changing(self._host) as tables:
            fields = tables.passwd.get(name)
            fields[place] = value
            tables.passwd.put(*fields)

    def _set_shadow(self, name: str, place: int, value: str) -> None:
        with account_files.changing(self._host) as tables:
            fields = tables.shadow.get(name)
            fields[place] = value
            tables.shadow.put(*fields)

    def _shadow(
        self, name: str, hashed: str, *, is_system: bool = False, is_default: bool = True
    ) -> list[str]:
        """Return a new record of shadow(5); with ``is_default``, with useradd's defaults."""
        host = self._host
        if is_system:
            return [name, hashed, _today(), *[""] * 6]
        limits = [defaults.number(host, f"PASS_{what}", -1) for what in ("MIN_DAYS", "MAX_DAYS", "WARN_AGE")]
        inactive = number(defaults.useradd(host, "INACTIVE", "")) if is_default else None
        expires = _day(defaults.useradd(host, "EXPIRE", "")) if is_default else ""
        ages = ["" if limit < 0 else str(limit) for limit in limits]
        return [name, hashed, _today(), *ages, "" if inactive is None else str(inactive), expires, ""]

    # -- numbers -----------------------------------------------------------------------

    def _limits(self, kind: str, *, is_system: bool = False) -> tuple[int, int]:
        """Return the first and last number for an account: ``kind`` is UID or GID."""
        first = defaults.number(self._host, f"{kind}_MIN", _FIRST)
        if not is_system:
            return first, defaults.number(self._host, f"{kind}_MAX", _LAST)
        last = defaults.number(self._host, f"SYS_{kind}_MAX", first - 1)
        return defaults.number(self._host, f"SYS_{kind}_MIN", _SYSTEM_FIRST), last

    def _uid(self, tables: Tables, new: NewAccount) -> int:
        used = _numbers(tables.passwd, 2)
        if new.uid is None:
            return _free("uid", used, *self._limits("UID", is_system=new.system), is_system=new.system)
        if new.uid in used:
            raise ConfigError(f"{new.name}: uid {new.uid} is in use", hint="deliver another uid")
        return new.uid

    def _group_of(self, tables: Tables, new: NewAccount, uid: int) -> int:
        """Return the gid of the account's primary group; make its own."""
        if new.own_group:
            return self._add_group(tables, new.name, None, like=uid, is_system=new.system)
        wanted = new.group or defaults.useradd(self._host, "GROUP", "") or _DEFAULT_GROUP
        found = tables.group.find(wanted)
        gid = number(found[2] if found else wanted)
        if gid is None or (new.group and found is None):
            raise HostError(f"{new.name}: there is no group {wanted}", hint="deliver the group too")
        return gid

    def _add_group(
        self, tables: Tables, name: str, gid: int | None, *, like: int | None = None, is_system: bool = False
    ) -> int:
        if tables.group.find(name) is not None:
            raise HostError(f"{name}: the group exists already")
        used = _numbers(tables.group, 2)
        first, last = self._limits("GID", is_system=is_system)
        if gid is not None and gid in used:
            raise HostError(f"{name}: gid {gid} is in use", hint="deliver another one")
        if gid is None:
            is_like = like is not None and first <= like <= last and like not in used
            gid = (
                like
                if is_like and like is not None
                else _free("gid", used, first, last, is_system=is_system)
            )
        # groupadd and useradd differ where there is no gshadow.
        field = _LOCKED if like is not None and not tables.gshadow else _ELSEWHERE
        tables.group.put(name, field, str(gid), "")
        if tables.gshadow:
            tables.gshadow.put(name, _LOCKED, "", "")
        return gid

    def _add_ranges(self, tables: Tables, name: str) -> None:
        for kind, table in (("SUB_UID", tables.subuid), ("SUB_GID", tables.subgid)):
            low = defaults.number(self._host, f"{kind}_MIN", _SUB_FIRST)
            high = defaults.number(self._host, f"{kind}_MAX", _SUB_LAST)
            count = defaults.number(self._host, f"{kind}_COUNT", _SUB_COUNT)
            if table and count > 0:
                table.sort()
                table.add(name, str(_hole(table, low, high, count)), str(count))


def _check_name(name: str) -> None:
    """Raise ConfigError for a name that useradd refuses: in a field or a path it would be another one."""
    if not _NAME.fullmatch(name):
        raise ConfigError("not a name of an account or a group", hint="write letters, digits, _, . and -")


def _join(tables: Tables, name: str, group: str) -> None:
    """Add the name to the members of the group, in both files."""
    for table, is_needed in ((tables.group, True), (tables.gshadow, False)):
        fields = table.get(group) if is_needed else table.find(group)
        if fields is not None:
            members = [member for member in fields[3].split(",") if member]
            if name not in members:
                table.put(*fields[:3], ",".join((*members, name)))


def _numbers(table: Table, place: int) -> set[int]:
    return {found for fields in table.records() if (found := number(fields[place])) is not None}


def _free(what: str, used: set[int], first: int, last: int, *, is_system: bool) -> int:
    """Return an unused number: for a system account the highest below those in use, else the lowest above
    them; where there is none, one between them. Raise HostError without one.
    """
    inside = [one for one in used if first <= one <= last]
    if is_system:
        start = max(first, min(inside, default=last + 1) - 1)
        tries = chain(range(start, first - 1, -1), range(last, start - 1, -1))
    else:
        start = min(last, max(inside, default=first - 1) + 1)
        tries = chain(range(start, last + 1), range(first, start + 1))
    found = next((one for one in tries if first <= one <= last and one not in used), None)
    if found is None:
        raise HostError(f"no {what} from {first} to {last} is free", hint="raise the limit in login.defs")
    return found


def _hole(table: Table, low: int, high: int, count: int) -> int:
    """Return the first number of a range that is free, of a sorted table. Raise HostError."""
    for _, start, size in table.records():
        begin, length = number(start), number(size)
        if begin is None or length is None:
            continue
        if begin - low >= count:
            break
        low = max(low, begin + length)
    if low + count - 1 > high:
        raise HostError(f"{table.path}: no range is free", hint="raise the maximum in login.defs")
    return low


def _today() -> str:
    return str(int(time.time()) // _DAY or "")


def _day(text: str) -> str:
    """Return the day of EXPIRE as shadow(5) counts it, "" for none. Raise HostError."""
    if not text or number(text) is not None:
        return text
    import datetime

    try:
        found = datetime.date.fromisoformat(text) - datetime.date(1970, 1, 1)
    except ValueError as error:
        raise HostError("/etc/default/useradd: EXPIRE is not a day", hint="write YYYY-MM-DD") from error
    return str(found.days)
