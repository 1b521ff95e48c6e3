"""The OpenStack drive and its network_data.json."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from agent.config.model import InstanceConfig, User
from agent.config.nics import Bond, BondOptions, Dhcp, Kind, Nic, NicOptions, Route
from agent.reader.common.drive_names import DriveNames
from agent.reader.common.problem import HARMLESS, UNSUPPORTED
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
    assert not any(problem.is_error for problem in reading.problems), reading.problems
    assert not config.partial


def test_a_key_that_is_not_for_ssh_is_named() -> None:
    _, reading = read(drives.openstack())
    assert ("openstack/latest/meta_data.json: keys[1].type", HARMLESS) in [
        (problem.path, problem.severity) for problem in reading.problems
    ]


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
        ("198.51.100.10", "", "198.51.100.10/24"),
        ("2001:db8::1", "", "2001:db8::1/64"),
        ("2001:db8::1", "ffff:ffff:ffff:ffff::", "2001:db8::1/64"),
        ("2001:db8::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db8::1/128"),
        ("2001:db8::1", "/56", "2001:db8::1/56"),
        ("2001:db8::1/48", "", "2001:db8::1/48"),
        ("2001:db8::1", 64, "2001:db8::1/64"),
        ("198.51.100.10", 25, "198.51.100.10/25"),
    ],
)
def test_netmasks(address: str, mask: str | int, written: str) -> None:
    data = {
        "links": [{"id": 7, "ethernet_mac_address": drives.MAC}],
        "networks": [
            {
                "link": "7",
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
    (("links", 0, "ethernet_mac_address"), "", "links[0]", "without a MAC address"),
    (("links", 3, "bond_mode"), "9", "links[3]", "unknown mode"),
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
    (("networks", 0, "routes", 0, "gateway"), "x", "networks[0].routes[0].gateway", "item around it"),
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


VIF = {"id": "l", "type": "ovs", "ethernet_mac_address": drives.MAC}


@pytest.mark.parametrize(
    ("types", "is_accepted"),
    [
        (("ipv6",), False),
        (("static6",), False),
        (("ipv6", "ipv4_dhcp"), False),
        (("ipv6", "ipv6_slaac"), True),
        (("ipv6_dhcpv6-stateful", "ipv6"), True),
        (("ipv6_dhcp", "ipv6"), True),
        (("ipv4",), True),
    ],
)
def test_router_advertisements_count_where_a_network_needs_them(
    types: tuple[str, ...], is_accepted: bool
) -> None:
    addresses = {"ipv4": "192.0.2.1/24", "ipv6": "2001:db8::1/64", "static6": "2001:db8::1/64"}
    networks = [{"link": "l", "type": of, "ip_address": addresses.get(of)} for of in types]
    (nic,), reading = network({"links": [VIF], "networks": networks})
    assert not reading.problems
    assert nic.accept_ra == is_accepted


def test_what_cloud_init_also_reads() -> None:
    """Search domains, a metric, names, and more options of a bond."""
    data = {
        "links": [
            VIF | {"name": "lan"},
            {"id": "p", "ethernet_mac_address": "fa:16:3e:00:00:01"},
            {
                "id": "b",
                "type": "bond",
                "name": "uplink",
                "bond_mode": 4,
                "bond_links": ["p"],
                "bond_lacp_rate": "fast",
                "bond_updelay": 200,
            },
        ],
        "networks": [
            {
                "link": "l",
                "type": "static",
                "ip_address": "192.0.2.10",
                "netmask": "255.255.255.0",
                "gateway": "192.0.2.1",
                "metric": 50,
                "dns_nameservers": ["192.0.2.53"],
                "dns_search": "a.example b.example",
                "routes": [{"network": "10.0.0.0/8", "gateway": "192.0.2.2", "metric": 7}],
            },
            {"link": "b", "type": "ipv4_dhcp", "metric": 300},
        ],
        "services": [{"type": "dns", "address": "192.0.2.54", "search": ["c.example"]}],
    }
    (first, _, bond), reading = network(data)
    assert not reading.problems
    assert reading.config is not None
    assert (reading.config.nameservers, reading.config.search) == (("192.0.2.54",), ("c.example",))
    assert first.options == NicOptions(set_name="lan")
    assert (first.nameservers, first.search) == (("192.0.2.53",), ("a.example", "b.example"))
    assert first.routes == (
        Route("0.0.0.0/0", "192.0.2.1", metric=50),
        Route("10.0.0.0/8", "192.0.2.2", metric=7),
    )
    assert (bond.name, bond.options) == ("uplink", NicOptions(dhcp4=Dhcp(route_metric=300)))
    assert bond.bond == Bond("802.3ad", None, None, "fast", options=BondOptions(updelay=200))


@pytest.mark.parametrize(
    ("part", "path", "is_error"),
    [
        ({"services": [{"type": "ntp", "address": "192.0.2.1"}]}, "services[0].type", False),
        ({"links": [VIF | {"bond_queue_id": 1}]}, "links[].bond_queue_id", False),
        ({"networks": [{"link": "l", "type": "ipv6_slaac", "other": 1}]}, "networks[].other", False),
        ({"links": [VIF | {"type": "bond", "bond_links": ["l"], "bond_queue_id": 1}]}, "links[0]", True),
        ({"networks": [{"link": "l", "type": "ipv4", "pointopoint": "192.0.2.1"}]}, "networks[0]", True),
        ({"networks": [{"link": "l", "type": "ipv6_slaac", "ip_address": "::2"}]}, "networks[0]", False),
    ],
)
def test_what_is_not_handled_is_named(part: dict[str, Any], path: str, is_error: bool) -> None:
    _, reading = network({"links": [VIF]} | part)
    assert [p.path.partition(": ")[2][: len(path)] for p in reading.problems[:1]] == [path]
    assert any(problem.is_error for problem in reading.problems) == is_error


VENDOR = "#cloud-config\ntimezone: Etc/UTC\n"


@pytest.mark.parametrize(
    "document",
    [VENDOR, [VENDOR], ["", VENDOR], {"cloud-init": VENDOR}, {"cloud-init": [VENDOR], "x": {"y": 1}}],
)
@pytest.mark.parametrize("name", ["vendor_data.json", "vendor_data2.json"])
def test_vendor_data_in_each_form(document: Any, name: str) -> None:
    files = {
        "openstack/latest/meta_data.json": b"{}",
        f"openstack/latest/{name}": json.dumps(document).encode(),
    }
    config, reading = read(files)
    assert not reading.problems
    assert config.timezone == "Etc/UTC"


@pytest.mark.parametrize(
    ("document", "place"),
    [
        (b'{"cloud-init": {"a": 1}}', ".cloud-init"),
        (b'["", 5]', "[1]"),
        (b"true", ""),
        (b"{", ""),
    ],
)
def test_vendor_data_that_is_no_text(document: bytes, place: str) -> None:
    files = {"openstack/latest/meta_data.json": b"{}", "openstack/latest/vendor_data2.json": document}
    _, reading = read(files)
    assert [p.path for p in reading.problems] == [f"openstack/latest/vendor_data2.json{place}"]
    assert reading.problems[0].is_error


def test_the_second_vendor_data_comes_before_the_first() -> None:
    files = drives.openstack()
    for number, zone in (("", "Europe/Rome"), ("2", "Europe/Oslo")):
        vendor = {"cloud-init": f"#cloud-config\nhostname: v{number}\ntimezone: {zone}\n"}
        files[f"openstack/latest/vendor_data{number}.json"] = json.dumps(vendor).encode()
    assert read(files)[0].timezone == "Europe/Paris"
    files["openstack/latest/user_data"] = b""
    assert read(files)[0].timezone == "Europe/Oslo"


ENI = b"""auto lo
iface lo inet loopback
        dns_nameservers 192.0.2.53
