"""Readers of single values that several dialects share: each returns the value as the model has it.

A reader raises ValueError("what is wrong; what to write instead"). The text never contains the value: a
password, or a private key pasted by mistake, would end up in a log.
"""

from __future__ import annotations

import binascii
import ipaddress
import re
import shlex

from agent.lib import public_key
from agent.lib.records import dataclass
from agent.lib.text import BLANKS, WHITE, delivered_lines
from agent.reader.common import password_hashes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

IP: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Net: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

#: User names that useradd and groupadd accept without --badname (is_valid_name in shadow's lib/chkname.c).
USER = re.compile(r"(?!\.{1,2}\Z|[0-9]+\Z)[A-Za-z0-9_.][A-Za-z0-9_.-]{0,30}[A-Za-z0-9_.$-]?")
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")
_KEY_LINE = 16 << 10
#: Limits for the keys of one account: their number, their characters in all, and the lines that are read.
_KEYS, _KEYS_SIZE, _KEYS_LINES = 1000, 1 << 20, 5000
#: Maximum characters of a line of arguments: shlex needs time by the square of a word's length, and the
#: kernel accepts at most 128 KiB for one argument (MAX_ARG_STRLEN).
_ARGUMENTS = 32 << 10
#: Most characters of a sealed value: 1 MiB, systemd's limit, and an eighth for what is around it, in base64.
_SEALED = (1 << 20) * 9 // 8 * 4 // 3


def text(value: object) -> str:
    """Return a string; None becomes ""."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError("not a string; write it in quotes")
    if "\0" in value:
        raise ValueError("contains a NUL character; remove it")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("contains a lone surrogate, or is not UTF-8; write it as UTF-8") from None
    return value


@dataclass(frozen=True, slots=True)
class Sealed:
    """A value that only its machine can open: the base64 text of ``systemd-creds encrypt``."""

    text: str


def sealable(value: object) -> str | Sealed:
    """Return a string, or one that is sealed for its machine; None becomes ""."""
    if not isinstance(value, dict):
        return text(value)
    written = value.get("sealed")
    if value.keys() != {"sealed"} or not isinstance(written, str):
        raise ValueError('not a string; write text in quotes, or {"sealed": "the text of systemd-creds"}')
    joined = written.translate(dict.fromkeys(map(ord, WHITE)))
    if len(joined) > _SEALED:
        raise ValueError(f"sealed, and longer than {_SEALED} characters; seal less, at most 1 MiB")
    if len(joined) % 4 or not re.fullmatch("[A-Za-z0-9+/]+={0,2}", joined):
        raise ValueError("sealed, and not the base64 text of systemd-creds; write all that it has printed")
    return Sealed(joined)


def arguments(value: object) -> tuple[str, ...]:
    """Return a program's arguments, split and unquoted by a shell's rules; nothing is expanded."""
    words = text(value)
    if len(words) > _ARGUMENTS:
        what = f"longer than {_ARGUMENTS} characters: gandi/script is not run"
        raise ValueError(f"{what}; put longer text into the script itself")
    try:
        return tuple(shlex.split(words))
    except ValueError as error:
        what = f"{error} in the quoting: gandi/script is not run".lower()
        raise ValueError(f"{what}; close each quote, write \\\\ for a backslash") from None


def address(value: object) -> IP:
    """Return a host's address, IPv4 or IPv6, without a prefix."""
    found = resolver(value)
    if found.is_loopback:
        raise ValueError("not the address of a host; write one that a NIC can have")
    return found


def resolver(value: object) -> IP:
    """Return a resolver's address, which may be a program's on this machine (127.0.0.53)."""
    try:
        found = ipaddress.ip_address(stripped(value))
    except ValueError:
        raise ValueError("not an IP address; write for example 203.0.113.10 or 2001:db8::10") from None
    if found.is_unspecified or found.is_multicast or getattr(found, "scope_id", None):
        raise ValueError("not the address of a host; write one that a NIC can have")
    return found


def optional_address(value: object) -> IP | None:
    """Return a host's address; None for an empty string or null."""
    return address(value) if stripped(value) else None


def optional_resolver(value: object) -> IP | None:
    """Return a resolver's address; None for an empty string or null."""
    return resolver(value) if stripped(value) else None


def network(value: object) -> Net | None:
    """Return a network in CIDR notation, ignoring host bits; None for an empty string or null.

    The default prefix is /24 for IPv4 (as on the platform) and /64 for IPv6.
    """
    written = stripped(value)
    if not written:
        return None
    if "/" not in written:
        written += "/64" if ":" in written else "/24"
    try:
        return ipaddress.ip_network(written, strict=False)
    except ValueError:
        raise ValueError("not a network in CIDR notation; write for example 203.0.113.0/24") from None


