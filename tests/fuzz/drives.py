"""What a platform delivers: drives of each dialect, archives, packed data, and the answer of the reader."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from functools import partial

import pytest

from agent.accounts import passwd
from agent.lib.errors import HostError
from agent.reader import client
from agent.reader.common import archive_layout
from agent.reader.common.result import Reading, encoded, problem_rows
from agent.reader.dialects import cloudstack, gandi, native, nocloud, openstack
from agent.reader.formats import gzip_data, tar_archive, user_data, yaml_events
from tests import corpus, media
from tests.fuzz.target import Target
from tests.unit.network.readback import disagreements
from tests.unit.reader import drives
from tests.unit.reader.dialects.test_gandi import DOCUMENT
from tests.unit.reader.held import Parse, hold

PARSERS: dict[str, Parse] = {
    "cloudstack": cloudstack.parse_files,
    "gandi": gandi.parse_files,
    "native": native.parse_files,
    "nocloud": nocloud.parse_files,
    "openstack": openstack.parse_files,
}
BLOCK = archive_layout.BLOCK
_META = {"meta-data": corpus.META_DATA}
_FOLDER = "openstack/latest"
_INTERFACES = {"uuid": "i-1", "network_config": {"name": "network_config", "content_path": "/content/0000"}}
#: Separates the names and the contents of a whole drive's files in one input.
_NEXT = b"\n\0"
YAML = (b"- ", b": ", b"&a ", b"*a", b"<<: *a", b"!!binary ", b"|\n", b"---\n", b"#cloud-config\n", b"\t")
NETWORK = (b"10.0.0.1/24", b"fe80::1", b"::/0", b"0.0.0.0/0", b"bond0", b"eth0", b"vlan", b"dhcp4: true")


def parsed(dialect: str, files: Mapping[str, bytes]) -> Reading:
    """Return a reading of a drive that holds, and reaches the daemon as it is."""
    yaml_events.load()
    user_data.load()
    reading = hold(PARSERS[dialect], files)
    answer = json.dumps(encoded(reading) | {"problems": problem_rows(reading.problems)}).encode()
    received = client._parsed(json.loads(answer))
    assert received.config == reading.config
    assert received.secrets == reading.secrets
    assert received.files == reading.files
    for user in reading.config.users if reading.config else ():
        assert all(passwd.fingerprint(key) for key in user.keys)
    return reading


def _document(dialect: str, place: str, others: Mapping[str, bytes], data: bytes) -> None:
    parsed(dialect, {**others, place: data})


def _network(dialect: str, place: str, others: Mapping[str, bytes], data: bytes) -> None:
    """Each renderer's files for the NICs have what the model has, by readers of their own."""
    config = parsed(dialect, {**others, place: data}).config
    if config is not None and config.nics and len(config.nics) < 20:
        assert disagreements(config.nics) == []


def _whole(dialect: str, data: bytes) -> None:
    names, _, contents = data.partition(_NEXT)
    pairs = zip(names.split(b"\n"), contents.split(_NEXT), strict=False)
    parsed(dialect, {name.decode("utf-8", "replace"): content for name, content in pairs if name})


def _joined(files: Mapping[str, bytes]) -> bytes:
    return b"\n".join(name.encode() for name in files) + _NEXT + _NEXT.join(files.values())


def of_corpus(*groups: str) -> Iterator[bytes]:
    for one in corpus.documents():
        if one.place and one.group.startswith(groups):
            yield one.files[one.place]


def _drives(dialect: str) -> Iterator[bytes]:
    made = {"cloudstack": drives.cloudstack(), "nocloud": drives.nocloud(), "openstack": drives.openstack()}
    yield _joined(made[dialect])
    yield from (_joined(one.files) for one in corpus.documents() if not one.place and one.dialect == dialect)


def _json(document: object) -> bytes:
    return json.dumps(document).encode()


# -- formats --------------------------------------------------------------------------------------


def _archive(data: bytes) -> None:
    """A member that the agent uses is what Python's tarfile takes it for. The last byte decides whether
    checksums are made right first, which no mutation does.
    """
    if data and data[-1] % 2:
        data = _with_checksums(data)
    with os.fdopen(os.memfd_create("archive"), "r+b") as file:
        file.write(data)
        file.flush()
        found = tar_archive.read(file.fileno(), 0)
        for member in found.members.values():
            assert member.name.startswith("gandi/")
        assert all((p.path + p.message + p.hint).isprintable() for p in found.problems)
        assert found.foreign.isprintable()
        if not found.is_complete or found.foreign:
            return
        assert BLOCK <= found.length <= len(data) + BLOCK
        contents = {member.offset: member.read(file.fileno()) for member in found.members.values()}
    theirs = _by_tarfile(data)
    assert all(theirs.get(place, content) == content for place, content in contents.items())


def _with_checksums(data: bytes) -> bytes:
    made = bytearray(data)
    for place in range(0, len(made) - BLOCK + 1, BLOCK):
        block = made[place : place + BLOCK]
        if archive_layout.has_magic(bytes(block)):
            block[148:156] = b" " * 8
            made[place + 148 : place + 156] = b"%06o\0 " % sum(block)
    return bytes(made)


