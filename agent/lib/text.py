"""Text that others wrote: split where the kernel splits it, harmless where it is printed.

``str.splitlines``, ``str.split()`` without an argument, ``str.strip()`` and universal newlines also take
\\v, \\f, \\x1c to \\x1e, \\x85, U+2028 and other characters for an end of line or a blank. The kernel,
sshd, shadow and sudo do not: whoever may choose a label, a comment or a process's name could end a record
with one.
"""

from __future__ import annotations

import re

#: What fields of a line are separated by: isspace(3) in the C locale, without the end of line.
BLANKS = " \t"
#: The same with the ends of lines: what systemd and OpenSSH call WHITESPACE.
WHITE = " \t\r\n"
_BLANKS = re.compile(r"[ \t]+")


def lines(text: str) -> list[str]:
    """Return the lines of a file or of a command's output; each ends at ``\\n`` and nowhere else."""
    found = text.split("\n")
    return found[:-1] if not found[-1] else found


def delivered_lines(text: str) -> list[str]:
    """Return the lines of text that comes from elsewhere, where ``\\r\\n`` ends one too."""
    return [line.removesuffix("\r") for line in lines(text)]


def words(text: str, most: int = 0) -> list[str]:
    """Return the fields of a line, separated by blanks and tabs; with ``most``, the rest of the line is in
    field number ``most`` + 1.
    """
    stripped = text.strip(BLANKS)
    return _BLANKS.split(stripped, maxsplit=most) if stripped else []


def joined(text: str) -> str:
    """Return a command's output as one line, its lines separated by semicolons."""
    return "; ".join(filter(None, (line.strip(BLANKS) for line in lines(text))))


def number(text: str) -> int | None:
    """Return a decimal number of at most 20 ASCII digits, None for anything else (``str.isdigit`` also takes
    digits that ``int`` refuses).
    """
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else None


def printable(text: str) -> str:
    """Return the text as one line that does nothing to a terminal: every control, format, bidirectional and
    unassigned character and every undecodable byte is spelled out.
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else _spelled(c) for c in text)


def _spelled(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00  # a byte that is no UTF-8, as surrogateescape keeps it
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
