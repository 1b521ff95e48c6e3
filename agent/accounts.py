"""Facts about accounts, from the files that the passwd package keeps, and about OpenSSH keys. No decisions.

The files are read, not NSS: what is asked is what this machine itself says, also below another root.
"""

from __future__ import annotations

import re

from agent.digest import sha256
from agent.plain import dataclass
from agent.sysfs import listed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.host import Host

#: Uids of ordinary accounts on Debian and RPM systems (login.defs: UID_MIN, UID_MAX); 65534 is nobody.
ORDINARY = range(1000, 60001)
#: sshd_config(5): the default of AuthorizedKeysFile, its first file.
_KEYS_FILE = ".ssh/authorized_keys"
_KEYS_DIRECTIVE = re.compile(r"\s*AuthorizedKeysFile[\s=]+(\S+)", re.IGNORECASE)
_MATCH_DIRECTIVE = re.compile(r"\s*Match\s", re.IGNORECASE)
#: sshd(8), AUTHORIZED_KEYS FILE FORMAT: options may stand before the type; the type's name begins the
#: blob too.
_KEY = re.compile(
    r"(?:^|\s)((?:sk-)?(?:ssh|ecdsa)-[a-z0-9@.-]+)\s+(AAAA[A-Za-z0-9+/]+={0,2})(?=\s|$)",
)


@dataclass(frozen=True, slots=True)
class Account:
    """A line of passwd(5)."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str = ""

    @property
    def ordinary(self) -> bool:
        """Whether this is a person's account (root and the system's own are not)."""
        return self.uid in ORDINARY


def account(host: Host, name: str) -> Account | None:
    """The account of that name, or None."""
    for fields in _records(host, "/etc/passwd", 7):
        if fields[0] == name and fields[2].isdigit() and fields[3].isdigit():
            return Account(name, int(fields[2]), int(fields[3]), fields[5], fields[6])
    return None


def password(host: Host, name: str) -> str | None:
    """The account's field of shadow(5): a hash or a lock, a secret either way; None without a line."""
    return next((fields[1] for fields in _records(host, "/etc/shadow", 9) if fields[0] == name), None)


def admin_group(host: Host) -> str | None:
    """The group whose members may become root by sudo: Debian's or the RPM systems' name, if there."""
    groups = {fields[0] for fields in _records(host, "/etc/group", 4)}
    return next((name for name in ("sudo", "wheel") if name in groups), None)


def group(host: Host, name: str) -> int | None:
    """The number of the group of that name, or None."""
    found = (fields[2] for fields in _records(host, "/etc/group", 4) if fields[0] == name)
    return next((int(number) for number in found if number.isdigit()), None)


def in_group(host: Host, name: str, group: str) -> bool:
    """Whether the account is listed as a member of the group."""
    return any(f[0] == group and name in f[3].split(",") for f in _records(host, "/etc/group", 4))


def keys_file(host: Host, owner: Account) -> str:
    """The path of the first file in which sshd looks for the account's keys (sshd_config(5),
    AuthorizedKeysFile).
    """
    pattern = next(_keys_directives(host), _KEYS_FILE)
    pattern = _KEYS_FILE if pattern.lower() == "none" else pattern
    tokens = {"%%": "%", "%h": owner.home, "%u": owner.name, "%U": str(owner.uid)}
    path = re.sub("%[%huU]", lambda found: tokens[found[0]], pattern.strip('"'))
    return path if path.startswith("/") else f"{owner.home.rstrip('/')}/{path}"


def blob(line: str) -> str | None:
    """What makes two lines of an authorized_keys file the same key: its type and its base64; None if it is
    none.
    """
    if line.lstrip().startswith("#"):
        return None
    found = _KEY.search(line)
    return f"{found[1]} {found[2]}" if found else None


def comment(line: str) -> str:
    """What stands behind the key; "" where there is nothing, or no key."""
    found = _KEY.search(line)
    return line[found.end() :].strip() if found else ""


def fingerprint(line: str) -> str:
    """The key's name as ``ssh-keygen -l`` prints it: ``SHA256:`` and 43 characters. Raises ValueError if it
    is none.
    """
    import base64

    found = blob(line)
    if found is None:
        raise ValueError("not an OpenSSH key")
    raw = found.split(" ")[1]
    binary = base64.b64decode(raw + "=" * (-len(raw) % 4))
    return "SHA256:" + base64.b64encode(sha256(binary).digest()).decode().rstrip("=")


def _records(host: Host, name: str, fields: int) -> Iterator[list[str]]:
    for line in (host.read(name) or "").splitlines():
        record = line.split(":")
        if len(record) >= fields:
            yield record


def _keys_directives(host: Host) -> Iterator[str]:
    """Each global AuthorizedKeysFile in the order in which sshd meets them; it uses the first."""
    names = [name for name in listed(host, "/etc/ssh/sshd_config.d") if name.endswith(".conf")]
    # Debian's and Fedora's main file includes the folder at its top.
    for name in (*(f"/etc/ssh/sshd_config.d/{name}" for name in names), "/etc/ssh/sshd_config"):
        for line in (host.read(name) or "").splitlines():
            if _MATCH_DIRECTIVE.match(line):
                break
            if found := _KEYS_DIRECTIVE.match(line):
                yield found[1]
