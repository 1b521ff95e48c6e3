"""Unpack gzip within limits."""

from __future__ import annotations

import zlib

#: The first bytes of a gzip file (RFC 1952).
GZIP = b"\x1f\x8b"
_MEMBERS = 100


def gunzip(packed: bytes, limit: int) -> bytes:
    """Return the content of a gzip file. Raise ValueError if it is damaged or above ``limit`` bytes."""
    unpacked, members = bytearray(), 0
    while packed:
        members += 1
        if members > _MEMBERS:
            raise ValueError(f"gzip of more than {_MEMBERS} members; pack it as one")
        stream = zlib.decompressobj(wbits=31)
        try:
            unpacked += stream.decompress(packed, limit + 1 - len(unpacked))
        except zlib.error:
            raise ValueError("damaged gzip; pack it again") from None
        if len(unpacked) > limit:
            raise ValueError(f"unpacks to more than {limit} bytes; deliver less")
        if not stream.eof:
            raise ValueError("gzip that is cut short; deliver it whole")
        packed = stream.unused_data.lstrip(b"\0")
    return bytes(unpacked)
