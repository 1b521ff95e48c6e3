"""Readers of single values that more than one dialect has: each gives the neutral value or says what is
wrong.

A reader raises ValueError("what is wrong; what to write instead"). It never repeats the value: a password,
or a private key that was pasted by mistake, would end up in a log.
"""

from __future__ import annotations

import binascii
import ipaddress
import re
import shlex

from agent.plain import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

IP: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Net: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

#: crypt(5): a method's prefix and its text, or the 13 characters of descrypt. No character that ends a
#: field of /etc/shadow or that stands for a locked password.
_CRYPT = re.compile(r"\$(?:1|2[abxy]|3|5|6|7|y|gy|sha1|md5)[$,][\"-)+-9<-\[\]-~]+|[./0-9A-Za-z]{13}")
#: What shadow's useradd takes (is_valid_user_name in its lib/chkname.c), as Debian documents it in
#: useradd(8).
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}[a-z0-9_$-]?")
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")
_KEY_TYPE = re.compile(
    r"(?:ssh-(?:rsa|dss|ed25519)|ecdsa-sha2-nistp(?:256|384|521))(?:-cert-v01@openssh\.com)?"
    r"|sk-(?:ssh-ed25519|ecdsa-sha2-nistp256)(?:-cert-v01)?@openssh\.com"
)
_WORD = re.compile(r'(?:[^\s"]|"(?:[^"\\]|\\.)*")+')
_KEY_LINE = 16 << 10
#: What a program may be called: it becomes the name of a file.
PROGRAM_NAME = "^[A-Za-z0-9][A-Za-z0-9_-]{0,60}$"


def text(value: object) -> str:
    """A string; None reads as ""."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError("not a string; write it in quotes")
    if "\0" in value:
        raise ValueError("holds a NUL character; remove it")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("holds half a character (a lone surrogate); write it as UTF-8") from None
    return value


def arguments(value: object) -> tuple[str, ...]:
    """A program's arguments: words by a shell's rules of quoting, nothing expanded."""
    words = text(value)
    try:
        return tuple(shlex.split(words))
    except ValueError as error:
        what = f"{error} in the quoting: gandi/script is not run".lower()
        raise ValueError(f"{what}; close each quote, write \\\\ for a backslash") from None


def address(value: object) -> IP:
    """A host's address, v4 or v6, without a prefix."""
    try:
        found = ipaddress.ip_address(_stripped(value))
    except ValueError:
        raise ValueError("not an IP address; write for example 203.0.113.10 or 2001:db8::10") from None
    if found.is_unspecified or found.is_multicast or found.is_loopback or getattr(found, "scope_id", None):
        raise ValueError("no address of a host; write one that a NIC can have")
    return found


def optional_address(value: object) -> IP | None:
    """The same, where an empty string and null mean: none."""
    return address(value) if _stripped(value) else None


def network(value: object) -> Net | None:
    """A network in CIDR notation (bits of the host are ignored); an empty string and null mean: none.

    Without a prefix: /24 for IPv4 (the platform's default), /64 for IPv6.
    """
    written = _stripped(value)
    if not written:
        return None
    if "/" not in written:
        written += "/64" if ":" in written else "/24"
    try:
        return ipaddress.ip_network(written, strict=False)
    except ValueError:
        raise ValueError("not a network in CIDR notation; write for example 203.0.113.0/24") from None


def number(value: object) -> int:
    """A small whole number, also as a string of digits."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,4}", value.strip()):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 10000:
        raise ValueError("not a small whole number; write 0 for the first, 1 for the second")
    return value


def optional_number(value: object) -> int | None:
    """The same, where null means: none."""
    return None if value is None else number(value)


def mac(value: object) -> str | None:
    """A hardware address, lower-case with colons; an empty string and null mean: none."""
    written = _stripped(value).lower().replace("-", ":")
    if written and not _MAC.fullmatch(written):
        raise ValueError("not a MAC address; write for example 00:16:3e:11:22:33")
    return written or None


def hostname(value: object) -> str:
    """A host name, short or fully qualified (RFC 1123; underscores are let pass); "" where none is given."""
    written = _stripped(value).removesuffix(".")
    if written and (len(written) > 253 or not all(map(_LABEL.fullmatch, written.split(".")))):
        raise ValueError("not a host name; letters, digits and hyphens, at most 63 between two dots")
    return written


def password(value: object) -> str | None:
    """A crypt(3) hash, verbatim; None where none is given."""
    written = text(value)
    if written and not _CRYPT.fullmatch(written):
        raise ValueError("not a crypt(3) hash; make one with: mkpasswd --method=yescrypt")
    return written or None


def user(value: object) -> str | None:
    """An account's name that useradd takes; None where none is given."""
    written = text(value)
    if written and not _USER.fullmatch(written):
        raise ValueError("no user name that useradd takes; lower-case letters, digits, _ and -, at most 32")
    return written or None


