"""The two places of a swap disk, as the reader finds them in one process: which counts, and what it says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from agent.lib.errors import HostError
from agent.reader import client
from agent.reader.client import Parsed
from agent.reader.common.archive_layout import BLOCK, OFFSETS, mark
from tests.media import make_archive, member
from tests.unit.reader import drives
from tests.unit.reader.dialects.test_gandi import DOCUMENT

if TYPE_CHECKING:
    from pathlib import Path

LATE, EARLY = OFFSETS
LATE_ARCHIVE = make_archive(DOCUMENT | {"vm_hostname": "late"})
EARLY_ARCHIVE = make_archive(DOCUMENT | {"vm_hostname": "early"})


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What each reader was started with."""
    words, start = list[list[str]](), client._start

    def count(given: list[str], descriptor: int, writing: int) -> int:
        words.append(given)
        return start(given, descriptor, writing)

    monkeypatch.setattr(client, "_start", count)
    return words


def read(tmp_path: Path, places: dict[int, bytes], *, known: str = "") -> Parsed:
    disk = tmp_path / "disk"
    with disk.open("wb") as image:
        for offset, content in places.items():
            image.seek(offset)
            image.write(content)
        image.truncate(2 << 20)
    with disk.open("rb") as image:
        return client.parse_disk(image.fileno(), known_digest=known)


def _hostname(parsed: Parsed) -> str | None:
    assert parsed.config is not None
    return parsed.config.hostname


def test_the_later_place_counts_and_the_end_of_the_earlier_is_given(tmp_path: Path) -> None:
    parsed = read(tmp_path, {EARLY: EARLY_ARCHIVE, LATE: LATE_ARCHIVE})
    assert (_hostname(parsed), parsed.extent[0]) == ("late", LATE)
    assert parsed.previous_end == read(tmp_path, {EARLY: EARLY_ARCHIVE}).extent[1]


def test_an_archive_within_another_is_a_part_of_it(tmp_path: Path) -> None:
    filled = member("gandi/6.1-modules.tar.gz", b"m" * (700 << 10)) + EARLY_ARCHIVE
    parsed = read(tmp_path, {EARLY: filled, LATE: LATE_ARCHIVE})
    assert (_hostname(parsed), parsed.extent[0], parsed.previous_end) == ("early", EARLY, 0)


def test_where_the_end_of_the_earlier_is_unknown_the_later_is_not_read(tmp_path: Path) -> None:
    cut = EARLY_ARCHIVE[: 3 * BLOCK] + b"\xff" * BLOCK
    parsed = read(tmp_path, {EARLY: cut, LATE: LATE_ARCHIVE})
    assert (parsed.extent[0], parsed.is_complete, parsed.is_recognised) == (EARLY, False, True)


@pytest.mark.parametrize("offset", OFFSETS)
def test_the_mark_says_how_far_it_reaches(tmp_path: Path, offset: int) -> None:
    parsed = read(tmp_path, {offset: mark(4096)})
    assert (parsed.is_being_overwritten, parsed.is_recognised, parsed.extent) == (
        True,
        False,
        (offset, BLOCK + 4096),
    )


def test_an_archive_of_others_is_named(tmp_path: Path) -> None:
    parsed = read(tmp_path, {EARLY: EARLY_ARCHIVE, LATE: member("etc/passwd", b"x") + bytes(1024)})
    assert (parsed.foreign, parsed.is_recognised) == ("etc/passwd in it", False)


@pytest.mark.parametrize("fill", [b"\0", b"\xff", b"7"])
def test_the_magic_alone_is_no_archive(tmp_path: Path, fill: bytes) -> None:
    parsed = read(tmp_path, {LATE: fill * 257 + b"ustar\x0000" + fill * 247})
    assert (parsed.is_recognised, parsed.foreign, parsed.config, parsed.problems) == (False, "", None, ())


@pytest.mark.parametrize(
    ("document", "source", "readers"),
    [(DOCUMENT, "gandi", ["gandi"]), (drives.NATIVE, "native", ["gandi", "native"])],
)
def test_one_process_decides_the_place_and_the_dialect(
    tmp_path: Path, started: list[list[str]], document: dict[str, object], source: str, readers: list[str]
) -> None:
    """A native document, which is rare in an archive, is read again by a process that has its dialect."""
    parsed = read(tmp_path, {EARLY: EARLY_ARCHIVE, LATE: make_archive(document)})
    assert parsed.config is not None
    assert parsed.config.identity.source == source
    assert [words[0] for words in started] == readers


def test_an_answer_of_another_dialect_again_is_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader met hostile bytes: whatever it answers, it is asked at most twice."""
    asked = list[str]()

    def answered(words: list[str], _descriptor: int) -> tuple[int, bytes]:
        asked.append(words[0])
        return 0, b'{"dialect": "native"}'

    monkeypatch.setattr(client, "_run_reader", answered)
    with pytest.raises(HostError, match="answer is not valid"):
        read(tmp_path, {LATE: LATE_ARCHIVE})
    assert asked == ["gandi", "native"]


def test_a_known_delivery_at_either_place(tmp_path: Path, started: list[list[str]]) -> None:
    both = {EARLY: EARLY_ARCHIVE, LATE: LATE_ARCHIVE}
    first = read(tmp_path, both)
    assert read(tmp_path, both, known=first.digest).is_unchanged
    assert not read(tmp_path, {EARLY: EARLY_ARCHIVE}, known=first.digest).is_unchanged
    assert [words[2:] for words in started[1:]] == [[first.digest]] * 2


def test_a_disk_that_cannot_be_read(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "disk", os.O_WRONLY | os.O_CREAT)
    try:
        with pytest.raises(HostError, match="the disk cannot be read: Bad file descriptor"):
            client.parse_disk(descriptor)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    "place", [{"extent": [4096, 512]}, {"before": -1}, {"extent": [LATE, 512], "before": LATE + 1}]
)
def test_a_place_where_no_archive_can_be_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: dict[str, object]
) -> None:
    """What overwrites the disk later goes by the reader's answer."""
    program = tmp_path / "reader.py"
    program.write_text(f"import json\nprint(json.dumps({{'problems': []}} | {place!r}))")
    monkeypatch.setattr(client, "_READER", str(program))
    monkeypatch.setattr(client, "_start", client._spawn)
    with pytest.raises(HostError, match="is not valid"):
        read(tmp_path, {LATE: LATE_ARCHIVE})
