"""No input makes a dialect of a drive raise or take long; all messages are printable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.reader.common.problem import MAX_PROBLEMS
from agent.reader.common.result import Reading
from agent.reader.dialects import cloudstack, gandi, nocloud, openstack
from agent.reader.dialects import native as native_dialect
from agent.reader.formats import yaml_events
from tests.unit.effort import within
from tests.unit.reader import drives
from tests.unit.reader.dialects.test_gandi import DOCUMENT
from tests.unit.reader.formats.test_interfaces_text import WHOLE
from tests.unit.reader.held import Parse, hold

DIALECTS: dict[str, tuple[Parse, dict[str, bytes]]] = {
    "cloudstack": (cloudstack.parse_files, drives.cloudstack()),
    "openstack": (openstack.parse_files, drives.openstack()),
    "nocloud": (nocloud.parse_files, drives.nocloud()),
    "nocloud, version 1": (nocloud.parse_files, drives.nocloud(drives.VERSION_1)),
    "interfaces(5)": (
        nocloud.parse_files,
        {"meta-data": json.dumps({"instance-id": "i", "network-interfaces": WHOLE}).encode()},
    ),
    "native": (native_dialect.parse_files, drives.native()),
    "gandi": (gandi.parse_files, {"gandi/config": json.dumps(DOCUMENT).encode()}),
}
#: The time limit of each example.
bounded = settings(deadline=timedelta(seconds=2), suppress_health_check=[HealthCheck.too_slow])
BYTES = st.binary(max_size=40) | st.sampled_from(
    [
        *(
            b"",
            b"[",
            b"]",
            b"{",
            b"}",
            b": ",
            b"- ",
            b"&a ",
            b"*a",
            b"<<: *a\n",
            b"!!binary ",
            b"!!python/x ",
        ),
        *(
            b"\x1f\x8b\x08",
            b"#!",
            b"#cloud-config\n",
            b"#include\n",
            b"MIME-Version: 1.0\n",
            b"\xff\xfe",
            b"\0",
        ),
        *(b"Content-Type: multipart/mixed; boundary=x\n\n--x\n", b"\xef\xbb\xbf", b"---\n", b"%YAML 9\n"),
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.sampled_from(
        ["eth0", "bond0", "l0", "10.0.0.1/24", "::/0", "default", "static", "ipv6", "vlan", "a:b"]
    )
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(autouse=True, scope="module")
def library() -> None:
    yaml_events.load()
    assert yaml_events._Library.module, "the tests need PyYAML"


@pytest.mark.parametrize("name", DIALECTS)
@bounded
@given(st.data())
def test_bytes_anywhere(name: str, data: st.DataObject) -> None:
    parse, files = DIALECTS[name]
    files = dict(files)
    victim = data.draw(st.sampled_from(sorted(files)))
    content = bytearray(files[victim])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content)))
        content[place : place + data.draw(st.integers(0, 8))] = data.draw(BYTES)
    files[victim] = bytes(content)
    hold(parse, files)


def _places(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    match value:
        case dict():
            inner = [place for key in value for place in _places(value[key], (*above, key))]
        case list():
            inner = [place for n, one in enumerate(value) for place in _places(one, (*above, n))]
        case _:
            inner = []
    return [above, *inner] if above else inner


def _document(name: str, files: Mapping[str, bytes], victim: str) -> Any:
    text = files[victim].decode()
    return (
        yaml_events.read(victim, text, [])
        if name.startswith("nocloud") or "user" in victim
        else json.loads(text)
    )


STRUCTURED = [
    (name, victim)
    for name, victims in {
        "openstack": ("openstack/latest/meta_data.json", "openstack/latest/network_data.json"),
        "nocloud": ("meta-data", "user-data", "network-config"),
        "nocloud, version 1": ("network-config",),
        "native": ("gandi.json",),
        "gandi": ("gandi/config",),
    }.items()
    for victim in victims
]


@pytest.mark.parametrize(("name", "victim"), STRUCTURED)
@bounded
@given(st.data())
def test_anything_anywhere_in_a_document(name: str, victim: str, data: st.DataObject) -> None:
    """A value of any type in each place, also the value of another place, such as a name that is taken."""
    parse, files = DIALECTS[name]
    document = _document(name, files, victim)
    places = _places(document)
    for _ in range(data.draw(st.integers(1, 3))):
        *above, last = data.draw(st.sampled_from(places))
        holder = document
        try:
            for step in above:
                holder = holder[step]
            holder[last] = data.draw(JSON)
        except (KeyError, IndexError, TypeError):
            continue  # An earlier change has removed the place.
    text = json.dumps(document)
    head = "#cloud-config\n" if victim == "user-data" else ""
    hold(parse, {**files, victim: (head + text).encode()})


@pytest.mark.parametrize("odd", ["\ud800", "a\0", "\x1b[2J"], ids=ascii)
@pytest.mark.parametrize(("name", "victim"), STRUCTURED)
def test_text_that_no_system_takes_in_each_place(name: str, victim: str, odd: str) -> None:
    """In place of each text, and behind it: a lone surrogate (so a byte that is not UTF-8), a NUL, a
    sequence of a terminal.
    """
    parse, files = DIALECTS[name]
    head = "#cloud-config\n" if victim == "user-data" else ""
    for place in _places(_document(name, files, victim)):
        for whole in (False, True):
            document = _document(name, files, victim)
            holder = document
            for step in place[:-1]:
                holder = holder[step]
            if isinstance(holder[place[-1]], str):
                holder[place[-1]] = odd if whole else holder[place[-1]] + odd
                hold(parse, {**files, victim: (head + json.dumps(document)).encode()})


@pytest.mark.parametrize("name", DIALECTS)
@bounded
@given(st.dictionaries(st.text(max_size=12) | st.sampled_from(["META_DAT", "USER_DAT"]), BYTES, max_size=5))
def test_any_files(name: str, files: dict[str, bytes]) -> None:
    hold(DIALECTS[name][0], files)


@pytest.mark.parametrize("name", DIALECTS)
@bounded
@given(st.data())
def test_files_that_are_missing(name: str, data: st.DataObject) -> None:
    parse, files = DIALECTS[name]
    kept = data.draw(st.sets(st.sampled_from(sorted(files))))
    hold(parse, {victim: files[victim] for victim in kept})


def _held_in_time(parse: Parse, files: Mapping[str, bytes]) -> Reading:
    return within(20, lambda: hold(parse, files))


@pytest.mark.parametrize("name", ["gandi", "cloudstack"])
def test_a_key_line_of_quotes_that_never_close(name: str) -> None:
    # Each quote opens a string without an end: a search from each of them would be quadratic.
    lines = "\n".join(['"\\' * 8000] * 40)
    files = {
        "gandi": {"gandi/config": json.dumps({"vm_conf": {"ssh_key": lines}}).encode()},
        "cloudstack": {"cloudstack/metadata/public-keys.txt": lines[: 250 << 10].encode()},
    }[name]
    assert "not an OpenSSH public key" in str(_held_in_time(DIALECTS[name][0], files).problems)


def test_keys_that_are_none_are_told_and_counted() -> None:
    document = {"vm_hostname": "vm1", "vif": [], "vm_conf": {"ssh_key": "x\n" * 50_000}}
    reading = _held_in_time(gandi.parse_files, {"gandi/config": json.dumps(document).encode()})
    assert reading.config is not None
    assert reading.config.partial
    assert len(reading.problems) == MAX_PROBLEMS + 1
    assert "more problems" in reading.problems[-1].message


def test_json_where_yaml_may_be_is_bounded_as_json_is() -> None:
    wrong = '{"version": 1, "config": [' + ",".join(["1"] * 300_000) + "]}"
    reading = _held_in_time(nocloud.parse_files, {"meta-data": b"", "network-config": wrong.encode()})
    assert "300000 items" in reading.problems[0].message
