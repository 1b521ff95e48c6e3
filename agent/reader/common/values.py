"""Readers of single values that only the larger formats need, beside ``agent.reader.common.fields``.

A module of its own, so that reading a swap disk does not import it.
"""

from __future__ import annotations

import re

from agent.lib.records import dataclass
from agent.lib.text import WHITE
from agent.reader.common.fields import USER, hostname, items, key, stripped, text

#: Allowed names of programs: they become file names.
PROGRAM_NAME = "^[A-Za-z0-9][A-Za-z0-9_-]{0,60}$"
#: A host with an optional port, in a URL.
_HOST = r"(?:[A-Za-z0-9][A-Za-z0-9.-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?"
_LOCALE = r"[A-Za-z][A-Za-z0-9_-]{0,30}(?:\.[A-Za-z0-9-]{1,20})?(?:@[A-Za-z0-9]{1,20})?"
#: Names of serial terminals: ttyS0, ttyAMA0, ttysclp0, hvc0. They become names of units.
CONSOLE = "^(tty[A-Za-z]{1,8}|hvc|xvc|hvsi)[0-9]{1,3}$"
_SIZE = re.compile(r"([0-9]{1,15})(\.[0-9]{1,9})?[ \t]*([BKMGT]?)(?:iB|B)?", re.IGNORECASE | re.ASCII)
_UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True, slots=True)
class Choice:
    """A reader for one of a few words, in upper or lower case."""

    words: tuple[str, ...]

    def __call__(self, value: object) -> str:
        written = stripped(value).lower()
        if written not in self.words:
            raise ValueError(f"not a known word; write one of: {', '.join(filter(None, self.words))}")
        return written


@dataclass(frozen=True, slots=True)
class Whole:
    """A reader for a whole number in a range, also given as digits in a string; None for "" or null."""

    low: int
    high: int

    def __call__(self, value: object) -> int | None:
        if value is None or value == "":
            return None
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,10}", value.strip(WHITE)):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not self.low <= value <= self.high:
            raise ValueError(f"not a whole number in range; write one from {self.low} to {self.high}")
        return value


def boolean(value: object) -> bool:
    """Return true or false, also in the spellings of YAML 1.1 and as 1 or 0."""
    written = word(value).strip(WHITE).lower() if isinstance(value, bool | int | str) else ""
    if written in ("true", "yes", "on", "y", "1"):
        return True
    if written in ("false", "no", "off", "n", "0"):
        return False
    raise ValueError("neither true nor false; write one of them, without quotes")


def word(value: object) -> str:
    """Return text, also of a number or boolean as JSON writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else text(value)


def raw(value: object) -> object:
    """Return the value as it is written, to be read later or only named."""
    return value


def number_or_text(value: object) -> str:
    """Return text, also given as a whole number; None becomes ""."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if is_number else text(value)


def host_name(value: object) -> str:
    """Return a host name, also given as a number; "" for "" or null."""
    return hostname(number_or_text(value))


def is_false(value: object) -> bool:
    """Return whether a value is false, also in the spellings of YAML 1.1."""
    return value is False or (
        isinstance(value, str) and value.strip(WHITE).lower() in ("false", "no", "off")
    )


def line(value: object) -> str:
    """Return one line of text without control characters; a tab becomes a blank."""
    written = stripped(value).replace("\t", " ")
    if not written.isprintable() or len(written) > 1000:
        raise ValueError("not one line of at most 1000 printable characters; remove the others")
    return written


def instance(value: object) -> str:
    """Return a medium's id of the instance."""
    written = line(word(value))
    if len(written) > 200:
        raise ValueError("the id is too long; write at most 200 characters")
    return written


def key_line(value: object) -> str:
    """Return one line of authorized_keys, with its options and comment."""
    return key(text(value))[1]


def public_keys(value: object) -> tuple[object, ...]:
    """Return lines of authorized_keys, given as text, a list, or a dictionary of these."""
    many = value.values() if isinstance(value, dict) else [value]
    return tuple(line for one in many for line in items(one))


def group(value: object) -> str:
    """Return the name of a group or account that groupadd or useradd accepts."""
    written = stripped(value)
    if not USER.fullmatch(written):
        raise ValueError(
            "not an account or group name; write letters, digits, _, . and -, at most 32, not only digits"
        )
    return written


def owner(value: object) -> str:
    """Return a file's owner or group: a name or a number."""
    written = stripped(value)
    return written if re.fullmatch(r"[0-9]{1,9}", written) else group(written)


