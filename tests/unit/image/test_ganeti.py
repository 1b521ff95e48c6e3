"""Ganeti's variables give a native document, or an error that names one of them."""

from __future__ import annotations

from typing import Any

import pytest

from agent.image import ganeti
from agent.lib.errors import ConfigError

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHdf2mNDYbbiLMAH/3rdNZmPnmVcRdhNWxbWdsCbXvYF me@home"
HASH = "$6$saltsalt$" + "x" * 86
UUID = "a1b2c3d4-0000-4000-8000-0123456789ab"
#: The variables of every creation.
BASE = {
    "INSTANCE_NAME": "vm1.example.org",
    "INSTANCE_UUID": UUID,
    "NIC_COUNT": "1",
    "NIC_0_MAC": "AA:00:00:12:34:56",
    "NIC_0_MODE": "bridged",
    "OSP_SSHKEY": KEY,
}
#: The variables of a NIC in a network of Ganeti.
NETWORK = {
    "NIC_0_IP": "203.0.113.10",
    "NIC_0_NETWORK_SUBNET": "203.0.113.0/24",
    "NIC_0_NETWORK_GATEWAY": "203.0.113.254",
}


@pytest.mark.parametrize(
    ("more", "consoles"),
    [
        ({"HYPERVISOR": "kvm", "INSTANCE_HV_serial_console": "True"}, ["ttyS0"]),
        ({"HYPERVISOR": "kvm", "INSTANCE_HV_serial_console": "False"}, None),
        ({"HYPERVISOR": "xen-pvm"}, ["hvc0"]),
        ({"HYPERVISOR": "xen-hvm"}, None),
    ],
)
def test_a_login_on_the_console_of_the_hypervisor(more: dict[str, str], consoles: list[str] | None) -> None:
    assert ganeti.document(BASE | more).get("consoles") == consoles