def key(line: str) -> tuple[str, str]:
    """One line of authorized_keys, as (its key without options and comment, the line). Raises ValueError."""
    line = line.strip()
    if len(line) > _KEY_LINE or not line.replace("\t", " ").isprintable():
        raise ValueError("too long or not printable; one public key on each line")
    words = [match[0] for match in _WORD.finditer(line)][:3]
    at = next((n for n, word in enumerate(words[:2]) if _KEY_TYPE.fullmatch(word)), None)
    if at is None or len(words) < at + 2:
        raise ValueError("no OpenSSH public key; write the content of a .pub file")
    kind, blob = words[at], words[at + 1]
    try:
        raw = binascii.a2b_base64(blob, strict_mode=True)
    except (ValueError, binascii.Error):
        raise ValueError(f"{kind}: its base64 is damaged; copy the .pub file again, whole") from None
    named = kind.encode()
    if raw[:4] != len(named).to_bytes(4, "big") or raw[4 : 4 + len(named)] != named or len(raw) < 40:
        raise ValueError(f"{kind}: cut short, or of another type; copy the .pub file again, whole")
    return f"{kind} {blob}", line


def _stripped(value: object) -> str:
    return text(value).strip()


@dataclass(frozen=True, slots=True)
class Choice:
    """A reader of one of a few words, in any case."""

    words: tuple[str, ...]

    def __call__(self, value: object) -> str:
        written = _stripped(value).lower()
        if written not in self.words:
            raise ValueError(f"not a word that is known here; write one of: {', '.join(self.words)}")
        return written


@dataclass(frozen=True, slots=True)
class Whole:
    """A reader of a whole number within bounds, also as a string of digits; null means: none."""

    low: int
    high: int

    def __call__(self, value: object) -> int | None:
        if value is None or value == "":
            return None
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,10}", value.strip()):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not self.low <= value <= self.high:
            raise ValueError(f"not a whole number that fits; write one from {self.low} to {self.high}")
        return value


def boolean(value: object) -> bool:
    """true or false, also as YAML 1.1 spells them."""
    if value is True or (isinstance(value, str) and value.lower() in ("true", "yes", "on")):
        return True
    if value is False or (isinstance(value, str) and value.lower() in ("false", "no", "off")):
        return False
    raise ValueError("neither true nor false; write one of them, without quotes")


def optional_boolean(value: object) -> bool | None:
    """The same, where null means: not said."""
    return None if value is None else boolean(value)


def word(value: object) -> str:
    """Text that describes something; a number or a truth value is taken as JSON spells it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else text(value)


def line(value: object) -> str:
    """Text of one line, without control characters."""
    written = _stripped(value)
    if not written.isprintable() or len(written) > 1000:
        raise ValueError("not one line of at most 1000 printable characters; remove the others")
    return written


def instance(value: object) -> str:
    """A medium's own id of the machine."""
    written = line(word(value))
    if len(written) > 200:
        raise ValueError("too long an id; write at most 200 characters")
    return written


def key_line(value: object) -> str:
    """One public key of authorized_keys, with its options and its comment."""
    return key(text(value))[1]


def group(value: object) -> str:
    """A group's name that groupadd takes, or a user's."""
    written = _stripped(value)
    if not _USER.fullmatch(written):
        raise ValueError("no name of an account or group; lower-case letters, digits, _ and -, at most 32")
    return written


def owner(value: object) -> str:
    """A file's owner or group: a name or a number."""
    written = _stripped(value)
    return written if re.fullmatch(r"[0-9]{1,9}", written) else group(written)


def program_name(value: object) -> str:
    """A program's name."""
    written = text(value)
    if not re.fullmatch(PROGRAM_NAME, written):
        raise ValueError("no name of a program; letters, digits, _ and -, at most 61")
    return written


def path(value: object) -> str:
    """An absolute path that leads nowhere else than it says."""
    written = text(value)
    steps = written.split("/")[1:]
    if not written.startswith("/") or {"", ".", ".."} & set(steps) or not written.isprintable():
        raise ValueError("not an absolute path; write for example /etc/motd, without . and ..")
    if len(written.encode()) > 4000 or any(len(step.encode()) > 255 for step in steps):
        raise ValueError("too long a path; at most 255 bytes between two slashes")
    return written


def mode(value: object) -> int:
    """A file's mode, as text of octal digits: the number 644 could be meant either way."""
    if not isinstance(value, str) or not re.fullmatch(r"(?:0o?)?[0-7]{1,4}", value):
        raise ValueError('not a file mode; write its octal digits in quotes, for example "0644"')
    return int(value.removeprefix("0o"), 8)


def timezone(value: object) -> str:
    """A name of the time zone database; "" where none is given."""
    written = _stripped(value)
    if written and not re.fullmatch(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+){0,3}", written):
        raise ValueError("no name of a time zone; write for example Europe/Paris or Etc/UTC")
    return written
