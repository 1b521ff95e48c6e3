"""NICs of every kind, by the name of the golden file that each renderer has of them."""

from __future__ import annotations

from agent.model import Nic, Route
from agent.network.links import Interface, Link, by_dhcp

ETH0 = Interface("eth0", "52:54:00:12:34:56")
ETH1 = Interface("eth1", "52:54:00:12:34:57")


def _link(nic: Nic, interface: Interface = ETH0, *, required: bool = True) -> Link:
    return Link(interface, nic, f"nic{nic.number}", required=required)


CASES: dict[str, Link] = {
    "public": _link(
        Nic(
            0,
            addresses=("203.0.113.10/24", "2001:db8::10/64"),
            routes=(
                Route("0.0.0.0/0", "203.0.113.254"),
                Route("::/0", "fe80::1", on_link=True),
            ),
            ra_gateway=False,
            ra_address=False,
            ra_dns=False,
        )
    ),
    "routed-32": _link(
        Nic(
            0,
            addresses=("203.0.113.10/32", "2001:db8::10/128"),
            routes=(
                Route("0.0.0.0/0", "198.51.100.1", on_link=True),
                Route("::/0", "2001:db8:1::1", on_link=True, metric=100),
            ),
            mtu=1450,
            ra_gateway=False,
            ra_address=False,
            ra_dns=False,
        )
    ),
    "private-vlan": _link(
        Nic(1, addresses=("192.168.1.5/24", "192.168.1.6/24"), ra_address=False, ra_dns=False),
        ETH1,
        required=False,
    ),
    "route-without-gateway": _link(
        Nic(0, addresses=("10.0.0.2/24",), routes=(Route("10.9.0.0/16"), Route("10.8.0.0/16", "10.0.0.1")))
    ),
    "slaac-beside-static": _link(Nic(0, addresses=("2001:db8::10/64",))),
    "no-router-advertisements": _link(
        Nic(
            0,
            addresses=("2001:db8::10/64",),
            accept_ra=False,
            ra_address=False,
            nameservers=("2001:db8::53", "192.0.2.53"),
        )
    ),
    "dhcp-both": _link(Nic(0, dhcp4=True, dhcp6=True, mtu=9000)),
    "in-no-document": by_dhcp(ETH0, required=True),
    "extra-in-no-document": by_dhcp(ETH1, required=False),
}
