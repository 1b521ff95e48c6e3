"""Constants of the swap disk's archive that are used outside the reader too: places, members' names, mark.

Nothing is parsed here: bytes of the disk are only compared with constants at fixed offsets. The archive is
parsed by ``agent/reader/formats/tar_archive.py``, in the confined reader only.
"""

from __future__ import annotations

import re

BLOCK = 512
#: Bytes from the beginning of the disk: the archive's place today, and on older platforms.
OFFSETS = (512 << 10, 0)
CONFIG, SCRIPT, INIT = "gandi/config", "gandi/script", "gandi/init"
#: The only member of an archive that the agent is overwriting: its mark, see ``mark``.
WIPED = "gandi/wiped"
_MODULES = r"gandi/([A-Za-z0-9._+~-]{1,80})-modules\.tar\.(?:gz|bz2)"
#: The magic of a header block, ustar's and GNU's (tar(5)).
_MAGIC, _AT = b"ustar", slice(257, 262)


def has_magic(block: bytes) -> bool:
    """Return whether a block has the magic of a tar header; nothing else of it is checked."""
    return block[_AT] == _MAGIC


def modules_release(member: str) -> str | None:
    """Return the kernel release of a member with modules, None for any other member."""
    if not member.endswith((".gz", ".bz2")):
        return None  # the usual case, without the expression: to compile it takes 1.5 M instructions
    found = re.fullmatch(_MODULES, member)
    return found[1] if found else None


def mark(length: int) -> bytes:
    """Return the header block that marks the ``length`` bytes after it as being overwritten."""
    block = bytearray(BLOCK)
    block[: len(WIPED)] = WIPED.encode()
    block[100:108] = b"0000600\0"
    block[124:136] = b"%011o\0" % length
    block[148:156] = b" " * 8
    block[156:157] = b"0"
    block[257:265] = b"ustar\x0000"
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)
