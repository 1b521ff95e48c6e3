"""Text that others wrote: split it as the kernel does, and make it safe to print.

``str.splitlines``, ``str.split()`` without an argument, ``str.strip()`` and universal newlines also treat
\\v, \\f, \\x1c to \\x1e, \\x85, U+2028 and other characters as line ends or blanks. The kernel, sshd, shadow
and sudo do not: with such a character in a label, a comment or a process name, a user could end a record
early.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

#: The separators of a line's fields.
BLANKS = " \t"
#: The same with line ends: what systemd and OpenSSH call WHITESPACE.
WHITE = " \t\r\n"
_BLANKS = r"[ \t]+"
#: The first line of a file that is the agent's own until it is changed.
HEADER = "# Written by gandi-agent; once changed, it is left alone.\n"
#: Least part of two names that must be the same for one to be meant by the other.
_ALIKE = 0.6
#: A URL for a POST: with a host, without a user name, a fragment, blanks and bytes that are not UTF-8.
HTTP_URL = r"https?://[^\x00-\x20\x7f\ud800-\udfff/?#@]+(?:[/?][^\x00-\x20\x7f\ud800-\udfff#]*)?"


def lines(text: str) -> list[str]:
    """Return the lines of a file or of a command's output; only ``\\n`` ends a line."""
    parts = text.split("\n")
    return parts[:-1] if not parts[-1] else parts


def delivered_lines(text: str) -> list[str]:
    """Return the lines of delivered text, in which ``\\r\\n`` ends a line too."""
    return [line.removesuffix("\r") for line in lines(text)]


def words(text: str, most: int = 0) -> list[str]:
    """Return the fields of a line, separated by blanks and tabs. With ``most``, split at most that many
    times: the last field is the rest of the line.
    """
    if not most:
        return [word for word in text.replace("\t", " ").split(" ") if word]
    stripped = text.strip(BLANKS)
    return re.split(_BLANKS, stripped, maxsplit=most) if stripped else []


def joined(text: str) -> str:
    """Return a command's output as one line, its lines separated by semicolons."""
    return "; ".join(filter(None, (line.strip(BLANKS) for line in lines(text))))


def number(text: str) -> int | None:
    """Return a decimal number of at most 20 ASCII digits, None for anything else (``str.isdigit`` also takes
    digits that ``int`` refuses).
    """
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else None


def is_text(text: str) -> bool:
    """Return whether the text can be encoded in UTF-8: a lone surrogate cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def nearest(name: str, names: Iterable[str]) -> str:
    """Return the one of ``names`` that may be meant: most of both, at their beginning and end, is the same;
    "" if there is none.

    difflib compares more, and is a hundredth of a first boot's CPU: the reader must import what it may need
    before it reads anything.
    """

    def same(one: str) -> float:
        begins = _shared(one, name)
        ends = _shared(one[begins:][::-1], name[begins:][::-1])
        return 2 * (begins + ends) / (len(one) + len(name))

    best = max(filter(None, names), key=same, default="")
    return best if best and same(best) > _ALIKE else ""


def _shared(one: str, other: str) -> int:
    """Return the number of characters with which both begin."""
    for count, (mine, its) in enumerate(zip(one, other, strict=False)):
        if mine != its:
            return count
    return min(len(one), len(other))


def gib(size: int) -> str:
    """Return a size in bytes as people read it: ``1.50 GiB``."""
    return f"{size / (1 << 30):.2f} GiB"


def printable(text: str) -> str:
    """Return the text as one line that is safe on a terminal: with an escape for every control, format,
    bidirectional and unassigned character, and for every undecodable byte.
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else _spelled(c) for c in text)


def _spelled(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00  # a byte that is not UTF-8, as surrogateescape represents it
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
