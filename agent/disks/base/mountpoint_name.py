"""Make a safe folder name for CONFIG_DISK_ROOT from a filesystem's label, which may be any bytes."""

from __future__ import annotations

#: Bytes of the longest file name in Linux (NAME_MAX).
LONGEST = 255
_KEPT = frozenset("._+-")


def safe(label: bytes) -> str:
    """Return the label as a name: Unicode letters, digits and ``._+-`` stay, every other character becomes
    ``_``; "" stays "".

    A leading dot becomes ``_`` too, so that the name is neither hidden nor ``..``.
    """
    text = label.decode("utf-8", "replace")
    name = "".join(char if char.isalpha() or char.isdecimal() or char in _KEPT else "_" for char in text)
    if name.startswith("."):
        name = "_" + name[1:]
    return _cut(name, LONGEST)


def numbered(name: str, number: int) -> str:
    """Return the name for the ``number``-th filesystem with it: unchanged, then with ``_2``, ``_3``."""
    if number < 2:
        return name
    suffix = f"_{number}"
    return _cut(name, LONGEST - len(suffix)) + suffix


def _cut(name: str, limit: int) -> str:
    """Return at most ``limit`` bytes of the name, cut between two characters."""
    return name.encode()[:limit].decode("utf-8", "ignore")
