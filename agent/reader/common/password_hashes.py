"""Check password hashes for /etc/shadow: each method by its exact format.

Format: crypt(5); the characters of a salt are those of libxcrypt. Traditional DES is refused: a plain
password of 13 letters has the same format, and would be stored in /etc/shadow as plain text.

The cost is limited, since anyone who reaches a login prompt can cause it: for yescrypt and scrypt the
highest that crypt_gensalt(3) uses (1 GiB of memory), for the others a few seconds of CPU time.
"""

from __future__ import annotations

import re

from agent.reader.common.problem import HARMLESS, Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.config.model import User

#: The alphabet of hashes and of most salts; salts of SHA and MD5 may contain other printable characters.
_B64 = "[./0-9A-Za-z]"
_SALT = r"[\"#%-)+-9<-\[\]-~]"
#: yescrypt: flavour j; log2(N) up to 18 and r up to 32, both minus 1, as letters of the alphabet. scrypt:
#: log2(N), then r and p (1) as 30 bits, little-endian.
_YESCRYPT, _SCRYPT = "j[./0-9A-F][./0-9A-T]", r"[./0-9A-G][./0-9A-U]\.{4}/\.{4}"
_METHODS = (
    rf"\$y\${_YESCRYPT}\${_B64}{{0,86}}\${_B64}{{43}}",  # yescrypt
    rf"\$gy\${_YESCRYPT}\${_B64}{{0,86}}\${_B64}{{43}}",  # gost-yescrypt
    rf"\$7\${_SCRYPT}{_B64}{{0,86}}\${_B64}{{43}}",  # scrypt
    rf"\$2[abxy]\$(?P<cost>[0-9]{{2}})\${_B64}{{53}}",  # bcrypt
    rf"\$6\$(?:rounds=(?P<rounds>[1-9][0-9]{{0,9}})\$)?{_SALT}{{1,16}}\${_B64}{{86}}",  # SHA-512
    rf"\$5\$(?:rounds=(?P<rounds>[1-9][0-9]{{0,9}})\$)?{_SALT}{{1,16}}\${_B64}{{43}}",  # SHA-256
    rf"\$1\${_SALT}{{1,8}}\${_B64}{{22}}",  # MD5
)
#: crypt(5) allows up to 31 and 999,999,999, which take days for one login.
_BCRYPT_COST, _ROUNDS = range(4, 17), range(1000, 5_000_001)
#: The beginning of a text that is meant as a hash of any method.
_MEANT = re.compile(r"\$(?:[0-9]|2[abxy]|y|gy|md5|sha1)[$,]|\$[a-z][a-z0-9-]{1,20}\$[^$]+\$", re.ASCII)
_LONGEST = 256
_REMEDY = "make one with: mkpasswd --method=yescrypt"


def checked(text: str) -> str:
    """Return the hash. Raise ValueError for text that is not a hash of a known method, or for a cost that is
    too high.
    """
    found = _match(text)
    if found is None:
        if _MEANT.match(text):
            raise ValueError(
                f"a damaged crypt(3) hash, or one of a method or cost that is not accepted; {_REMEDY}"
            )
        raise ValueError(
            f"not a crypt(3) hash, perhaps a plain password (traditional DES is not accepted); {_REMEDY}"
        )
    groups = found.groupdict()
    if groups.get("cost") and int(groups["cost"]) not in _BCRYPT_COST:
        raise ValueError(f"a bcrypt cost outside {_BCRYPT_COST[0]} to {_BCRYPT_COST[-1]}; {_REMEDY}")
    if groups.get("rounds") and int(groups["rounds"]) not in _ROUNDS:
        raise ValueError(f"rounds outside {_ROUNDS[0]} to {_ROUNDS[-1]}; {_REMEDY}")
    return text


def is_meant(text: str) -> bool:
    """Return whether a text begins like a hash, and so is not meant as a plain password."""
    return _MEANT.match(text) is not None


def is_lock(text: str) -> bool:
    """Return whether a password field of shadow(5) is a lock without a hash (only ``!`` and ``*``)."""
    return bool(text) and not text.strip("!*")


def shadow_field(value: str) -> tuple[str | None, bool]:
    """Return the hash and whether the account is locked, for a password field of shadow(5): a hash, a hash
    after ``!``, or ``*`` or ``!`` alone. Raise ValueError as ``checked`` does.
    """
    if is_lock(value):
        return None, True
    return checked(value.lstrip("!")), value.startswith("!")


def weak(users: Iterable[User]) -> list[Problem]:
    """Return a warning for each account with a hash of a method that is no longer safe."""
    return [
        Problem(
            f"the password of {user.name or 'the default user'}",
            "an MD5 hash, which is quickly cracked by anyone who can read it",
            _REMEDY,
            severity=HARMLESS,
        )
        for user in users
        if user.password is not None and user.password.startswith("$1$")
    ]


def _match(text: str) -> re.Match[str] | None:
    if len(text) > _LONGEST:
        return None
    tried = (re.fullmatch(form, text, re.ASCII) for form in _METHODS)
    return next((found for found in tried if found), None)
