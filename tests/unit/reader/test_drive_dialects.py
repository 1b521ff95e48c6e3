"""The reader of drives as a process: its answer for a drive's files, and its limits."""

from __future__ import annotations

import gzip
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.lib.errors import HostError
from agent.reader import client, json_schema
from agent.reader.client import Parsed, parse_files
from tests.media import OFFSET, make_archive, swap_image
from tests.unit.effort import within
from tests.unit.reader import drives
from tests.unit.reader.dialects.test_gandi import DOCUMENT, key
from tests.unit.reader.test_client import READER

DRIVES: dict[str, dict[str, bytes]] = {
    "cloudstack": drives.cloudstack(),
    "openstack": drives.openstack(),
    "nocloud": drives.nocloud(),
    "native": drives.native(),
    "gandi": {"gandi/config": json.dumps(DOCUMENT).encode(), "gandi/script": b"#!/bin/sh\n"},
}
#: Most CPU time for a drive, from start to end: how many times that of a fixed piece of work.
LONGEST = 30


@pytest.mark.parametrize("dialect", DRIVES)
def test_each_dialect(dialect: str) -> None:
    parsed = parse_files(dialect, DRIVES[dialect])
    assert parsed.config is not None
    assert parsed.config.identity.source == dialect
    assert parsed.config.hostname
    assert parsed.config.scripts
    assert {script.name for script in parsed.config.scripts} <= set(parsed.files)
    assert all(problem.harmless for problem in parsed.problems), parsed.problems
    assert (parsed.is_recognised, parsed.is_complete, parsed.is_unchanged) == (True, True, False)


def test_secrets_are_no_part_of_the_configuration() -> None:
    parsed = parse_files("cloudstack", drives.cloudstack())
    assert parsed.secrets == {"": "n3wPass"}
    assert "n3wPass" not in f"{parsed.config}{parsed.problems}"
    assert b"n3wPass" not in b"".join(parsed.files.values())


