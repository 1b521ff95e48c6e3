"""Text by others: where its lines end, and what a terminal gets of it."""

from __future__ import annotations

import pytest

from agent.lib import text

#: Line ends for str.splitlines(), but not for the kernel and sshd.
NO_END = ["\v", "\f", "\r", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]


@pytest.mark.parametrize("character", NO_END, ids=ascii)
def test_a_line_ends_at_a_newline_alone(character: str) -> None:
    assert text.lines(f"one{character}more\ntwo\n") == [f"one{character}more", "two"]
    assert text.words(f"a{character}b c") == [f"a{character}b", "c"]


def test_the_end_of_the_text_ends_a_line_and_makes_none() -> None:
    assert text.lines("") == []
    assert text.lines("a\n\nb") == ["a", "", "b"]


def test_fields() -> None:
    assert text.words("\t  ") == []
    assert text.words(" a \t b  c d ", 2) == ["a", "b", "c d"]


def test_an_output_is_one_line() -> None:
    assert text.joined("mount: /srv: no\n\n       see dmesg(1)\n") == "mount: /srv: no; see dmesg(1)"
    assert text.joined(" \n") == ""


@pytest.mark.parametrize("odd", ["", "-1", "+1", "1_0", "²", "٣", " 1", "1" * 21])
def test_what_is_no_number(odd: str) -> None:
    assert text.number(odd) is None


def test_a_number() -> None:
    assert text.number("0042") == 42


@pytest.mark.parametrize(
    ("odd", "spelled"),
    [
        ("a\x1b[2J", "a\\x1b[2J"),
        ("a\nb\r", "a\\x0ab\\x0d"),
        ("\u202eabc\u2066", "\\u202eabc\\u2066"),
        ("\udcff", "\\xff"),
        ("\U000e0001", "\\U000e0001"),
        ("Zoë", "Zoë"),
    ],
    ids=ascii,
)
def test_what_a_terminal_gets(odd: str, spelled: str) -> None:
    assert text.printable(odd) == spelled


@pytest.mark.parametrize(
    ("size", "shown"), [(0, "0.00 GiB"), (3 << 29, "1.50 GiB"), (5 << 40, "5120.00 GiB")]
)
def test_a_size(size: int, shown: str) -> None:
    assert text.gib(size) == shown


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("hostnme", "hostname"),
        ("hostanme", "hostname"),
        ("HOSTNAME_", ""),
        ("hostnames", "hostname"),
        ("addres", "address"),
        ("h", ""),
        ("", ""),
        ("colour", ""),
    ],
)
def test_the_nearest_name(name: str, meant: str) -> None:
    assert text.nearest(name, ("hostname", "address", "gateway", "")) == meant


def test_no_name_is_near_none() -> None:
    assert text.nearest("hostname", ()) == ""
