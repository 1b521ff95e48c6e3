"""Facts about accounts, read from the files of the passwd package, and about OpenSSH keys. No decisions.

The files are read without NSS: only local accounts count, and the files may be below another root.
"""

from __future__ import annotations

import re

from agent.host.sysfs import listed
from agent.lib import public_key
from agent.lib.digest import sha256
from agent.lib.records import dataclass
from agent.lib.text import lines, number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.host.host import Host

#: Uids of ordinary accounts on Debian and RPM systems (login.defs: UID_MIN, UID_MAX).
USER_UIDS = range(1000, 60001)
#: sshd_config(5): the first file in the default of AuthorizedKeysFile.
_KEYS_FILE = ".ssh/authorized_keys"
#: Blanks as in OpenSSH's servconf.c, where a form feed also ends a line.
_KEYS_DIRECTIVE = r"(?ai)[ \t\r]*AuthorizedKeysFile[ \t\r=]+(\"[^\"]*\"|[^ \t\r\f]+)"
_MATCH_DIRECTIVE = r"(?ai)[ \t\r]*Match[ \t\r=]"
#: Base64 of a key: it begins with the length of the type's name, so with three zero bytes.
_BLOB = r"AAAA[A-Za-z0-9+/]+={0,2}"


@dataclass(frozen=True, slots=True)
class Account:
    """An account: a line of passwd(5)."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str = ""

    @property
    def is_regular_user(self) -> bool:
        """Whether this is neither root nor a system account."""
        return self.uid in USER_UIDS


def account(host: Host, name: str) -> Account | None:
    """Return the account with that name, or None."""
    return next((one for one in accounts(host) if one.name == name), None)


def accounts(host: Host) -> Iterator[Account]:
    """Yield all accounts, in the order of passwd(5)."""
    for fields in records(host, "/etc/passwd", 7):
        uid, gid = number(fields[2]), number(fields[3])
        if uid is not None and gid is not None:
            yield Account(fields[0], uid, gid, fields[5], fields[6])


def password(host: Host, name: str) -> str | None:
    """Return the account's password field of shadow(5), a secret: a hash or a lock; None without a line."""
    return field(host, "/etc/shadow", name, 1)


def field(host: Host, file: str, name: str, place: int) -> str | None:
    """Return a field, counted from 0, of the account's line in passwd(5) or shadow(5); None without it."""
    # glibc and shadow accept lines of shadow(5) with fewer than 9 fields.
    found = (fields[place] for fields in records(host, file, place + 1) if fields[0] == name)
    return next(found, None)


def admin_group(host: Host) -> str | None:
    """Return the group for sudo, "sudo" (Debian) or "wheel" (RPM systems), or None if neither exists."""
    groups = {fields[0] for fields in records(host, "/etc/group", 4)}
    return next((name for name in ("sudo", "wheel") if name in groups), None)


def group(host: Host, name: str) -> int | None:
    """Return the gid of the group with that name, or None."""
    found = (fields[2] for fields in records(host, "/etc/group", 4) if fields[0] == name)
    return next((gid for gid in map(number, found) if gid is not None), None)


def is_in_group(host: Host, name: str, group: str) -> bool:
    """Return whether the account is listed as a member of the group."""
    return any(f[0] == group and name in f[3].split(",") for f in records(host, "/etc/group", 4))


def keys_file(host: Host, owner: Account) -> str:
    """Return the path of the first file in which sshd looks for the account's keys (sshd_config(5),
    AuthorizedKeysFile).
    """
    pattern = next(_keys_directives(host), _KEYS_FILE)
    pattern = _KEYS_FILE if pattern.lower() == "none" else pattern
    tokens = {"%%": "%", "%h": owner.home, "%u": owner.name, "%U": str(owner.uid)}
    path = re.sub("%[%huU]", lambda found: tokens[found[0]], pattern.strip('"'))
    return path if path.startswith("/") else f"{owner.home.rstrip('/')}/{path}"


def key_blob(line: str) -> str | None:
    """Return the type and base64 of the key in a line of authorized_keys, which identify it; None if it
    has no key.
    """
    found = public_key.split(line)
    return f"{found[0]} {found[1]}" if found and re.fullmatch(_BLOB, found[1]) else None


def key_comment(line: str) -> str:
    """Return the comment after the key, "" without one or without a key."""
    found = public_key.split(line)
    return found[2] if found else ""


def fingerprint(line: str) -> str:
    """Return the key's fingerprint as ``ssh-keygen -l`` prints it: ``SHA256:`` and 43 characters. Raise
    ValueError if the line has no key.
    """
    from binascii import a2b_base64, b2a_base64

    found = key_blob(line)
    if found is None:
        raise ValueError("not an OpenSSH key")
    raw = found.split(" ")[1]
    binary = a2b_base64(raw + "=" * (-len(raw) % 4))
    return "SHA256:" + b2a_base64(sha256(binary).digest(), newline=False).decode().rstrip("=")


def records(host: Host, name: str, fields: int) -> Iterator[list[str]]:
    """Yield the fields of each line of an account file that has at least so many."""
    for line in lines(host.read(name) or ""):
        record = line.split(":")
        if len(record) >= fields:
            yield record


def _keys_directives(host: Host) -> Iterator[str]:
    """Yield each global AuthorizedKeysFile in the order in which sshd reads them; it uses the first."""
    names = [name for name in listed(host, "/etc/ssh/sshd_config.d") if name.endswith(".conf")]
    # Debian's and Fedora's main file includes the folder at its top.
    for name in (*(f"/etc/ssh/sshd_config.d/{name}" for name in names), "/etc/ssh/sshd_config"):
        for line in lines(host.read(name) or ""):
            # To compile the expressions takes 3 M instructions: most files have no line for them.
            keyword = line.lstrip(" \t\r").lower()
            if keyword.startswith("match") and re.match(_MATCH_DIRECTIVE, line):
                break
            if keyword.startswith("authorizedkeysfile") and (found := re.match(_KEYS_DIRECTIVE, line)):
                yield found[1]