def nics(**more: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ganeti.document(BASE | more)["nics"]
    return found


def test_the_least() -> None:
    assert ganeti.document(BASE) == {
        "version": 1,
        "id": UUID,
        "hostname": "vm1.example.org",
        "nics": [{"number": 0, "mac": "aa:00:00:12:34:56", "dhcp4": True}],
        "users": [{"name": "root", "keys": [KEY], "locked": True}],
    }


def test_the_address_that_ganeti_knows() -> None:
    assert nics(**NETWORK) == [
        {
            "number": 0,
            "mac": "aa:00:00:12:34:56",
            "addresses": ["203.0.113.10/24"],
            "routes": [{"to": "0.0.0.0/0", "via": "203.0.113.254"}],
        }
    ]


def test_an_address_of_the_newer_protocol() -> None:
    more = {
        "NIC_0_IP": "2001:db8::10",
        "NIC_0_NETWORK_SUBNET6": "2001:db8::/64",
        "NIC_0_NETWORK_GATEWAY6": "fe80::1",
    }
    (nic,) = nics(**more)
    assert nic["addresses"] == ["2001:db8::10/64"]
    assert nic["routes"] == [{"to": "::/0", "via": "fe80::1", "on_link": True}]
    assert (nic["ra_gateway"], nic["ra_address"]) == (False, False)


def test_what_the_operator_says_goes_before() -> None:
    more = {
        "OSP_IPV4": "198.51.100.7/32",
        "OSP_IPV6": "2001:db8:7::1/56 2001:db8:7::2/56",
        "OSP_GATEWAY": "198.51.100.1",
        "OSP_GATEWAY6": "2001:db8:7::ff",
        "OSP_DNS": "203.0.113.3 2001:db8::3",
        "OSP_TIMEZONE": "Europe/Paris",
    }
    made = ganeti.document(BASE | NETWORK | more)
    (nic,) = made["nics"]
    assert nic["addresses"] == ["198.51.100.7/32", "2001:db8:7::1/56", "2001:db8:7::2/56"]
    assert nic["routes"] == [
        {"to": "0.0.0.0/0", "via": "198.51.100.1", "on_link": True},
        {"to": "::/0", "via": "2001:db8:7::ff"},
    ]
    assert made["nameservers"] == ["203.0.113.3", "2001:db8::3"]
    assert made["timezone"] == "Europe/Paris"


def test_locale_and_sources_of_packages() -> None:
    proxy = "http://me:s3cret@192.0.2.2:3128"
    more = {"OSP_LOCALE": "fr_FR.UTF-8", "OSP_APT_PROXY": proxy}
    made = ganeti.document(BASE | more)
    assert (made["locale"], made["apt"]) == ("fr_FR.UTF-8", {"proxy": proxy})
    more = {"OSP_APT_SECURITY": "https://192.0.2.3/debian-security/", "OSP_SUITE": "sid"}
    archive = {"uri": "http://deb.debian.org/debian", "security": "https://192.0.2.3/debian-security"}
    assert ganeti.document(BASE | more)["apt"] == {"archive": archive | {"suite": "sid"}}


def test_an_operators_ipv6_goes_beside_the_ipv4_of_ganetis_pool() -> None:
    more = {"OSP_IPV6": "2001:db8:7::1/56", "OSP_GATEWAY6": "2001:db8:7::ff"}
    (nic,) = nics(**NETWORK, **more)
    assert nic["addresses"] == ["2001:db8:7::1/56", "203.0.113.10/24"]
    assert [route["via"] for route in nic["routes"]] == ["203.0.113.254", "2001:db8:7::ff"]


def test_a_routed_nic_is_alone_on_its_wire() -> None:
    (nic,) = nics(NIC_0_IP="203.0.113.10", NIC_0_MODE="routed", NIC_0_NETWORK_GATEWAY="203.0.113.1")
    assert nic["addresses"] == ["203.0.113.10/32"]
    assert nic["routes"][0]["on_link"] is True


def test_several_nics() -> None:
    found = nics(NIC_COUNT="2", NIC_1_MAC="aa:00:00:12:34:57", OSP_IPV4="203.0.113.10/24")
    assert [(nic["number"], "dhcp4" in nic) for nic in found] == [(0, False), (1, True)]


@pytest.mark.parametrize(
    ("more", "users"),
    [
        ({"OSP_PASSWORD_HASH": HASH}, [{"name": "root", "keys": [KEY], "password": HASH}]),
        (
            {"OSP_USER": "me"},
            [
                {"name": "root", "locked": True},
                {"name": "me", "keys": [KEY], "locked": True, "admin": True},
            ],
        ),
        (
            {"OSP_USER": "me", "OSP_PASSWORD_HASH": HASH, "OSP_SSHKEY": ""},
            [
                {"name": "root", "locked": True},
                {"name": "me", "keys": [], "password": HASH, "admin": True},
            ],
        ),
    ],
    ids=["a password for root", "a user with a key", "a user with a password"],
)
def test_who_may_log_in(more: dict[str, str], users: list[dict[str, Any]]) -> None:
    assert ganeti.document(BASE | more)["users"] == users


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("INSTANCE_NAME", ""),
        ("INSTANCE_NAME", "-bad name-"),
        ("NIC_COUNT", ""),
        ("NIC_COUNT", "many"),
        ("NIC_COUNT", "9999"),
        ("NIC_0_MAC", ""),
        ("NIC_0_MAC", "00:11"),
        ("NIC_0_IP", "203.0.113.300"),
        ("NIC_0_IP", "198.51.100.1"),
        ("NIC_0_NETWORK_SUBNET", ""),
        ("NIC_0_NETWORK_GATEWAY", "none"),
        ("OSP_IPV4", "192.0.2.10"),
        ("OSP_IPV4", "2001:db8::1/64"),
        ("OSP_IPV4", "0.0.0.0/0"),
        ("OSP_IPV6", "203.0.113.10/24"),
        ("OSP_GATEWAY", "203.0.113.0/24"),
        ("OSP_DNS", "resolver.example.org"),
        ("OSP_SSHKEY", ""),
        ("OSP_SSHKEY", "-----BEGIN OPENSSH PRIVATE KEY-----"),
        ("OSP_PASSWORD_HASH", "plain secret"),
        ("OSP_USER", "Root User"),
    ],
)
def test_a_wrong_or_missing_variable_is_named_and_never_its_value(name: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ganeti.document(BASE | NETWORK | {name: value})
    assert caught.value.message.startswith(f"{name}: ")
    assert caught.value.hint
    assert not value or value not in str(caught.value)
