"""The UUID in SMBIOS structures, whatever they are."""

from __future__ import annotations

import random

import pytest

from agent.host import smbios

UUID = "4c4c4544-0000-1000-8000-000000000002"


def tables(uuid: str, before: bytes = b"") -> bytes:
    """Return SMBIOS structures with a System Information."""
    raw = bytes.fromhex(uuid.replace("-", ""))
    raw = raw[3::-1] + raw[5:3:-1] + raw[7:5:-1] + raw[8:]
    head = bytes([1, 27, 0, 1, 1, 2, 3, 4]) + raw + bytes([6, 5, 6])
    return before + head + b"QEMU\0PC\0\0" + bytes([127, 4, 0, 2, 0, 0])


@pytest.mark.parametrize(
    ("data", "uuid"),
    [
        (tables(UUID), UUID),
        (tables(UUID, before=bytes([0, 5, 0, 0, 1]) + b"vendor\0\0"), UUID),
        (b"", ""),
        (tables(UUID)[:20], ""),
        (bytes([1, 8, 0, 1, 0, 0, 0, 0, 0, 0]), ""),
        (bytes([1, 3, 0, 1]) + tables(UUID), ""),
        (bytes([0, 5, 0, 0, 1]) + b"no end", ""),
    ],
)
def test_the_tables_of_the_firmware(data: bytes, uuid: str) -> None:
    assert smbios.uuid_in(data) == uuid


def test_any_bytes_are_read_to_an_end() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(2000):
        smbios.uuid_in(chance.randbytes(chance.randrange(200)))