def _by_tarfile(data: bytes) -> dict[int, bytes]:
    """Return the contents of regular files by their places. It stops at a header with a damaged number that
    the agent does not use, and takes GNU's header for one with a prefix of the name.
    """
    there = dict[int, bytes]()
    with contextlib.suppress(tarfile.TarError), tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isreg() else None
            if file is not None:
                there.setdefault(member.offset_data, file.read())
    return there


def _archives() -> Iterator[bytes]:
    yield media.make_archive(DOCUMENT, b"#!/bin/sh\necho ok\n", {"6.12.0-modules.tar.gz": b"x" * 600})
    yield media.make_archive(drives.NATIVE)
    member = media.member("gandi/config", b"{}")
    for end in (b"\0", b"\1"):
        yield member + media.member("gandi/script", b"#!/bin/sh\n") + bytes(2 * BLOCK) + end
    pax = tarfile.TarInfo("gandi/config")
    pax.size, pax.pax_headers = 2, {"path": "gandi/script", "comment": "x"}
    yield pax.tobuf(tarfile.PAX_FORMAT) + b"{}".ljust(BLOCK, b"\0") + bytes(2 * BLOCK)
    long = tarfile.TarInfo("gandi/" + "a" * 120)
    yield long.tobuf(tarfile.GNU_FORMAT) + member + bytes(20 * BLOCK)


def _gunzip(data: bytes) -> None:
    limit = 1 << 20
    mine = gzip_data.gunzip(data, limit)
    assert len(mine) <= limit
    try:
        assert mine == gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        return  # the module does not take what is behind the last member


def _answer(data: bytes) -> None:
    """The daemon takes no answer of its reader for valid that is not."""
    with open(os.devnull, "rb") as medium, pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "_run_reader", lambda *_: (0, data))
        found = client._read("gandi", "disk", medium.fileno())
    assert all((p.path + p.message + p.hint).isprintable() for p in found.problems)
    assert found.foreign.isprintable()


def _answers() -> Iterator[bytes]:
    for dialect, files in (("native", drives.native()), ("gandi", {"gandi/config": _json(DOCUMENT)})):
        reading = PARSERS[dialect](files)
        yield _json(
            encoded(reading)
            | {"problems": [["vif[0]", "wrong", "mend it", "error"]], "extent": [0, 512], "before": 0}
        )
    yield _json({"defect": "x"})


def _in_place(
    name: str,
    dialect: str,
    place: str,
    seeds: Iterable[str] | bytes,
    others: Mapping[str, bytes] = _META,
    *,
    tokens: tuple[bytes, ...] = (),
    network: bool = False,
    is_json: bool = False,
) -> Target:
    run = partial(_network if network else _document, dialect, place, others)
    given = (lambda: [seeds]) if isinstance(seeds, bytes) else (lambda: of_corpus(*seeds))
    return Target(name, run, given, tokens=tokens, largest=8192, is_json=is_json)


TARGETS = (
    _in_place("nocloud-meta-data", "nocloud", "meta-data", drives.nocloud()["meta-data"], {}, tokens=YAML),
    _in_place("nocloud-user-data", "nocloud", "user-data", ("userdata/",), tokens=YAML),
    _in_place(
        "nocloud-network",
        "nocloud",
        "network-config",
        ("network/netplan", "network/v1"),
        tokens=YAML + NETWORK,
        network=True,
    ),
    _in_place(
        "openstack-meta-data",
        "openstack",
        f"{_FOLDER}/meta_data.json",
        drives.openstack()[f"{_FOLDER}/meta_data.json"],
        {},
        is_json=True,
    ),
    _in_place(
        "openstack-network",
        "openstack",
        f"{_FOLDER}/network_data.json",
        ("network/network_data",),
        {f"{_FOLDER}/meta_data.json": _json({"uuid": "i-1"})},
        tokens=NETWORK,
        network=True,
        is_json=True,
    ),
    _in_place(
        "interfaces",
        "openstack",
        "openstack/content/0000",
        ("network/interfaces",),
        {f"{_FOLDER}/meta_data.json": _json(_INTERFACES)},
        tokens=(b"iface ", b"auto ", b"inet6 ", b"static\n", b"dhcp\n", b"up ip route add ", *NETWORK),
        network=True,
    ),
    _in_place(
        "native-document", "native", "gandi.json", _json(drives.NATIVE), {}, network=True, is_json=True
    ),
    _in_place("gandi-document", "gandi", "gandi/config", _json(DOCUMENT), {}, network=True, is_json=True),
    *(
        Target(f"{dialect}-drive", partial(_whole, dialect), partial(_drives, dialect), largest=8192)
        for dialect in ("cloudstack", "nocloud", "openstack")
    ),
    Target("archive", _archive, _archives, (), (b"ustar\0", b"ustar  \0", b"gandi/", b"PaxHeader"), 8192),
    Target("gzip", _gunzip, lambda: [gzip.compress(b"text " * 20, mtime=0)], (ValueError,)),
    Target(
        "reader-answer",
        _answer,
        _answers,
        (HostError,),
        (b"Infinity", b"null", b"[[[[", b'"extent"'),
        8192,
        is_json=True,
    ),
)