def number(value: object) -> int:
    """Return a whole number from 0 to 9999, also given as a string of digits."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,4}", value.strip(WHITE)):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 10000:
        raise ValueError("not a small whole number; write 0 for the first, 1 for the second")
    return value


def optional_number(value: object) -> int | None:
    """Return a whole number from 0 to 9999; None for null."""
    return None if value is None else number(value)


def mac(value: object) -> str | None:
    """Return a MAC address, in lower case with colons; None for an empty string or null."""
    written = stripped(value).lower().replace("-", ":")
    if written and not _MAC.fullmatch(written):
        raise ValueError("not a MAC address; write for example 00:16:3e:11:22:33")
    return written or None


def hostname(value: object) -> str:
    """Return a host name, short or fully qualified (RFC 1123, and underscores); "" for "" or null."""
    written = stripped(value).removesuffix(".")
    if written and (len(written) > 253 or not all(map(_LABEL.fullmatch, written.split(".")))):
        raise ValueError("not a host name; write letters, digits and hyphens, at most 63 between two dots")
    return written


def password(value: object) -> str | None:
    """Return a crypt(3) hash, unchanged; None for an empty string or null."""
    written = text(value)
    return password_hashes.checked(written) if written else None


def shadow_field(value: object) -> str | None:
    """Return a password field for shadow(5), a hash or a lock (``password_hashes.shadow_field``); None for
    an empty string or null.
    """
    written = stripped(value)
    if written:
        password_hashes.shadow_field(written)
    return written or None


def user(value: object) -> str | None:
    """Return an account's name that useradd accepts; None for an empty string or null."""
    written = stripped(value)
    if written and not USER.fullmatch(written):
        raise ValueError(
            "not a user name for useradd; write letters, digits, _, . and -, at most 32, not only digits"
        )
    return written or None


def key(line: str) -> tuple[str, str]:
    """Return (key without options and comment, whole line) of one line of authorized_keys. Raise ValueError,
    also for a control character or another line separator, which programs other than sshd may read as the
    end of the line.
    """
    line = line.strip(BLANKS)
    if len(line) > _KEY_LINE or not line.replace("\t", " ").isprintable():
        raise ValueError("too long, or contains a control character or line separator; write one key a line")
    found = public_key.split(line)
    if found is None:
        raise ValueError("not an OpenSSH public key; write the content of a .pub file")
    if not public_key.are_known(public_key.options(line)):
        raise ValueError("an option that sshd does not know; write the options as in sshd(8)")
    kind, blob, _ = found
    try:
        raw = binascii.a2b_base64(blob, strict_mode=True)
    except ValueError:
        raise ValueError(f"{kind}: its base64 is damaged; copy the .pub file again, whole") from None
    named = kind.encode()
    if raw[:4] != len(named).to_bytes(4, "big") or raw[4 : 4 + len(named)] != named or len(raw) < 40:
        raise ValueError(f"{kind}: cut short, or of another type; copy the .pub file again, whole")
    return f"{kind} {blob}", line


def items(value: object) -> tuple[object, ...]:
    """Return the lines of a string or of a list of strings; none for null. Items that are not strings are
    kept for the reader of the single item to refuse.
    """
    many = value if isinstance(value, list) else [value]
    return tuple(
        line
        for one in many
        if one is not None
        for line in (delivered_lines(one) if isinstance(one, str) else (one,))
    )


def any_text(value: object) -> str:
    """Return a string without checking its content, as its lines are checked one by one. None becomes ""."""
    return value if isinstance(value, str) else text(value)


def is_comment(line: object) -> bool:
    """Return whether a line of authorized_keys is blank or a comment (sshd(8))."""
    said = line.strip(BLANKS) if isinstance(line, str) else None
    return said == "" or (said is not None and said.startswith("#"))


def unpacked(written: str | bytes) -> bytes:
    """Decode base64, in one line or several. Raise ValueError."""
    data = written.encode("ascii") if isinstance(written, str) else written
    return binascii.a2b_base64(data.translate(None, WHITE.encode()), strict_mode=True)


def keys(written: Sequence[object]) -> tuple[dict[str, str], list[tuple[int, str, str]]]:
    """Return the line of each public key, and for each invalid line its number, the error and the remedy.
    All lines beyond the limits are reported as one.
    """
    found: dict[str, str] = {}
    wrong: list[tuple[int, str, str]] = []
    size = 0
    for number, line in enumerate(written, start=1):
        if is_comment(line):
            continue
        if number > _KEYS_LINES or len(found) >= _KEYS or size > _KEYS_SIZE:
            most = f"{_KEYS} keys, {_KEYS_LINES} lines or {_KEYS_SIZE} characters"
            wrong.append((number, f"more than {most}: left out from here on", "deliver fewer keys"))
            break
        try:
            name, whole = key(any_text(line))
        except ValueError as error:
            what, _, hint = str(error).partition("; ")
            wrong.append((number, what, hint))
            continue
        if name in found and public_key.options(found[name]) != public_key.options(whole):
            what = "the key appears with other options: the first line that has some is used"
            wrong.append((number, what, "write it once"))
        found[name] = narrower(found.get(name, whole), whole)
        size += len(whole)
    return found, wrong


def narrower(first: str, second: str) -> str:
    """Return the one of two lines of the same key that has options, which restrict it; else the first."""
    return second if public_key.options(second) and not public_key.options(first) else first


def stripped(value: object) -> str:
    """Return a string without surrounding blanks and line breaks; None becomes ""."""
    return text(value).strip(WHITE)
