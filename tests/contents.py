"""Whether a test's image of a disk is the same as before, to the byte."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

#: Bytes of a block that is hashed as one.
_BLOCK = 64 << 10


def digest(image: Path) -> str:
    """Return a digest of all bytes of a file: of its size, and of each block with its place that is not of
    zeros. Holes, which are most of an image, are not read.
    """
    found = hashlib.sha256()
    with image.open("rb") as file:
        descriptor, at = file.fileno(), 0
        while (data := _next_data(descriptor, at)) is not None:
            hole = os.lseek(descriptor, data, os.SEEK_HOLE)
            for place in range(max(at, data - data % _BLOCK), hole, _BLOCK):
                block = os.pread(descriptor, _BLOCK, place)
                if block.count(0) != len(block):
                    found.update(b"%d " % place + block)
                at = place + _BLOCK
        found.update(b"%d" % os.fstat(descriptor).st_size)
    return found.hexdigest()


def _next_data(descriptor: int, at: int) -> int | None:
    """Return the place of the next byte from ``at`` on that is in no hole."""
    try:
        return os.lseek(descriptor, at, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:  # there is none
            raise
        return None
