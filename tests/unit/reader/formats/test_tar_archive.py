"""The tar reader: what it accepts, and which hostile archives it refuses."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.reader.common import archive_layout
from agent.reader.formats import tar_archive
from agent.reader.formats.tar_archive import Archive
from tests.media import make_archive

Add = Callable[[tarfile.TarFile], None]


def read(data: bytes, offset: int = 0) -> Archive:
    """Read the archive in ``data``, on a device that ends with it."""
    descriptor = os.memfd_create("medium")
    try:
        os.pwrite(descriptor, data, 0)
        return tar_archive.read(descriptor, offset)
    finally:
        os.close(descriptor)


def member(name: str, content: bytes = b"", **attributes: object) -> Add:
    def add(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        for attribute, value in attributes.items():
            setattr(info, attribute, value)
        tar.addfile(info, io.BytesIO(content))

    return add


def tar(*members: Add, kind: int = tarfile.GNU_FORMAT) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=kind) as file:
        for add in members:
            add(file)
    return target.getvalue()


GOOD = (member("gandi/config", b"{}"), member("gandi/script", b"#!/bin/sh\n"))


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("prefix", ["", "./"])
def test_members_and_extent(kind: int, prefix: str) -> None:
    data = tar(
        member(f"{prefix}gandi", type=tarfile.DIRTYPE),
        member(f"{prefix}gandi/init", b"ELF"),
        member(f"{prefix}gandi/config", b"{}" * 400, mtime=1.5),
        member(f"{prefix}gandi/6.12.0-amd64-modules.tar.bz2", b"BZh9"),
        kind=kind,
    )
    found = read(b"\xaa" * 1024 + data, 1024)
    assert found.is_complete
    assert found.is_recognised
    assert not found.problems
    assert set(found.members) == {"gandi/config", "gandi/6.12.0-amd64-modules.tar.bz2"}
    place = found.members["gandi/config"]
    assert (b"\xaa" * 1024 + data)[place.offset :][: place.size] == b"{}" * 400
    tail = (b"\xaa" * 1024 + data)[found.offset + found.length :]
    assert not any(tail), "everything behind the extent is padding"


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (member("gandi/script", type=tarfile.SYMTYPE, linkname="/etc/shadow"), "symbolic link"),
        (member("gandi/script", type=tarfile.LNKTYPE, linkname="../../etc/shadow"), "hard link"),
        (member("gandi/script", type=tarfile.CHRTYPE, devmajor=1, devminor=1), "device node"),
        (member("gandi/script", type=tarfile.BLKTYPE, devmajor=8), "device node"),
        (member("gandi/script", type=tarfile.FIFOTYPE), "FIFO"),
        (member("gandi/script", type=tarfile.DIRTYPE), "folder"),
        (member("gandi/script", b"x", type=b"Z"), "of an unknown type"),
    ],
)
def test_hostile_members_are_named_and_the_rest_is_taken(bad: Add, said: str) -> None:
    found = read(tar(bad, member("gandi/config", b"{}")))
    assert set(found.members) == {"gandi/config"}
    assert [problem.harmless for problem in found.problems] == [False]
    assert said in found.problems[0].message
    assert found.is_complete


def test_a_pax_record_that_states_a_length_of_thousands_of_digits() -> None:
    length = "000050000" + "0" * 5000
    content = f"{length} path=x\n".ljust(60_000, "y").encode()
    found = read(tar(member("pax", content, type=tarfile.XHDTYPE), member("gandi/config", b"{}")))
    assert not found.is_complete
    assert "pax" in found.problems[0].message


def test_a_sparse_member_of_ten_gigabytes() -> None:
    """In the old GNU format (a map and little data) and in pax."""
    block = bytearray(tar(member("gandi/script", b"x" * 512))[:512])
    block[156:157] = b"S"
    block[483:495] = b"\x80" + (10 << 30).to_bytes(11, "big")
    block[482] = 1
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    gnu = bytes(block) + bytes(512) + b"x" * 512
    pax = tar(
        member(
            "gandi/GNUSparseFile.0/x",
            b"x",
            pax_headers={"GNU.sparse.realsize": str(10 << 30), "GNU.sparse.name": "gandi/x"},
        ),
        kind=tarfile.PAX_FORMAT,
    )[:2048]
    for sparse in (gnu, pax):
        found = read(sparse + tar(*GOOD))
        assert set(found.members) == {"gandi/config", "gandi/script"}
        assert "sparse" in found.problems[0].message
        assert found.is_complete


def test_a_member_that_states_ten_gigabytes() -> None:
    data = bytearray(tar(member("gandi/script", b"x")))
    data[124:136] = b"\x80" + (10 << 30).to_bytes(11, "big")
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    found = read(tar(GOOD[0])[:1024] + bytes(data))
    assert set(found.members) == {"gandi/config"}
    assert [p.path for p in found.problems] == ["gandi/script", "the archive"]
    assert not found.is_complete


@pytest.mark.parametrize("cut", [513, 1024, 1030, 1536, 2048])
def test_cut_short(cut: int) -> None:
    found = read(tar(*GOOD)[:cut])
    assert not found.is_complete
    assert "cut short" in found.problems[-1].message
    assert "nothing is wiped" in found.problems[-1].hint


def test_a_damaged_header_is_not_taken_for_the_end() -> None:
    data = bytearray(tar(*GOOD))
    data[1024 + 5] ^= 1
    found = read(bytes(data))
    assert set(found.members) == {"gandi/config"}
    assert found.problems[-1].message == "damaged 1024 bytes after its beginning"
    assert not found.is_complete


def test_limits() -> None:
    many = tar(*(member(f"gandi/{n}") for n in range(tar_archive.MEMBERS + 5)))
    assert "more than" in read(many).foreign
    long = tar(member("gandi/" + "x" * (tar_archive._EXTENDED + 1), b""))
    assert "header record" in read(long).problems[0].message


def _volume(label: str) -> Add:
    return member(label, type=b"V")


#: Members of backups that are not the platform's, and their messages.
FOREIGN: dict[str, tuple[Add, str]] = {
    "another folder": (member("home/x", b"mine"), "home/x in it"),
    "a name that only begins so": (member("gandi.conf", b"x"), "gandi.conf in it"),
    "another folder that only begins so": (member("gandi-old/config", b"{}"), "gandi-old/config in it"),
    "a file in place of the folder": (member("gandi", b"x"), "gandi in it"),
    "a link in place of the folder": (member("gandi", type=tarfile.SYMTYPE, linkname="/etc"), "gandi in it"),
    "deeper": (member("srv/gandi/config", b"{}"), "srv/gandi/config in it"),
    "twice ./": (member("././gandi/config", b"{}"), "././gandi/config in it"),
    "an absolute name": (member("/gandi/config", b"{}"), "/gandi/config in it"),
    "leads out": (member("gandi/../etc/passwd", b"x"), "gandi/../etc/passwd in it"),
    "leads out at once": (member("../gandi/config", b"x"), "../gandi/config in it"),
    "another case": (member("Gandi/config", b"{}"), "Gandi/config in it"),
    "a folder": (member("etc", type=tarfile.DIRTYPE), "etc/ in it"),
    "a folder of old": (member("etc/", type=tarfile.AREGTYPE), "etc/ in it"),
    "a hard link": (member("home/x", type=tarfile.LNKTYPE, linkname="gandi/config"), "home/x in it"),
    "a volume's label": (_volume("backup of Monday"), "backup of Monday in it"),
    "a volume called gandi": (_volume("gandi"), "gandi in it"),
    "a long name": (member("home/" + "x" * 300, b"x"), f"home/{'x' * 75}… in it"),
    "no name": (member("", b"x"), "a member without a name in it"),
    "a name for terminals": (member("home/\x1b[2J\n\u202e", b"x"), "home/\\x1b[2J\\x0a\\u202e in it"),
}


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["GNU", "pax"])
@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("what", FOREIGN)
def test_one_foreign_member_makes_it_somebody_elses(what: str, place: int, kind: int) -> None:
    foreign, said = FOREIGN[what]
    members = list(GOOD)
    members.insert(place, foreign)
    assert read(tar(*members, kind=kind)).foreign == said


def test_a_foreign_member_behind_a_thousand_is_not_seen_and_not_needed() -> None:
    few = tar(*GOOD, *(member(f"gandi/{n}") for n in range(tar_archive.MEMBERS - 2)))
    assert not read(few).foreign
    for last in (member("home/x"), member("gandi/last")):
        more = tar(*GOOD, *(member(f"gandi/{n}") for n in range(tar_archive.MEMBERS - 2)), last)
        assert "more than" in read(more).foreign


def _ended(data: bytes, blocks: int = 2) -> bytes:
    """Return the archive with this number of zero blocks after its last member, and no padding."""
    content = data.rstrip(b"\0")
    return content + bytes(-len(content) % archive_layout.BLOCK + blocks * archive_layout.BLOCK)


@pytest.mark.parametrize("blocks", [1, 2, 0])
def test_an_archive_behind_the_end_mark_is_looked_at(blocks: int) -> None:
    """As cat joins two archives: the first padded to a record (0 means that), or with its end mark only."""
    first = _ended(tar(*GOOD), blocks) if blocks else tar(*GOOD)
    assert read(first + tar(member("home/x", b"mine"))).foreign == "home/x in it"
    more = first + tar(member("gandi/config", b"{}{}")) + tar(member("home/x", b"mine"))
    assert read(more).foreign == "home/x in it", "also behind the second"
    found = read(first + tar(member("gandi/config", b"not this one"), member("gandi/other", b"x")))
    assert (found.foreign, found.is_complete, found.problems) == ("", True, [])
    assert found.members["gandi/config"].size == 2
    assert found.length <= len(first) + archive_layout.BLOCK


@pytest.mark.parametrize("left", [b"\xff" * 4096, b"ustar" * 900, tar(member("home/x", b"y" * 900))[512:]])
def test_what_was_on_the_disk_before_is_no_archive_behind_it(left: bytes) -> None:
    found = read(tar(*GOOD) + left)
    assert (found.foreign, found.is_complete, found.problems) == ("", True, [])


def test_a_damaged_rest_of_an_older_archive_is_no_damage() -> None:
    older = tar(member("gandi/script", b"x" * 600), member("gandi/other", b"y" * 600))
    found = read(tar(*GOOD) + older[:2048] + b"\xff" * 4096)
    assert (found.foreign, found.is_complete, found.problems) == ("", True, [])


@pytest.mark.parametrize("record", ["path", "size", "GNU.sparse.name", "GNU.sparse.map"])
def test_a_global_header_that_names_members_is_damage(record: str) -> None:
    target = io.BytesIO()
    with tarfile.open(
        fileobj=target, mode="w", format=tarfile.PAX_FORMAT, pax_headers={record: "1"}
    ) as file:
        for add in GOOD:
            add(file)
    found = read(target.getvalue())
    assert not found.is_complete
    assert "renames or resizes" in found.problems[0].message


def test_a_global_header_that_only_comments_is_none() -> None:
    target = io.BytesIO()
    headers = {"comment": "0123abc"}
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT, pax_headers=headers) as file:
        for add in GOOD:
            add(file)
    found = read(target.getvalue())
    assert (found.foreign, found.is_complete, set(found.members)) == (
        "",
        True,
        {"gandi/config", "gandi/script"},
    )


def test_only_the_mark_itself_is_the_mark() -> None:
    for length in (0, (2 << 30) - 512):
        assert tar_archive.marked(archive_layout.mark(length)) == length
    for kind in (tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT):
        assert tar_archive.marked(tar(member(archive_layout.WIPED, b"x" * 600), kind=kind)[:512]) is None
    assert tar_archive.marked(tar(member("gandi/config"))[:512]) is None
    assert tar_archive.marked(bytes(512)) is None


def test_the_first_of_two_counts() -> None:
    found = read(tar(member("gandi/config", b"first"), member("./gandi/config", b"second!")))
    assert found.members["gandi/config"].size == 5
    assert "twice" in found.problems[0].message


def test_an_unknown_member_is_named_safely_and_harmless() -> None:
    found = read(tar(member("gandi/\x1b[2J\nroot: all fine", b"x"), *GOOD))
    assert found.problems[0].harmless
    assert "\n" not in found.problems[0].path
    assert "\x1b" not in found.problems[0].path
    assert set(found.members) == {"gandi/config", "gandi/script"}


@pytest.mark.parametrize("garbage", [b"", b"\0" * 4096, b"ustar" * 200, os.urandom(2048), b"\xff" * 1024])
def test_what_is_no_archive(garbage: bytes) -> None:
    assert tar_archive.header(garbage[:512]) is None
    assert not read(garbage).is_recognised
    assert not read(garbage).members


def test_the_mark_is_a_header_that_covers_the_rest() -> None:
    head = tar_archive.header(archive_layout.mark(123_456))
    assert head == tar_archive.Header(archive_layout.WIPED, 123_456, b"0")
    with tarfile.open(fileobj=io.BytesIO(archive_layout.mark(0) + bytes(1024))) as file:
        assert file.getnames() == [archive_layout.WIPED], "a ustar header for everybody else as well"


@given(st.lists(st.tuples(st.integers(0, 2559), st.integers(0, 255)), max_size=6), st.integers(0, 4096))
def test_any_damage_ends(changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(make_archive({"vm_hostname": "a"}, b"#!/bin/sh\n"))
    for place, value in changes:
        data[place] = value
    found = read(bytes(data[:cut]))
    assert all(m.size <= 64 << 20 for m in found.members.values())
    assert found.length <= cut + archive_layout.BLOCK + (1 << 40)


def test_reads_from_a_real_file(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(bytes(512 << 10) + make_archive({"a": 1}))
    with path.open("rb") as file:
        found = tar_archive.read(file.fileno(), 512 << 10)
        assert found.members["gandi/config"].read(file.fileno()) == b'{"a": 1}'
