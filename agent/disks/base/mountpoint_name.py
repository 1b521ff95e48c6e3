"""From a filesystem's label, which may be any bytes at all, to a folder name that is safe below
CONFIG_DISK_ROOT.
"""

from __future__ import annotations

#: Bytes of the longest file name that Linux knows (NAME_MAX).
LONGEST = 255
_KEPT = frozenset("._+-")


def safe(label: bytes) -> str:
    """The label as a name: Unicode letters and digits and ``._+-`` stay, all else becomes ``_``; ""
    stays "".

    A leading dot becomes ``_`` too, so that the name is neither hidden nor ``..``.
    """
    text = label.decode("utf-8", "replace")
    name = "".join(char if char.isalpha() or char.isdecimal() or char in _KEPT else "_" for char in text)
    if name.startswith("."):
        name = "_" + name[1:]
    return _cut(name, LONGEST)


def numbered(name: str, number: int) -> str:
    """The name for the ``number``-th filesystem that wants it: itself, then ``_2``, ``_3``."""
    if number < 2:
        return name
    suffix = f"_{number}"
    return _cut(name, LONGEST - len(suffix)) + suffix


def _cut(name: str, limit: int) -> str:
    """At most ``limit`` bytes, cut between two characters."""
    return name.encode()[:limit].decode("utf-8", "ignore")
