"""Documents with NICs of every kind, by the name of each renderer's golden file for them."""

from __future__ import annotations

from agent.config.nics import Bond, Kind, Nic, Route
from agent.lib.records import replace
from agent.network.interfaces import Interface, Link, fallback_link
from agent.network.plan import plan

#: The machine's interfaces: number 0 is eth0.
INTERFACES = [Interface(f"eth{number}", f"52:54:00:12:34:5{number + 6}") for number in range(3)]
ETH0, ETH1, ETH2 = INTERFACES
#: How a static NIC of the platform's own document uses router advertisements.
QUIET = Nic(0, ra_gateway=False, ra_address=False, ra_dns=False)


def links(*nics: Nic) -> tuple[Link, ...]:
    """Return the links as planned on a machine with those interfaces."""
    physical = {n.number: INTERFACES[n.number] for n in nics if n.kind is Kind.PHYSICAL}
    return plan(nics, physical, slaac=False)


def _static(number: int, *addresses: str, gateways: tuple[str, ...] = ()) -> Nic:
    routes = tuple(
        Route("::/0" if ":" in gateway else "0.0.0.0/0", gateway, on_link=gateway.startswith("fe80"))
        for gateway in gateways
    )
    return replace(QUIET, number=number, addresses=addresses, routes=routes)


CASES: dict[str, tuple[Link, ...]] = {
    "public": links(_static(0, "203.0.113.10/24", "2001:db8::10/64", gateways=("203.0.113.254", "fe80::1"))),
    "routed-32": links(
        replace(
            QUIET,
            addresses=("203.0.113.10/32", "2001:db8::10/128"),
            routes=(
                Route("0.0.0.0/0", "198.51.100.1", on_link=True),
                Route("::/0", "2001:db8:1::1", on_link=True, metric=100),
            ),
            mtu=1450,
        )
    ),
    "private-beside-public": links(
        _static(0, "203.0.113.10/24", "2001:db8::10/64", gateways=("203.0.113.254", "2001:db8::1")),
        Nic(1, addresses=("192.168.1.5/24", "192.168.1.6/24"), ra_address=False, ra_dns=False),
    ),
    "route-without-gateway": links(
        Nic(
            0,
            addresses=("10.0.0.2/24",),
            routes=(Route("10.9.0.0/16"), Route("10.8.0.0/16", "10.0.0.1"), Route("10.7.0.0/16", metric=7)),
        )
    ),
    "slaac-beside-static": links(Nic(0, addresses=("2001:db8::10/64",))),
    "slaac": links(Nic(0)),
    "no-router-advertisements": links(
        Nic(
            0,
            addresses=("2001:db8::10/64",),
            accept_ra=False,
            ra_address=False,
            nameservers=("2001:db8::53", "192.0.2.53"),
            search=("example.com", "example.net"),
        )
    ),
    "dhcp-both": links(Nic(0, dhcp4=True, dhcp6=True, mtu=9000)),
    "dhcp-twice": links(
        Nic(0, dhcp4=True, accept_ra=False, optional=True),
        Nic(1, dhcp4=True, accept_ra=False, search=("example.com",)),
    ),
    "by-name": links(Nic(0, name="eth0", dhcp4=True, accept_ra=False)),
    "bond-with-vlan": links(
        Nic(0),
        Nic(1),
        Nic(
            2,
            name="bond0",
            kind=Kind.BOND,
            ports=(0, 1),
            bond=Bond("802.3ad", 200, "layer3+4", "fast"),
            mac="52:54:00:12:34:aa",
            accept_ra=False,
        ),
        replace(
            _static(3, "203.0.113.10/24", gateways=("203.0.113.254",)),
            name="bond0.10",
            kind=Kind.VLAN,
            parent=2,
            vlan=10,
            mtu=1400,
        ),
    ),
    "bond-with-primary": links(
        Nic(0),
        Nic(1),
        Nic(2, name="bond0", kind=Kind.BOND, ports=(0, 1), bond=Bond(primary=1), dhcp4=True),
    ),
    "bridge": links(
        Nic(0),
        replace(_static(1, "192.0.2.5/24"), name="br0", kind=Kind.BRIDGE, ports=(0,)),
        replace(_static(2, "192.0.2.129/25"), name="br1", kind=Kind.BRIDGE),
    ),
    "vlan-beside-addresses": links(
        Nic(0, dhcp4=True, accept_ra=False),
        replace(_static(1, "192.0.2.5/24"), name="eth0.7", kind=Kind.VLAN, parent=0, vlan=7),
    ),
    "two-gateways": links(
        _static(0, "203.0.113.10/24", "2001:db8::10/64", gateways=("203.0.113.254", "2001:db8::1")),
        _static(1, "198.51.100.10/24", "2001:db8:1::10/64", gateways=("198.51.100.1", "fe80::1")),
    ),
    "two-gateways-in-one-network": links(
        _static(0, "203.0.113.10/24", gateways=("203.0.113.254",)),
        _static(1, "203.0.113.11/24", gateways=("203.0.113.254",)),
    ),
    "second-gateway-outside": links(
        replace(QUIET, dhcp4=True),
        _static(1, "198.51.100.10/24", gateways=("198.51.100.1",)),
        replace(
            QUIET,
            number=2,
            addresses=("192.0.2.7/32",),
            routes=(Route("0.0.0.0/0", "10.255.255.1", on_link=True),),
        ),
    ),
    "in-no-document": (fallback_link(ETH0, required=True),),
    "extra-in-no-document": (fallback_link(ETH1, required=False),),
}
