"""The swap disk's archive as far as its parent needs to know it: places, members' names, the agent's mark.

Nothing here parses: bytes of the disk are compared with constants at fixed offsets, and read by
``agent/reader/formats/tar_archive.py``, in the confined reader alone.
"""

from __future__ import annotations

import re

BLOCK = 512
#: Bytes from the beginning of the disk: where the platform puts the archive, and where older ones did.
OFFSETS = (512 << 10, 0)
CONFIG, SCRIPT, INIT = "gandi/config", "gandi/script", "gandi/init"
#: The only member of an archive whose bytes the agent is overwriting: its own mark, see ``mark``.
WIPED = "gandi/wiped"
MODULES = re.compile(r"gandi/(?P<release>[A-Za-z0-9._+~-]{1,80})-modules\.tar\.(?:gz|bz2)")
#: The magic of a header block, ustar's and GNU's (tar(5)).
_MAGIC, _AT = b"ustar", slice(257, 262)


def has_magic(block: bytes) -> bool:
    """Whether a block has the magic of a tar header; it need not be one."""
    return block[_AT] == _MAGIC


def mark(length: int) -> bytes:
    """A header block that says: the ``length`` bytes after this block are being overwritten."""
    block = bytearray(BLOCK)
    block[: len(WIPED)] = WIPED.encode()
    block[100:108] = b"0000600\0"
    block[124:136] = b"%011o\0" % length
    block[148:156] = b" " * 8
    block[156:157] = b"0"
    block[257:265] = b"ustar\x0000"
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)