def _imported(dialect: str, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return the modules that the reader of such a drive imports."""
    ran: list[list[str]] = []

    def read(words: list[str], descriptor: int) -> tuple[int, bytes]:
        timed = [sys.executable, "-X", "importtime", "-I", "-S", client._READER, *words]
        with os.fdopen(os.dup(descriptor), "rb") as medium:
            done = subprocess.run(timed, stdin=medium, capture_output=True, check=True, text=True)
        ran.append([line.rpartition("|")[2].strip() for line in done.stderr.splitlines()])
        return 0, done.stdout.encode()

    monkeypatch.setattr(client, "_run_reader", read)
    parse_files(dialect, files)
    return {*ran[-1]}


def test_what_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library costs CPU in each guest: only the drives that need it import it."""
    without = {name: text for name, text in drives.openstack().items() if "user_data" not in name}
    assert "yaml" not in _imported("openstack", without, monkeypatch)
    script = drives.openstack() | {"openstack/latest/user_data": b"#!/bin/sh\n"}
    assert "yaml" not in _imported("openstack", script, monkeypatch)
    assert "yaml" in _imported("openstack", drives.openstack(), monkeypatch)
    assert "yaml" in _imported("nocloud", drives.nocloud(), monkeypatch)
    assert not {"yaml", "email.parser"} & _imported("native", drives.native(), monkeypatch)


def test_a_swap_archive_with_a_native_document(tmp_path: Any) -> None:
    image = tmp_path / "disk.img"
    archive = make_archive(drives.NATIVE, b"#!/bin/sh\necho\n")
    swap_image(image, 8 << 20, OFFSET, archive=archive)
    with image.open("rb") as medium:
        parsed = client.parse_disk(medium.fileno())
        assert client.parse_disk(medium.fileno(), known_digest=parsed.digest).is_unchanged
    assert parsed.config is not None
    assert (parsed.config.identity.source, parsed.config.identity.id) == ("native", "vm-1")
    assert [script.name for script in parsed.config.scripts] == ["script", "hello"]
    assert parsed.secrets == {"carol": "s3cr3t"}
    assert parsed.extent[0] == OFFSET
    (problem,) = parsed.problems
    assert problem.harmless
    assert parsed.raw is None, "it holds a password in plain text"
    assert b"s3cr3t" not in b"".join(parsed.files.values())


def test_a_folder_with_a_native_document() -> None:
    files = {"gandi/config": json.dumps(drives.NATIVE).encode()}
    parsed = parse_files("gandi", files)
    assert parsed.config is not None
    assert parsed.config.identity.source == "native"


def test_no_such_dialect() -> None:
    with pytest.raises(HostError, match="exit status 1"):
        parse_files("gopher", {})


def _many(count: int, make: Callable[[int], Any]) -> list[Any]:
    return [make(number) for number in range(count)]


def _openstack(**data: Any) -> dict[str, bytes]:
    return drives.openstack() | {"openstack/latest/network_data.json": json.dumps(data).encode()}


def _nocloud(text: str) -> dict[str, bytes]:
    return drives.nocloud() | {"network-config": text.encode()}


def _user_data(raw: bytes) -> dict[str, bytes]:
    return drives.openstack() | {"openstack/latest/user_data": raw}


CHAIN = _many(200, lambda n: {"id": f"v{n}", "type": "vlan", "vlan_id": 1, "vlan_link": f"v{n + 1}"})


#: Functions, since some of the drives are large.
def _layers(content: bytes, count: int) -> bytes:
    for _ in range(count):
        content = gzip.compress(content, mtime=0)
    return content


LARGE: dict[str, tuple[str, Callable[[], dict[str, bytes]]]] = {
    "links": ("openstack", lambda: _openstack(links=_many(20_000, lambda n: {"id": f"l{n}"}))),
    "a chain of VLANs": ("openstack", lambda: _openstack(links=[*CHAIN, {"id": "v200"}])),
    "a chain of VLANs that ends nowhere": ("openstack", lambda: _openstack(links=CHAIN)),
    "a ring of VLANs": (
        "openstack",
        lambda: _openstack(links=[*CHAIN[:-1], {**CHAIN[-1], "vlan_link": "v0"}]),
    ),
    "a bond of thousands": (
        "openstack",
        lambda: _openstack(
            links=[{"id": "b", "type": "bond", "bond_links": _many(90_000, lambda n: f"x{n}")}]
        ),
    ),
    "addresses and routes": (
        "native",
        lambda: drives.native(
            nics=[
                {
                    "addresses": _many(
                        20_000, lambda n: f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}/{n % 24 + 8}"
                    ),
                    "routes": _many(
                        10_000, lambda n: {"to": f"172.16.{n >> 8}.{n & 255}", "via": "192.0.2.1"}
                    ),
                }
            ]
        ),
    ),
    "networks of one link": (
        "openstack",
        lambda: _openstack(
            links=[{"id": "l"}],
            networks=_many(
                9000,
                lambda n: {
                    "link": "l",
                    "type": "ipv4",
                    "ip_address": f"10.0.{n >> 8}.{n & 255}",
                    "netmask": "24",
                },
            ),
        ),
    ),
    "wrong items": ("openstack", lambda: _openstack(links=_many(60_000, lambda n: n))),
    "a wrong item in each": (
        "native",
        lambda: drives.native(
            users=_many(20_000, lambda n: {"name": "A", "keys": [n]}), nics=_many(9000, lambda n: {"x": n})
        ),
    ),
    "unknown keys": ("native", lambda: drives.native(**{f"k{n}": n for n in range(30_000)})),
    "keys of users": (
        "native",
        lambda: drives.native(users=[{"name": "a", "keys": _many(5000, lambda n: key(f"{n}"))}]),
    ),
    "accounts": ("native", lambda: drives.native(users=_many(20_000, lambda n: {"name": f"u{n}"}))),
    "files": ("native", lambda: drives.native(files=_many(20_000, lambda n: {"path": f"/x/{n}"}))),
    "programs of one name": (
        "native",
        lambda: drives.native(scripts=_many(20_000, lambda n: {"content": ""})),
    ),
    "a native document of 60 MiB": ("native", lambda: drives.native(hostname="x" * (60 << 20))),
    "a native document of brackets": (
        "native",
        lambda: {"gandi.json": b'{"a": [' + b"[]," * (15 << 20) + b"1]}"},
    ),
    "metadata": ("openstack", lambda: drives.openstack(meta={f"k{n}": "v" * 9 for n in range(30_000)})),
    "public keys": (
        "openstack",
        lambda: drives.openstack(public_keys={f"k{n}": key(f"{n}") for n in range(7000)}),
    ),
    "lines of no keys": ("cloudstack", lambda: drives.cloudstack(public_keys=b"x\n" * 120_000)),
    "a long line of no key": ("cloudstack", lambda: drives.cloudstack(public_keys=b'"' * 250_000)),
    "a long password": (
        "cloudstack",
        lambda: drives.cloudstack() | {"cloudstack/password/vm_password.txt": b"x" * 250_000},
    ),
    "YAML, quite long": (
        "nocloud",
        lambda: _nocloud("version: 2\nethernets:\n" + "".join(f" e{n}: {{}}\n" for n in range(16_000))),
    ),
    "YAML, deep": ("nocloud", lambda: _nocloud("[" * 1_000_000)),
    "YAML, version 1": (
        "nocloud",
        lambda: _nocloud(
            "version: 1\nconfig:\n" + "- {type: route, destination: 10.0.0.0/8, gateway: 10.0.0.1}\n" * 6000
        ),
    ),
    "YAML, a bomb": (
        "nocloud",
        lambda: _nocloud(
            "a: &a [x, x]\n"
            + "".join(f"b{n}: &b{n} [*{'a' if not n else f'b{n - 1}'}, *a]\n" for n in range(60))
        ),
    ),
    "commands": ("openstack", lambda: _user_data(b"#cloud-config\nruncmd:\n" + b"- [a, b]\n" * 9000)),
    "unknown keys of cloud-config": (
        "openstack",
        lambda: _user_data(b"#cloud-config\n" + b"".join(b"k%d: 1\n" % n for n in range(15_000))),
    ),
    "gzip, a bomb": ("openstack", lambda: _user_data(gzip.compress(bytes(200 << 20)))),
    "gzip in many members": ("openstack", lambda: _user_data(gzip.compress(b"") * 100_000)),
    "a script of 4 MiB": ("openstack", lambda: _user_data(b"#!" + b"x" * (4 << 20))),
    "MIME, parts": (
        "openstack",
        lambda: _user_data(
            b"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\n#!\n" * 100_000
        ),
    ),
    "MIME, headers": ("openstack", lambda: _user_data(b"MIME-Version: 1.0\n" + b"a: b\n" * 200_000)),
    "MIME, one header": (
        "openstack",
        lambda: _user_data(b"MIME-Version: 1.0\nContent-Type: a" + b";a=b" * 250_000),
    ),
    "MIME, a folded header": (
        "openstack",
        lambda: _user_data(b"Content-Type: multipart/mixed;\n" + b" a*0*=b;\n" * 100_000),
    ),
    "MIME, a header of many parameters": (
        "openstack",
        lambda: _user_data(b"Content-Type: multipart/mixed;\n" + b" a=b;\n" * 140_000),
    ),
    "MIME, a part's header": (
        "openstack",
        lambda: _user_data(
            b"Content-Type: multipart/mixed; boundary=b\n\n--b\r"
            + b"Content-Type: multipart/mixed"
            + b";a=b" * 250_000
        ),
    ),
    "nearly base64": ("openstack", lambda: _user_data(b"A" * (1 << 20) + b"\n" * (2 << 20) + b"!")),
    "a template of braces": (
        "openstack",
        lambda: _user_data(b"## template: jinja\n#!/bin/sh\n" + b"{{ v1.instance_id }}" * 200_000),
    ),
    "a template without an end": (
        "openstack",
        lambda: _user_data(b"## template: jinja\n" + b"{{" * (2 << 20)),
    ),
    "layers": ("openstack", lambda: _user_data(_layers(b"#!" + b"x" * (3 << 20), 6))),
    "joined": (
        "cloudstack",
        lambda: (
            drives.cloudstack()
            | {
                "cloudstack/userdata/user_data.txt": b"#cloud-config\n"
                + b"a:\n" * 300_000
                + b"\n\n"
                + b"a:\n" * 9
            }
        ),
    ),
    "cloud-configs": (
        "openstack",
        lambda: _user_data((b"#cloud-config\n" + b"users: [{name: a}]\n" * 20 + b"\n") * 3000),
    ),
    "nothing but a name": ("openstack", lambda: {"x" * 4000: b""}),
    "two thousand files": ("cloudstack", lambda: {f"{n}/" + "x" * 200: b"" for n in range(2000)}),
    "64 MiB": (
        "openstack",
        lambda: drives.openstack() | {f"openstack/content/{n:04}": bytes(16 << 20) for n in range(4)},
    ),
}


