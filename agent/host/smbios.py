"""The UUID in SMBIOS structures (SMBIOS 3.x): in which fields it is, and how it is spelled."""

from __future__ import annotations

#: SMBIOS 3.x, 7.2: the type of System Information, and where its UUID is.
_SYSTEM, _AT, _LENGTH = 1, 8, 16


def uuid_in(tables: bytes) -> str:
    """Return the UUID in SMBIOS structures, "" if there is none or they are not such."""
    at = 0
    while at + 4 <= len(tables):
        kind, length = tables[at], tables[at + 1]
        if length < 4:
            return ""
        if kind == _SYSTEM:
            raw = tables[at + _AT : at + _AT + _LENGTH] if length >= _AT + _LENGTH else b""
            return _spelled(raw) if len(raw) == _LENGTH else ""
        # The texts of a structure end with two NULs.
        end = tables.find(b"\0\0", at + length)
        if end < 0:
            return ""
        at = end + 2
    return ""


def _spelled(raw: bytes) -> str:
    """Return the UUID as the kernel spells it: the first three fields are little-endian (SMBIOS 2.6)."""
    fields = (raw[3::-1], raw[5:3:-1], raw[7:5:-1], raw[8:10], raw[10:])
    return "-".join(field.hex() for field in fields)
