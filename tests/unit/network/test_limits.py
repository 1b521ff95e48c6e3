"""The rare values of a NIC, by key and path."""

from __future__ import annotations

from agent.config.nics import (
    AddressOptions,
    Bond,
    BondOptions,
    Bridge,
    Dhcp,
    Nic,
    NicOptions,
    Route,
    RouteOptions,
)
from agent.network.interfaces import is_plain
from agent.network.limits import rare


def test_ordinary_values_are_not_listed() -> None:
    plain = Nic(
        0,
        "52:54:00:00:00:01",
        bond=Bond("802.3ad", 0, "layer2", "fast", 1),
        routes=(Route("::/0", "fe80::1", True, 7),),
    )
    assert is_plain(plain)
    assert rare(plain) == []


def test_each_value_has_its_key_and_its_path() -> None:
    nic = Nic(
        0,
        bond=Bond(options=BondOptions(min_links=2, arp_ip_target=("192.0.2.1",))),
        bridge=Bridge(stp=False),
        routes=(Route("::/0"), Route("10.0.0.0/8", type="throw", options=RouteOptions(mtu=1400))),
        options=NicOptions(
            set_name="lan0",
            dhcp4=Dhcp(use_dns=False),
            addresses=(AddressOptions("192.0.2.7/24", lifetime="0"),),
            link_local=(),
            critical=True,
        ),
    )
    assert not is_plain(nic)
    assert rare(nic) == [
        ("routes.type", "routes[1].type", "throw"),
        ("routes.mtu", "routes[1].mtu", 1400),
        ("bond.min_links", "bond.min_links", 2),
        ("bond.arp_ip_target", "bond.arp_ip_target", ("192.0.2.1",)),
        ("bridge.stp", "bridge.stp", False),
        ("dhcp4.use_dns", "dhcp4.use_dns", False),
        ("addresses.lifetime", "addresses[0].lifetime", "0"),
        ("link_local", "link_local", ()),
        ("critical", "critical", True),
    ]