auto eth0
iface eth0 inet static
        address 192.0.2.10
        netmask 255.255.255.0
        gateway 192.0.2.1
"""


def test_the_text_of_interfaces() -> None:
    files = drives.openstack(network_config={"name": "network_config", "content_path": "/content/0001"})
    files["openstack/content/0001"] = ENI
    config, reading = read(files)
    assert len(config.nics) == 5
    (problem,) = [p for p in reading.problems if "network_config" in p.path]
    assert (problem.severity, "precedence" in problem.message) == (UNSUPPORTED, True)
    files["openstack/latest/network_data.json"] = b"{}"
    config, reading = read(files)
    (nic,) = config.nics
    assert (nic.name, nic.addresses, nic.routes) == (
        "eth0",
        ("192.0.2.10/24",),
        (Route("0.0.0.0/0", "192.0.2.1"),),
    )
    assert config.nameservers == ("192.0.2.53",)
    del files["openstack/content/0001"]
    _, reading = read(files)
    assert [p.path for p in reading.problems if p.is_error] == [
        "openstack/latest/meta_data.json: network_config.content_path"
    ]


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
    assert [p.path for p in reading.problems if p.is_error] == [
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


@pytest.mark.parametrize("keys", [key(), [key()], {"me": key()}, {"me": [key()], "none": None}])
def test_public_keys_in_each_form(keys: object) -> None:
    config, _ = read(drives.openstack(public_keys=keys, keys=[]))
    assert key() in {user.name: user.keys for user in config.users}[""]
