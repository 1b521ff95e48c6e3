"""Records from stored documents."""

from __future__ import annotations

from enum import StrEnum

import pytest

from agent.lib.canonical_json import parsed, parsed_object, record
from agent.lib.records import asdict, dataclass


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True, slots=True)
class Part:
    numbers: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Whole:
    name: str
    colour: Colour = Colour.RED
    part: Part | None = None
    parts: tuple[Part, ...] = ()


def test_a_record_is_the_one_that_was_stored() -> None:
    whole = Whole("a", part=Part(((1, 2),)), parts=(Part(), Part(((3, 4),))))
    assert record(Whole, asdict(whole)) == whole
    listed = {"name": "a", "part": {"numbers": [[1, 2]]}, "parts": [{"numbers": []}, {"numbers": [[3, 4]]}]}
    found = record(Whole, listed)
    assert found == whole
    assert isinstance(found.colour, Colour)


def test_what_an_older_document_lacks_has_its_default() -> None:
    assert record(Whole, {"name": "a"}) == Whole("a")
    assert record(Whole, {"name": "a", "colour": "red"}, may_lack={"part", "parts"}) == Whole("a")
    with pytest.raises(KeyError, match="colour"):
        record(Whole, {"name": "a"}, may_lack={"part", "parts"})


COLOURS: tuple[object, ...] = ("blue", None, 1, ["red"])
PARTS: tuple[object, ...] = (None, "text", {}, [None], [[]], ["text"])
NUMBERS: tuple[object, ...] = (None, 1, [1], [[1]], [[1, 2, 3]], [[1, "2"]], [[True, 1]])


@pytest.mark.parametrize(
    "damaged",
    [
        *({}, {"name": "a", "size": 1}, {"name": "a", "part": "text"}, {"name": None}, {"name": 1}),
        *({"name": "a", "colour": of} for of in COLOURS),
        *({"name": "a", "parts": of} for of in PARTS),
        *({"name": "a", "part": {"numbers": of}} for of in NUMBERS),
    ],
)
def test_what_is_no_such_record_is_an_error(damaged: dict[str, object]) -> None:
    with pytest.raises((TypeError, ValueError, AttributeError)):
        record(Whole, damaged)


@pytest.mark.parametrize("text", [b'{"a": "\\ud800"}', b'{"\\uDBFFx": 1}', '{"a": "\ud800"}', b"[1]"])
def test_what_cannot_be_written_again_is_no_object(text: str | bytes) -> None:
    assert parsed_object(text) is None


@pytest.mark.parametrize("text", [b'{"a": "\\uDC80"}', b'{"a": "\xed\xa0\x80"}', b"\xff", '"\udc80"'])
def test_a_document_is_utf_8(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"surrogate|decode"):
        parsed(text)


def test_a_name_of_other_bytes_is_found_again() -> None:
    assert parsed_object('{"/srv/\udce9": "\\udce9"}') == {"/srv/\udce9": "\udce9"}
    assert parsed(rb'"\uD83D\ude00 \\ud800"') == "\U0001f600 \\ud800"
