"""Any bytes in, a safe folder name out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.disks.policy import LONGEST, folder_name, numbered_name


@pytest.mark.parametrize(
    ("label", "name"),
    [
        (b"data", "data"),
        (b"", ""),
        (b"../../etc", "_._.._etc"),
        (b"..", "_."),
        (b".", "_"),
        (b".hidden", "_hidden"),
        (b"a\nb", "a_b"),
        (b"a b\tc", "a_b_c"),
        (b"\x1b[31m", "__31m"),
        (b"a\x00b", "a_b"),
        (b"-rf", "-rf"),
        (b"%n$(id)`", "_n__id__"),
        ("Été-2024_β.ö+".encode(), "Été-2024_β.ö+"),
        ("データ".encode(), "データ"),
        ("٣".encode(), "٣"),
        ("a\u202egnp".encode(), "a_gnp"),
        ("x\u2028y".encode(), "x_y"),
        (b"\xff\xfe", "__"),
        (b"a\xc3", "a_"),
        (b"x" * 300, "x" * 255),
        ("é".encode() * 200, "é" * 127),
    ],
)
def test_names(label: bytes, name: str) -> None:
    assert folder_name(label) == name


@given(st.binary(max_size=600), st.integers(1, 999))
def test_no_label_leaves_its_folder(label: bytes, number: int) -> None:
    name = numbered_name(folder_name(label), number)
    assert "/" not in name
    assert "\0" not in name
    assert not name.startswith(".")
    assert len(name.encode()) <= LONGEST
    assert all(char.isprintable() and not char.isspace() for char in name)


def test_numbers_fit_into_the_longest_name() -> None:
    assert numbered_name("data", 1) == "data"
    assert numbered_name("data", 2) == "data_2"
    assert numbered_name("é" * 127, 10) == "é" * 126 + "_10"
