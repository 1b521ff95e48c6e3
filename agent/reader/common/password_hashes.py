"""Password hashes as they may stand in /etc/shadow: each method by its exact form.

Format: crypt(5), and libxcrypt for what a salt may hold. A text that only resembles a hash is refused: a
plain password of 13 letters has the form of a traditional DES hash, and taken for one it would be readable
in /etc/shadow.

The costs are bounded, since everybody who reaches a login prompt can make the machine pay them: at most the
highest that crypt_gensalt(3) makes for yescrypt and scrypt (1 GiB of memory), and a few seconds of CPU for
the others.
"""

from __future__ import annotations

import re

from agent.reader.common.problem import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.config.model import User

#: The alphabet of hashes and of most salts; those of SHA and MD5 may hold other printable characters.
_B64 = "[./0-9A-Za-z]"
_SALT = r"[\"#%-)+-9<-\[\]-~]"
#: yescrypt: flavour j; log2(N) up to 18 and r up to 32, both less 1, in the alphabet's order. scrypt:
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
#: crypt(5) takes up to 31 and 999,999,999: days for one login.
_BCRYPT_COST, _ROUNDS = range(4, 17), range(1000, 5_000_001)
#: How a text begins that is meant as a hash, of whatever method.
_MEANT = re.compile(r"\$(?:[0-9]|2[abxy]|y|gy|md5|sha1)[$,]", re.ASCII)
_LONGEST = 256
_REMEDY = "make one with: mkpasswd --method=yescrypt"


def checked(text: str) -> str:
    """Return the hash. Raise ValueError for a text that is none of a method in use, or one that costs each
    login too much.
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
    """Return whether a text that may be a plain password as well is meant as a hash."""
    return _MEANT.match(text) is not None


def is_lock(text: str) -> bool:
    """Return whether a field of shadow(5) is a lock without a hash: no password is good for the account."""
    return bool(text) and not text.strip("!*")


def shadow_field(value: str) -> tuple[str | None, bool]:
    """Return the hash and whether the account is locked, of what is to stand in a field of shadow(5): a
    hash, one behind ``!``, or ``*`` or ``!`` alone. Raise ValueError as ``checked``.
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
            harmless=True,
        )
        for user in users
        if user.password is not None and user.password.startswith("$1$")
    ]


def _match(text: str) -> re.Match[str] | None:
    if len(text) > _LONGEST:
        return None
    tried = (re.fullmatch(form, text, re.ASCII) for form in _METHODS)
    return next((found for found in tried if found), None)