def _childrens_time() -> float:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime


@pytest.mark.parametrize("name", LARGE)
def test_a_large_drive_ends_in_time_and_memory(name: str) -> None:
    """The reader has 200 MiB of address space; a drive that needs more ends in a problem."""
    dialect, make = LARGE[name]
    files = make()
    parsed = within(LONGEST, lambda: parse_files(dialect, files), _childrens_time)
    assert parsed.config is not None or parsed.problems
    assert len(parsed.problems) <= 60


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(sorted(DRIVES)), st.data())
def test_any_bytes_end_in_an_answer(dialect: str, data: st.DataObject) -> None:
    """Also when nothing can be imported any more: a codec, a locale, the module of an exception."""
    files = dict(DRIVES[dialect])
    victim = data.draw(st.sampled_from(sorted(files)))
    content = bytearray(files[victim])
    place = data.draw(st.integers(0, len(content)))
    content[place : place + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=20))
    parsed = parse_files(dialect, files | {victim: bytes(content)})
    assert isinstance(parsed, Parsed)


@pytest.mark.parametrize(
    "raw",
    [
        b"Content-Type: text/x; charset=koi8-r\nContent-Transfer-Encoding: quoted-printable\n\n=FF\n",
        b"Content-Type: text/x; charset=utf-7\nContent-Transfer-Encoding: base64\n\n////\n",
        b"Content-Type: =?koi8-r?b?////?=\nContent-Transfer-Encoding: x-uuencode\n\nbegin 1 x\n",
        b"Content-Type: text/x; name*=koi8-r''%FF\n\n\xff\xfe#!\n",
        b"#cloud-config\nhostname: \xe2\x80\xa8\nusers: [{name: \xc3\xa9}]\ntimezone: \xf0\x9f\x98\x80\n",
    ],
)
def test_nothing_has_to_be_imported_late(raw: bytes) -> None:
    assert parse_files("openstack", _user_data(raw)).config is not None


def test_every_wrong_item_can_be_told_where_nothing_can_be_imported() -> None:
    wrong = drives.native(
        nics=[{"kind": "x", "mac": 1, "bond": 3, "mtu": "a", "adresses": []}],
        users=[{"name": "-", "keys": ["x"]}],
        metadata={"a": []},
        nope=1,
    )
    told = {problem.path for problem in parse_files("native", wrong).problems}
    assert {"nics[0].kind", "nics[0].mac", "nics[0].bond", "nics[0].mtu", "nics[].adresses", "nope"} <= told


def test_a_reader_of_a_drive_leaves_no_descriptor_behind() -> None:
    before = len(os.listdir("/proc/self/fd"))
    began = time.monotonic()
    parse_files("native", drives.native())
    assert len(os.listdir("/proc/self/fd")) == before
    assert time.monotonic() - began < client.TIMEOUT


def test_the_schema_is_made_without_a_reader() -> None:
    assert json.loads(json.dumps(json_schema.of_native()))["title"]
    assert READER.exists()
