"""A mebibyte of each shape in each document, read by the confined reader with its limits: the invalid item
is left out, and the rest of the drive is applied.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.config import model
from agent.reader import client
from agent.reader.client import ANSWER, Parsed, parse_files
from tests.media import OFFSET, make_archive, swap_image
from tests.unit.reader.dialects.test_gandi import key

MIB = 1 << 20


def _many(one: str, between: str = ",") -> str:
    return between.join([one] * (MIB // (len(one) + len(between))))


def _keys(count: int) -> str:
    return "{" + ",".join(f'"k{n}":1' for n in range(count)) + "}"


#: JSON, which is YAML as well.
SHAPES: dict[str, str] = {
    "one long word": f'"{"x" * MIB}"',
    "quotes that never close": '"' + _many(r"\"", "") + '"',
    "backslashes": '"' + _many(r"\\", "") + '"',
    "many words": '"' + _many("x", " ") + '"',
    "many lines": '"' + _many(r"x\n", "") + '"',
    "many keys of OpenSSH": json.dumps("\n".join(key(str(n)) for n in range(MIB // len(key("0000"))))),
    "many commas": '"' + _many(",", "") + '"',
    "many numbers": f"[{_many('1')}]",
    "many lists": f"[{_many('[]')}]",
    "many dictionaries": f"[{_many('{}')}]",
    "lists of lists": f"[{','.join(['[' + ','.join(['[1]'] * 400) + ']'] * 600)}]",
    "many keys": _keys(MIB // 10),
    "one key many times": "{" + _many('"k":1') + "}",
    "deep lists": "[" * (MIB // 2) + "]" * (MIB // 2),
    "deep dictionaries": '{"a":' * (MIB // 6) + "1" + "}" * (MIB // 6),
    "a level too deep": "[" * 41 + "]" * 41,
    "lone surrogates": '"' + _many(r"\ud800", "") + '"',
    "lone surrogates in keys": "{" + ",".join(rf'"\ud800{n}":1' for n in range(MIB // 14)) + "}",
    "control characters": '"' + _many(r"\u0001", "") + '"',
    "NUL": r'"\u0000"',
    "a long number": "1" * MIB,
    "a long fraction": "1." + "1" * MIB,
    "a huge exponent": "1e999999999",
    "NaN": "NaN",
    "Infinity": "-Infinity",
}
GANDI = '{"vm_hostname":"vm1","vif":[],"nameservers":%s,"vm_conf":{%s}}'
NATIVE = '{"version":1,"hostname":"vm1",%s}'


def _gandi(conf: str = "", nameservers: str = "[]") -> dict[str, bytes]:
    return {"gandi/config": (GANDI % (nameservers, conf)).encode(), "gandi/script": b"#!/bin/sh\n"}


def _native(inside: str) -> dict[str, bytes]:
    return {"gandi.json": (NATIVE % inside).encode()}


def _openstack(meta: str = "", network: str = "{}", user: str = "") -> dict[str, bytes]:
    base = "openstack/latest/"
    document = f'{{"uuid":"i-1","hostname":"vm1"{meta}}}'
    return {
        f"{base}meta_data.json": document.encode(),
        f"{base}network_data.json": network.encode(),
        f"{base}user_data": user.encode(),
    }


def _nocloud(meta: str = "", network: str = "", user: str = "") -> dict[str, bytes]:
    head = "instance-id: i-1\nlocal-hostname: vm1\n"
    return {
        "meta-data": (head + meta).encode(),
        "network-config": network.encode(),
        "user-data": user.encode(),
    }


#: The places for a shape: the dialect, and the drive with the shape in it.
PLACES: dict[str, tuple[str, Callable[[str], dict[str, bytes]]]] = {
    "gandi, arguments": ("gandi", lambda shape: _gandi(f'"script_args":{shape}')),
    "gandi, keys": ("gandi", lambda shape: _gandi(f'"user":"admin1","ssh_key":{shape}')),
    "gandi, resolvers": ("gandi", lambda shape: _gandi(nameservers=shape)),
    "native, users": ("native", lambda shape: _native(f'"users":{shape}')),
    "native, arguments": (
        "native",
        lambda shape: _native(f'"scripts":[{{"content":"x","arguments":[{shape}, 1]}}]'),
    ),
    "openstack, keys": ("openstack", lambda shape: _openstack(f',"public_keys":{shape}')),
    "openstack, network": ("openstack", lambda shape: _openstack(network=f'{{"links":{shape}}}')),
    "user data": ("openstack", lambda shape: _openstack(user=f"#cloud-config\nwrite_files: {shape}\n")),
    "user data in JSON": (
        "openstack",
        lambda shape: _openstack(user=f'#cloud-config\n{{"write_files":{shape}}}'),
    ),
    "nocloud, keys": ("nocloud", lambda shape: _nocloud(f"public-keys: {shape}\n")),
    "netplan": (
        "nocloud",
        lambda shape: _nocloud(network=f"version: 2\nethernets:\n  eth0:\n    addresses: {shape}\n"),
    ),
    "version 1": ("nocloud", lambda shape: _nocloud(network=f"version: 1\nconfig: {shape}\n")),
    "version 1, subnet": (
        "nocloud",
        lambda shape: _nocloud(
            network="version: 1\nconfig:\n- type: physical\n  name: eth0\n  subnets:\n"
            f"  - {{type: dhcp, dns_nameservers: {shape}}}\n"
        ),
    ),
    "version 1, options": (
        "nocloud",
        lambda shape: _nocloud(
            network="version: 1\nconfig:\n- type: bond\n  name: bond0\n  bond_interfaces: [eth0]\n"
            f"  params: {{arp_ip_target: {shape}}}\n"
        ),
    ),
    "interfaces(5)": ("nocloud", lambda shape: _nocloud(f"network-interfaces: {shape}\n")),
    "cloudstack": (
        "cloudstack",
        lambda shape: {
            "cloudstack/metadata/instance-id.txt": b"i-1",
            "cloudstack/metadata/local-hostname.txt": b"vm1",
            "cloudstack/metadata/public-keys.txt": shape.encode(),
        },
    ),
}


def _whole(parsed: Parsed) -> model.InstanceConfig:
    """Assert what must be true of any answer if the rest of the drive is valid."""
    config = parsed.config
    assert config is not None, parsed.problems
    assert config.hostname == "vm1"
    assert model.load(model.dump(config)) == config
    assert len(parsed.problems) <= 60
    assert all(f"{p.path}{p.message}{p.hint}".isprintable() for p in parsed.problems)
    return config


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_costs_itself(place: str, shape: str) -> None:
    dialect, drive = PLACES[place]
    parsed = parse_files(dialect, drive(SHAPES[shape]))
    config = _whole(parsed)
    assert parsed.problems, "what is wrong is named"
    assert config.partial == any(problem.is_error for problem in parsed.problems)


YAML = {
    "aliases": "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 10)}]\n" for n in range(20)),
    "anchors": "".join(f"- &a{n} x\n" for n in range(MIB // 12)),
    "block lists": "- " * (MIB // 2) + "x\n",
    "block dictionaries": "a: x\n" * (MIB // 5),
    "merges": "a: {<<: [" + ",".join("{a: 1}" for _ in range(MIB // 8)) + "]}\n",
    "a long block": "a: |\n" + "  x\n" * (MIB // 4),
    "question marks": "? " * (MIB // 2),
    "tabs": "\t" * MIB + "x",
    "one line": "x" * MIB,
    "two documents": "a: b\n---\n" * (MIB // 9),
    "binary": "a: !!binary '" + "A" * MIB + "'\n",
    "bytes": "a: \x01\n",
}


@pytest.mark.parametrize("where", ["user-data", "network-config", "vendor-data"])
@pytest.mark.parametrize("shape", YAML)
def test_a_document_of_yaml_costs_itself(where: str, shape: str) -> None:
    head = "" if where == "network-config" else "#cloud-config\n"
    parsed = parse_files("nocloud", _nocloud() | {where: (head + YAML[shape]).encode()})
    _whole(parsed)
    assert parsed.problems


INTERFACES = {
    "many words": "iface eth0 inet dhcp\n dns-search " + _many("x", " "),
    "many options": "iface eth0 inet dhcp\n" + "".join(f"o{n} x\n" for n in range(MIB // 12)),
    "many continued lines": "iface eth0 inet dhcp\n" + "x \\\n" * (MIB // 4),
    "many stanzas": "".join(f"iface e{n} inet dhcp\n" for n in range(MIB // 24)),
    "many aliases": "".join(f"iface eth0:{n} inet static\naddress x\n" for n in range(MIB // 40)),
    "many routes": "iface eth0 inet dhcp\n" + "up ip route add 10.0.0.0/8 dev eth0\n" * (MIB // 36),
    "many names": "auto " + _many("x", " "),
    "one line": "x" * MIB,
    "blank": " " * MIB + "x",
}


@pytest.mark.parametrize("shape", INTERFACES)
def test_a_text_of_interfaces_costs_itself(shape: str) -> None:
    files = _openstack(',"network_config":{"content_path":"content/0000"}')
    parsed = parse_files("openstack", files | {"openstack/content/0000": INTERFACES[shape].encode()})
    _whole(parsed)
    assert parsed.problems


@pytest.mark.parametrize(
    ("conf", "path", "said"),
    [
        (f'"script_args":"{"x" * MIB}"', "vm_conf.script_args", "longer than 32768 characters"),
        (r'"\ud800":1', r"gandi/config: \ud800", "a key that is not text: left out"),
        (r'"user":"\ud800"', "vm_conf.user", "lone surrogate"),
        (f'"run":"{"x" * (MIB + 1)}"', "vm_conf.run", "longer than 1048576 characters"),
        (f'"user":{"1" * 5000}', "vm_conf.user", "a number that is too large, or not one of JSON"),
        ('"user":NaN', "vm_conf.user", "a number that is too large, or not one of JSON"),
        (f'"user":{"[" * 50_000}{"]" * 50_000}', "vm_conf.user", "not a string (given: a list)"),
        (f'"user":[{_many("1")}]', "vm_conf.user", "items; at most 5000 are read"),
        ('"ssh_key":"x"', "vm_conf.ssh_key line 1", "not an OpenSSH"),
    ],
)
def test_the_path_and_the_reason(conf: str, path: str, said: str) -> None:
    hashed = "$6$salt$" + "x" * 86
    parsed = parse_files("gandi", _gandi(f'{conf},"password":"{hashed}"'))
    config = _whole(parsed)
    (problem,) = [problem for problem in parsed.problems if problem.path == path]
    assert said in problem.message
    assert not problem.harmless
    assert [user.password for user in config.users if user.name == "root"] == [hashed]


def test_bytes_that_are_no_utf8_cost_their_item() -> None:
    raw = b'{"vm_hostname":"vm1","vif":[],"nameservers":["\xff"],"\xff":1,"vm_conf":{"user":"admin1"}}'
    parsed = parse_files("gandi", {"gandi/config": raw})
    _whole(parsed)
    assert [p.path for p in parsed.problems] == [r"gandi/config: \xff", "nameservers[0]"]


def test_half_a_million_key_lines(tmp_path: Path) -> None:
    """All of them would make an answer of 191 MiB."""
    line = key("x")
    conf = {"user": "admin1", "ssh_key": f"{line}\n" * 524_288}
    document = {"vm_hostname": "vm1", "vif": [], "vm_conf": conf}
    image = tmp_path / "disk.img"
    archive = make_archive(document)
    swap_image(image, OFFSET + len(archive), archive=archive)
    descriptor = os.open(image, os.O_RDONLY)
    try:
        parsed = client.parse_disk(descriptor)
    finally:
        os.close(descriptor)
    config = _whole(parsed)
    assert [user.keys for user in config.users] == [(line,), (line,)]
    (problem,) = [problem for problem in parsed.problems if problem.path == "vm_conf.ssh_key line 5001"]
    assert "5000 lines" in problem.message


def test_what_has_no_room_in_the_answer_is_left_out_by_name() -> None:
    """Each item is within its own limit, but all of them together are not."""
    long = "\u0416" * 4000
    users = [{"name": f"u{n}", "sudo": ["ALL=(ALL) " + "\u0416" * 900] * 90} for n in range(60)]
    scripts = [{"content": "x", "name": f"s{n}", "arguments": [long]} for n in range(20)]
    document = {"version": 1, "hostname": "vm1", "users": users, "scripts": scripts}
    parsed = parse_files("native", {"gandi.json": json.dumps(document, ensure_ascii=False).encode()})
    config = _whole(parsed)
    assert config.partial
    assert 0 < len(config.users) < 60
    assert len(config.scripts) == 20
    (problem,) = parsed.problems
    assert problem.path == "users"
    assert f"the last {60 - len(config.users)} of 60 are left out" in problem.message
    assert len(model.dump(config)) < ANSWER