def program_name(value: object) -> str:
    """Return a program's name, which becomes the name of a file."""
    written = text(value)
    if not re.fullmatch(PROGRAM_NAME, written):
        raise ValueError("not a program name; write letters, digits, _ and -, at most 61")
    return written


def console(value: object) -> str:
    """Return the kernel's name of a serial terminal, without /dev/."""
    written = stripped(value).removeprefix("/dev/")
    if not re.fullmatch(CONSOLE, written):
        raise ValueError("not a serial terminal; write its name as the kernel has it, for example ttyS0")
    return written


def path(value: object) -> str:
    """Return an absolute path without empty parts, ``.`` and ``..``."""
    written = stripped(value)
    steps = written.split("/")[1:]
    if not written.startswith("/") or {"", ".", ".."} & set(steps) or not written.isprintable():
        raise ValueError("not an absolute path; write for example /etc/motd, without . and ..")
    if len(written.encode()) > 4000 or any(len(step.encode()) > 255 for step in steps):
        raise ValueError("the path is too long; write at most 255 bytes between two slashes")
    return written


def mode(value: object) -> int:
    """Return a file's mode, given in octal digits as a string; a number is refused, as 644 is ambiguous."""
    written = value.strip(WHITE) if isinstance(value, str) else ""
    if not re.fullmatch(r"(?:0o?)?[0-7]{1,4}", written):
        raise ValueError('not a file mode; write its octal digits in quotes, for example "0644"')
    return int(written.removeprefix("0o"), 8)


def timezone(value: object) -> str:
    """Return a name of the time zone database; "" for an empty string or null."""
    written = stripped(value)
    if written and not re.fullmatch(r"[A-Za-z0-9_+-]{1,60}(?:/[A-Za-z0-9_+-]{1,60}){0,3}", written):
        raise ValueError("not a time zone name; write for example Europe/Paris or Etc/UTC")
    return written


def locale(value: object) -> str:
    """Return a locale's name; "" for an empty string or null."""
    written = stripped(value)
    if written and not re.fullmatch(_LOCALE, written):
        raise ValueError("not a locale; write for example fr_FR.UTF-8")
    return written


def suite(value: object) -> str:
    """Return the name of a release of Debian."""
    written = stripped(value)
    if not re.fullmatch(r"[a-z][a-z0-9.-]{0,40}", written):
        raise ValueError("not the name of a release; write for example trixie")
    return written


def optional_suite(value: object) -> str:
    """Return the name of a release of Debian; "" for an empty string or null."""
    return suite(value) if stripped(value) else ""


def archive_url(value: object) -> str:
    """Return the URL of an archive of packages, by http or https, without a slash at its end."""
    written = stripped(value)
    if re.match(r"[a-z]+://[^/]*@", written):
        what = "has a user or a password, which every user of the machine could read"
        raise ValueError(f"{what}; write it without, and those to a file in /etc/apt/auth.conf.d")
    if not re.fullmatch(rf"https?://{_HOST}(?:/[A-Za-z0-9._~%+-]*){{0,20}}", written) or len(written) > 500:
        raise ValueError("not the URL of a mirror; write for example https://deb.debian.org/debian")
    return written.rstrip("/")


def optional_archive_url(value: object) -> str:
    """Return the URL of an archive of packages; "" for an empty string or null."""
    return archive_url(value) if stripped(value) else ""


def proxy_url(value: object) -> str:
    """Return the URL of a proxy, which may have a user and a password; "" for an empty string or null."""
    written = stripped(value)
    part = "[A-Za-z0-9._~!$&()*+,;=%-]{1,100}"
    if written and not re.fullmatch(rf"https?://(?:{part}:{part}@)?{_HOST}/?", written):
        raise ValueError(
            "not a proxy's URL; write for example http://192.0.2.1:3128, other characters as %XX"
        )
    return written


def size(written: object) -> int | None:
    """Return bytes, also of a number with a unit (``2G``); None for ``auto``, "" or null."""
    if written is None or (isinstance(written, str) and written.strip(WHITE).lower() in ("", "auto")):
        return None
    if isinstance(written, bool) or not (found := _SIZE.fullmatch(word(written).strip(WHITE))):
        raise ValueError("not a size; write bytes, a number with a unit (2G), or auto")
    unit = _UNITS[found[3].upper()]
    count = int(found[1]) * unit + int(float(found[2] or 0) * unit)
    if count > 1 << 50:
        raise ValueError("larger than any disk; write fewer bytes")
    return count
