"""The OpenStack drive and its network_data.json."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from agent.config.model import InstanceConfig, User
from agent.config.nics import Bond, Kind, Nic, Route
from agent.reader.common.drive_names import DriveNames
from agent.reader.common.result import Reading
from agent.reader.dialects import openstack
from agent.reader.formats import yaml_events
from tests.unit.reader import drives
from tests.unit.reader.dialects.test_gandi import HASH, key


@pytest.fixture(autouse=True, scope="module")
def library() -> None:
    yaml_events.load()


def read(files: dict[str, bytes]) -> tuple[InstanceConfig, Reading]:
    reading = openstack.parse_files(files)
    assert reading.config is not None
    return reading.config, reading


def network(data: dict[str, Any]) -> tuple[tuple[Nic, ...], Reading]:
    files = {
        "openstack/latest/meta_data.json": b"{}",
        "openstack/latest/network_data.json": json.dumps(data).encode(),
    }
    config, reading = read(files)
    return config.nics, reading


def test_the_whole_drive() -> None:
    config, reading = read(drives.openstack())
    assert (config.identity.source, config.identity.id) == ("openstack", drives.META_DATA["uuid"])
    assert config.hostname == "from-user-data"
    assert config.timezone == "Europe/Paris"
    assert dict(config.metadata) == {
        "availability_zone": "nova",
        "hostname": "vm1.novalocal",
        "launch_index": "0",
        "meta.role": "web",
        "name": "vm1",
        "project_id": drives.META_DATA["project_id"],
        "uuid": drives.META_DATA["uuid"],
    }
    accounts = {user.name: user for user in config.users}
    assert accounts[""] == User("", keys=(key("one"),))
    assert accounts["bob"].password == HASH
    assert reading.secrets == {"": "s3cr3t"}
    assert {file.path: reading.files[file.name] for file in config.files} == {
        "/etc/motd": b"hello\n",
        "/etc/packed": b"hello",
        "/etc/banner": b"banner\n",
    }
    assert all(problem.harmless for problem in reading.problems), reading.problems
    assert not config.partial


def test_the_network() -> None:
    nics, reading = network(drives.NETWORK_DATA)
    assert not reading.problems
    assert reading.config is not None
    assert reading.config.nameservers == ("198.51.100.1",)
    first, one, two, bond, vlan = nics
    assert (first.mac, first.mtu) == (drives.MAC, 1500)
    assert first.addresses == ("198.51.100.10/29", "2001:db8::10/64")
    assert first.routes == (Route("0.0.0.0/0", "198.51.100.9"), Route("::/0", "2001:db8::1"))
    assert first.nameservers == ("2001:db8::53",)
    assert (one.mac, one.mtu, two.mac) == ("fa:16:3e:00:00:01", None, "fa:16:3e:00:00:02")
    assert (bond.kind, bond.name, bond.ports, bond.dhcp4) == (Kind.BOND, "bond0", (1, 2), True)
    assert bond.bond == Bond("802.3ad", 100, "layer3+4")
    assert (vlan.kind, vlan.name, vlan.parent, vlan.vlan) == (Kind.VLAN, "vlan7", 3, 7)
    assert vlan.addresses == ("2001:db8:7::2/64",)


@pytest.mark.parametrize(
    ("kind", "dhcp"),
    [
        ("ipv4_dhcp", (True, False)),
        ("ipv6_dhcp", (False, True)),
        ("ipv6_dhcpv6-stateful", (False, True)),
        ("ipv6_dhcpv6-stateless", (False, False)),
        ("ipv6_slaac", (False, False)),
    ],
)
def test_networks_without_addresses(kind: str, dhcp: tuple[bool, bool]) -> None:
    links = [{"id": "l", "type": "ovs", "ethernet_mac_address": drives.MAC}]
    (nic,), reading = network({"links": links, "networks": [{"link": "l", "type": kind}]})
    assert not reading.problems
    assert (nic.dhcp4, nic.dhcp6) == dhcp
    assert nic.accept_ra
    assert nic.ra_address


@pytest.mark.parametrize(
    ("address", "mask", "written"),
    [
        ("198.51.100.10", "255.255.255.0", "198.51.100.10/24"),
        ("198.51.100.10", "24", "198.51.100.10/24"),
        ("198.51.100.10/25", "255.255.255.0", "198.51.100.10/25"),
        ("198.51.100.10", "255.255.255.255", "198.51.100.10/32"),
        ("198.51.100.10", "", "198.51.100.10/32"),
        ("2001:db8::1", "ffff:ffff:ffff:ffff::", "2001:db8::1/64"),
        ("2001:db8::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db8::1/128"),
        ("2001:db8::1", "/56", "2001:db8::1/56"),
        ("2001:db8::1/48", "", "2001:db8::1/48"),
    ],
)
def test_netmasks(address: str, mask: str, written: str) -> None:
    data = {
        "links": [{"id": "l"}],
        "networks": [
            {
                "link": "l",
                "type": "ipv6" if ":" in address else "ipv4",
                "ip_address": address,
                "netmask": mask,
            }
        ],
    }
    (nic,), reading = network(data)
    assert not reading.problems
    assert nic.addresses == (written,)


WRONG = [
    (("links", 0, "ethernet_mac_address"), "zz", "links[0].ethernet_mac_address", "MAC"),
    (("links", 0, "id"), None, "networks[0].link", "no such link"),
    (("links", 0, "mtu"), "big", "links[0].mtu", "whole number"),
    (("links", 2, "ethernet_mac_address"), "fa:16:3e:00:00:01", "links[2]", "twice"),
    (("links", 3, "bond_mode"), "9", "links[3].bond_mode", "not a known word"),
    (("links", 3, "bond_links", 1), "nowhere", "links[3].bond_links", "no NIC nowhere"),
    (("links", 4, "vlan_id"), 5000, "links[4]", "without an id"),
    (("links", 4, "vlan_link"), "nowhere", "links[4].vlan_link", "no NIC nowhere"),
    (("networks", 0, "netmask"), "255.0.255.0", "networks[0].netmask", "not a netmask of IPv4"),
    (("networks", 1, "netmask"), "ffff::ffff", "networks[1].netmask", "not a netmask of IPv6"),
    (("networks", 1, "ip_address"), "1.2.3.4", "networks[1].ip_address", "not an IPv6 address"),
    (("networks", 0, "type"), "ipx", "networks[0].type", "not a known word"),
    (("networks", 0, "link"), "l9", "networks[0].link", "no such link"),
    (("networks", 0, "routes", 0, "gateway"), "::1:2", "networks[0].routes[0]", "not an IPv4 gateway"),
    (("networks", 0, "routes", 0, "netmask"), "x", "networks[0].routes[0]", "not a netmask"),
    (("services", 0, "address"), "ns1", "services[0].address", "IP address"),
]


@pytest.mark.parametrize(("place", "value", "path", "said"), WRONG)
def test_a_wrong_item(place: tuple[Any, ...], value: Any, path: str, said: str) -> None:
    data = copy.deepcopy(drives.NETWORK_DATA)
    *above, last = place
    holder: Any = data
    for step in above:
        holder = holder[step]
    holder[last] = value
    nics, reading = network(data)
    name = "openstack/latest/network_data.json"
    told = {problem.path: problem for problem in reading.problems}
    assert said in told[f"{name}: {path}"].message, told
    assert told[f"{name}: {path}"].hint
    assert len(nics) >= 3
    assert reading.config is not None
    assert reading.config.partial


def test_an_empty_network_says_nothing() -> None:
    nics, reading = network({})
    assert nics == ()
    assert not reading.problems


@pytest.mark.parametrize(
    ("there", "counts"),
    [
        (("2018-08-27", "latest", "2012-08-10"), "2018-08-27"),
        (("latest", "2012-08-10"), "2012-08-10"),
        (("latest",), "latest"),
        (("2099-01-01", "latest"), "latest"),
    ],
)
def test_the_newest_known_version_counts(there: tuple[str, ...], counts: str) -> None:
    names = DriveNames([f"openstack/{version}/meta_data.json" for version in there])
    assert openstack.newest(names) == f"openstack/{counts}"


def test_vendor_data_comes_after_and_overrides_nothing() -> None:
    vendor = "#cloud-config\nhostname: vendor\ntimezone: UTC\nruncmd: [echo vendor]\n"
    files = drives.openstack()
    files["openstack/latest/vendor_data.json"] = json.dumps({"cloud-init": vendor}).encode()
    config, _ = read(files)
    assert (config.hostname, config.timezone) == ("from-user-data", "Europe/Paris")
    assert [script.name for script in config.scripts] == ["runcmd", "vendor-runcmd"]
    del files["openstack/latest/user_data"]
    config, _ = read(files)
    assert (config.hostname, config.timezone) == ("vm1.novalocal", "UTC")


def test_without_metadata_it_is_told() -> None:
    config, reading = read({"openstack/latest/user_data": b"#!/bin/sh\n"})
    assert config.identity.id == ""
    assert "meta_data.json" in reading.problems[0].message


def test_an_injected_file_that_is_not_there() -> None:
    files = drives.openstack()
    del files["openstack/content/0000"]
    _, reading = read(files)
    assert [p.path for p in reading.problems if not p.harmless] == [
        "openstack/latest/meta_data.json: files[0].content_path"
    ]


def test_user_data_for_one_of_several_machines_and_with_its_metadata() -> None:
    script = b"Content-Type: text/jinja2\nLaunch-Index: %d\n\n#!/bin/sh\necho {{ %s }}\n"
    head = b"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n"
    parts = [script % (0, b"v1.instance_id"), script % (3, b"ds.meta_data.meta.role")]
    raw = head + b"\n--b\n".join(parts) + b"\n--b--\n"
    config, reading = read(
        drives.openstack(launch_index=3, meta={"role": "db"}) | {"openstack/latest/user_data": raw}
    )
    assert [one.name for one in config.scripts] == ["user-script"]
    assert reading.files["user-script"].rstrip() == b"#!/bin/sh\necho db"
