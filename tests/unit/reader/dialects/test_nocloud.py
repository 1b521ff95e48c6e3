"""The NoCloud drive: meta-data, and network-config of both versions."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable

import pytest

from agent.config import model
from agent.config.model import InstanceConfig, User
from agent.config.nics import Bond, Kind, Match, Nic, NicOptions, Route
from agent.reader.common import nocloud_names
from agent.reader.common.problem import UNSUPPORTED
from agent.reader.common.result import Reading
from agent.reader.dialects import nocloud
from agent.reader.formats import yaml_events
from tests.unit.reader import drives
from tests.unit.reader.dialects.test_gandi import key


@pytest.fixture(autouse=True, scope="module")
def library() -> None:
    yaml_events.load()


def read(**files: bytes | None) -> tuple[InstanceConfig, Reading]:
    """Parse the sample drive with these files replaced."""
    given = drives.nocloud() | {name.replace("_", "-"): content or b"" for name, content in files.items()}
    reading = nocloud.parse_files({name: given[name] for name in given if files.get(name, b"") is not None})
    assert reading.config is not None
    return reading.config, reading


def network(text: str) -> tuple[dict[str | None, Nic], Reading]:
    reading = nocloud.parse_files({"meta-data": b"", "network-config": text.encode()})
    assert reading.config is not None
    return {nic.name or nic.mac: nic for nic in reading.config.nics}, reading


def test_the_whole_drive() -> None:
    config, reading = read()
    assert not any(problem.is_error for problem in reading.problems), reading.problems
    assert (config.identity.source, config.identity.id) == ("nocloud", "2026-01-01")
    assert config.hostname == "from-user-data"
    assert config.users[0].keys or config.users[1].keys
    assert {user.name: user.keys for user in config.users}[""] == (key("nc"),)
    assert dict(config.metadata) == {"instance-id": "2026-01-01", "local-hostname": "vm1"}
    assert [script.name for script in config.scripts] == ["runcmd", "vendor-runcmd"]


@pytest.mark.parametrize("name", ["user-data", "vendor-data", "network-config", "meta-data"])
def test_empty_files(name: str) -> None:
    _, reading = read(**{name.replace("-", "_"): b""})
    assert not any(problem.is_error for problem in reading.problems)


@pytest.mark.parametrize("keys", [key(), [key()], {"me": key()}, {"me": [key()]}])
def test_public_keys(keys: object) -> None:
    meta = json.dumps({"instance-id": 5, "public-keys": keys}).encode()
    reading = nocloud.parse_files({"meta-data": meta})
    assert reading.config is not None
    assert reading.config.users == (User("", keys=(key(),)),)
    assert reading.config.identity.id == "5"


@pytest.mark.parametrize("name", ["Instance-ID: 7\nLocal-Hostname: 42", "instance_id: '7'\nhostname: 42"])
def test_spellings_and_numbers_of_meta_data(name: str) -> None:
    config, reading = read(meta_data=name.encode(), user_data=None)
    assert (config.identity.id, config.hostname) == ("7", "42")
    assert not any(problem.is_error for problem in reading.problems)


def test_a_seed_of_the_network_is_named() -> None:
    _, reading = read(meta_data=b"seedfrom: http://192.0.2.1/")
    (problem,) = [p for p in reading.problems if p.severity == UNSUPPORTED]
    assert problem.path == "meta-data: seedfrom"


def test_without_meta_data() -> None:
    reading = nocloud.parse_files({"user-data": b""})
    assert [problem.message for problem in reading.problems] == ["no meta-data"]


def test_without_a_yaml_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_events._Library, "module", None)
    _, reading = read()
    assert {p.path for p in reading.problems} == {"user-data", "meta-data", "network-config", "vendor-data"}
    assert all("python3-yaml" in problem.hint for problem in reading.problems if not problem.harmless)
    meta = json.dumps({"instance-id": "i", "local-hostname": "h"}).encode()
    reading = nocloud.parse_files({"meta-data": meta, "user-data": b"#!/bin/sh\n"})
    assert not reading.problems, "JSON and scripts need none"


def test_version_2() -> None:
    nics, reading = network(drives.NETPLAN)
    assert not reading.problems
    lan = nics["52:54:00:12:34:56"]
    assert (lan.name, lan.dhcp4, lan.optional) == (None, True, True)
    assert lan.options == NicOptions(set_name="lan0")
    bond = nics["bond0"]
    assert bond.bond == Bond("802.3ad", 100, "layer3+4", "fast")
    assert bond.ports == (nics["enp2s0"].number, nics["enp3s0"].number)
    assert nics["enp3s0"].mtu == 9000
    assert bond.addresses == ("10.0.0.5/24", "2001:db8::5/64")
    assert (bond.nameservers, bond.search) == (("192.0.2.53",), ("lab",))
    assert bond.routes == (
        Route("0.0.0.0/0", "10.0.0.1", metric=100),
        Route("::/0", "fe80::1", on_link=True),
        Route("10.9.0.0/16", "192.168.9.1", on_link=True),
    )
    vlan, bridge = nics["v7"], nics["br0"]
    assert (vlan.kind, vlan.parent, vlan.vlan) == (Kind.VLAN, bond.number, 7)
    assert (bridge.kind, bridge.ports, bridge.dhcp6) == (Kind.BRIDGE, (vlan.number,), True)


@pytest.mark.parametrize(
    ("match", "name"),
    [("", "eth0"), ("match: {name: ens3}", "ens3"), ("match: {name: 'en*'}", None)],
)
def test_a_nic_is_matched_by_name(match: str, name: str | None) -> None:
    text = f"version: 2\nethernets:\n  eth0:\n    dhcp4: true\n    {match}\n"
    nics, reading = network(text)
    assert not reading.problems
    assert list(nics) == [name]
    assert nics[name].match == (None if name else Match("en*"))


def test_gateways_and_addresses_with_options() -> None:
    nics, reading = network(
        "version: 2\nethernets: {e: {addresses: [{10.0.0.5/24: {lifetime: 0}}], gateway4: 10.0.0.1,"
        " gateway6: 'fe80::1', accept-ra: false}}"
    )
    assert not reading.problems
    assert nics["e"].routes == (Route("0.0.0.0/0", "10.0.0.1"), Route("::/0", "fe80::1", on_link=True))
    assert nics["e"].accept_ra is False


def test_version_1() -> None:
    nics, reading = network(drives.VERSION_1)
    assert not reading.problems
    assert reading.config is not None
    assert (reading.config.nameservers, reading.config.search) == (("192.0.2.53",), ("lab",))
    first = nics["52:54:00:12:34:56"]
    assert first.addresses == ("192.168.23.14/27", "2001:db8::14/64")
    assert first.routes == (Route("0.0.0.0/0", "192.168.23.1"), Route("::/0", "2001:db8::1"))
    assert (first.nameservers, first.search) == (("192.168.23.2",), ("example.org",))
    bond = nics["bond0"]
    assert (bond.bond, bond.addresses) == (Bond("802.3ad", 100), ("10.0.0.2/24",))
    assert bond.ports == (nics["eth1"].number, nics["eth2"].number)
    assert bond.routes == (
        Route("10.8.0.0/16", "10.0.0.254"),
        Route("10.2.0.0/16", "10.0.0.1", metric=7),
    )
    vlan = nics["eth0.5"]
    assert (vlan.parent, vlan.vlan, vlan.dhcp4, vlan.optional) == (first.number, 5, True, True)


@pytest.mark.parametrize(
    ("text", "path", "said"),
    [
        ("version: 3", "network-config: version", "neither 1 nor 2"),
        ("network: {ethernets: {}}", "network-config: version", "neither 1 nor 2"),
        ("- a", "network-config", "not a dictionary"),
        ("version: [", "network-config", "not YAML"),
        (
            "version: 2\nethernets: {e: {dhcp4: maybe}}",
            "network-config: ethernets.e.dhcp4",
            "true nor false",
        ),
        ("version: 2\nethernets: {e: {mtu: 1}}", "network-config: ethernets.e.mtu", "whole number"),
        ("version: 2\nethernets: {e: 5}", "network-config: ethernets.e", "dictionary"),
        ("version: 2\nvlans: {v: {id: 1, link: e}}", "network-config: vlans.v.link", "no NIC e"),
        ("version: 2\nbonds: {b: {interfaces: [x]}}", "network-config: bonds.b.interfaces", "no NIC x"),
        ("version: 2\nbridges: {'a b': {}}", "network-config: bridges.a b", "without a name"),
        ("version: 1\nconfig: [{type: team}]", "network-config: config[0].type", "not a known word"),
        (
            "version: 1\nconfig: [{type: physical, name: e, subnets: [{type: static, address: x}]}]",
            "network-config: config[0].subnets[0].address",
            "not an IP address",
        ),
        (
            "version: 1\nconfig: [{type: route, destination: 10.0.0.0/8, gateway: 10.0.0.1}]",
            "network-config: config[0]",
            "in no NIC's network",
        ),
        (
            "version: 1\nconfig: [{type: route, destination: 10.0.0.0/8}]",
            "network-config: config[0]",
            "without a gateway",
        ),
        (
            "version: 1\nconfig: [{type: vlan, name: v, vlan_link: e, vlan_id: 1}]",
            "network-config: config[0].vlan_link",
            "no NIC e",
        ),
    ],
)
def test_a_wrong_network(text: str, path: str, said: str) -> None:
    _, reading = network(text)
    assert any(problem.path == path and said in problem.message for problem in reading.problems)
    assert all(problem.hint for problem in reading.problems)


@pytest.mark.parametrize(
    ("text", "is_disabled"),
    [("network: {config: disabled}", True), ("config: disabled", True), ("", False), ("{}", False)],
)
def test_no_network(text: str, is_disabled: bool) -> None:
    nics, reading = network(text)
    assert not nics
    assert not reading.problems
    assert reading.config is not None
    assert reading.config.network_disabled == is_disabled
    assert model.load(model.dump(reading.config)) == reading.config


ENI = "auto eth0\niface eth0 inet static\n  address 192.0.2.10\n  gateway 192.0.2.1\n"


@pytest.mark.parametrize("spelled", ["network-interfaces", "network_interfaces", "Network-Interfaces"])
def test_the_text_of_interfaces_in_meta_data(spelled: str) -> None:
    meta = json.dumps({"instance-id": "i", spelled: ENI}).encode()
    reading = nocloud.parse_files({"meta-data": meta})
    assert not reading.problems
    assert reading.config is not None
    (nic,) = reading.config.nics
    assert (nic.name, nic.addresses, nic.routes) == (
        "eth0",
        ("192.0.2.10/24",),
        (Route("0.0.0.0/0", "192.0.2.1"),),
    )
    reading = nocloud.parse_files({"meta-data": meta, "network-config": b"\n"})
    assert reading.config is not None
    assert len(reading.config.nics) == 1
    newer = b"version: 2\nethernets: {eth1: {dhcp4: true}}\n"
    reading = nocloud.parse_files({"meta-data": meta, "network-config": newer})
    assert reading.config is not None
    assert [nic.name for nic in reading.config.nics] == ["eth1"]
    assert [(p.path, p.severity) for p in reading.problems] == [(f"meta-data: {spelled}", UNSUPPORTED)]


def test_the_text_of_interfaces_that_is_none() -> None:
    reading = nocloud.parse_files({"meta-data": b"network-interfaces: [1]\n"})
    assert [(p.path, p.is_error) for p in reading.problems] == [("meta-data: network-interfaces", True)]


@pytest.mark.parametrize(
    "text",
    [
        "Network: {Version: 2, Ethernets: {eth0: {DHCP4: true}}}",
        "VERSION: 1\nCONFIG: [{TYPE: physical, Name: eth0, Subnets: [{type: dhcp}]}]",
    ],
)
def test_keys_in_upper_case_are_meant_as_in_lower_case(text: str) -> None:
    nics, reading = network(text)
    assert [(name, nic.dhcp4) for name, nic in nics.items()] == [("eth0", True)]
    assert not reading.problems


def test_what_is_beside_the_network_is_named() -> None:
    nics, reading = network("network: {version: 2, ethernets: {eth0: {}}}\nethernets: {eth1: {}}\n")
    assert list(nics) == ["eth0"]
    assert [(p.path, p.severity) for p in reading.problems] == [("network-config: ethernets", UNSUPPORTED)]


LINE, SERIAL, NETWORK = nocloud_names.COMMAND_LINE, nocloud_names.SERIAL, nocloud_names.NETWORK


def _lines(files: dict[str, bytes]) -> tuple[InstanceConfig, list[str]]:
    reading = nocloud.parse_files(files)
    assert reading.config is not None
    return reading.config, [f"{p.path}: {p.message}" for p in reading.problems]


@pytest.mark.parametrize(
    "line", [b"ds=nocloud;h=vm1;i=i-1", b"ds=nocloud-net;local-hostname=vm1;instance-id=i-1;"]
)
def test_a_line_alone_is_a_configuration(line: bytes) -> None:
    for name in (LINE, SERIAL):
        config, problems = _lines({name: line})
        assert (config.hostname, config.identity.id) == ("vm1", "i-1")
        assert problems == []
        assert dict(config.metadata) == {"instance-id": "i-1", "local-hostname": "vm1"}


def test_a_line_has_precedence_over_meta_data_and_user_data_over_a_line() -> None:
    drive = {"meta-data": b"instance-id: drive\nlocal_hostname: drive\nlevel: 1\n"}
    both = {LINE: b"ds=nocloud;h=line", SERIAL: b"ds=nocloud;h=serial;i=serial"}
    config, problems = _lines(drive | both)
    assert (config.hostname, config.identity.id, problems) == ("line", "serial", [])
    assert dict(config.metadata) == {"instance-id": "serial", "local-hostname": "line", "level": "1"}
    config, _ = _lines(drive | both | {"user-data": b"#cloud-config\nhostname: user\n"})
    assert config.hostname == "user"


def test_what_a_line_cannot_say_is_named_and_costs_itself() -> None:
    config, problems = _lines({LINE: b"ds=nocloud;s=http://192.0.2.1/x/;h=-bad-;i=i-1;color=red;odd"})
    assert (config.hostname, config.identity.id) == (None, "i-1")
    assert problems[0] == f"{LINE}: seedfrom: nothing is fetched from the network or a path"
    assert problems[1].startswith(f"{LINE}: local-hostname")
    assert problems[2:] == [f"{LINE}: {key}: not a key of the line" for key in ("color", "odd")]
    assert not any("192.0.2.1" in problem or "bad" in problem for problem in problems)


@pytest.mark.parametrize("pack", [lambda text: text, gzip.compress])
def test_the_command_lines_network_has_precedence(pack: Callable[[bytes], bytes]) -> None:
    text = b"version: 2\nethernets: {a: {match: {macaddress: '52:54:00:00:00:10'}, dhcp4: true}}\n"
    drive = {"meta-data": b"", "network-config": b"version: 2\nethernets: {}\n"}
    config, problems = _lines(drive | {NETWORK: base64.b64encode(pack(text))})
    assert problems == []
    assert [nic.mac for nic in config.nics] == ["52:54:00:00:00:10"]
    config, problems = _lines(drive | {NETWORK: b"disabled"})
    assert config.network_disabled
    config, problems = _lines(drive | {NETWORK: b"!!"})
    assert problems == [f"{NETWORK}: neither base64 of a document nor disabled: left out"]
