"""Documents with the rare values of a NIC: each field of the model is in one of them."""

from __future__ import annotations

from typing import Any

from agent.config.nics import (
    AddressOptions,
    Bond,
    BondOptions,
    Bridge,
    Dhcp,
    Kind,
    Nic,
    NicOptions,
    Route,
    RouteOptions,
    Rule,
)
from agent.lib.records import replace
from agent.network.interfaces import Interface, Link
from agent.network.plan import plan

from .cases import ETH0, QUIET, links

_NO_RA = Nic(0, accept_ra=False, ra_address=False, ra_dns=False, ra_gateway=False)


def _nic(**values: Any) -> Nic:
    return replace(_NO_RA, **values)


def _renamed() -> tuple[Link, ...]:
    nic = _nic(mac=ETH0.mac, dhcp4=True, options=NicOptions(set_name="lan0", set_mac="02:00:00:00:00:01"))
    return plan([nic], {0: Interface("lan0", ETH0.mac)}, slaac=False)


RARE: dict[str, tuple[Link, ...]] = {
    "routes-in-tables": links(
        _nic(
            addresses=("203.0.113.10/24", "2001:db8::10/64"),
            routes=(
                Route("0.0.0.0/0", "203.0.113.254"),
                Route("0.0.0.0/0", "203.0.113.253", table=101),
                Route("::/0", "fe80::1", on_link=True, table=101, metric=7),
                Route("10.0.0.0/8", table=102),
            ),
            rules=(
                Rule(101, source="203.0.113.10"),
                Rule(101, source="2001:db8::10/128", destination="2001:db8:9::/48", priority=50),
                Rule(102, mark=5, tos=16, priority=60),
            ),
        )
    ),
    "routes-that-lead-nowhere": links(
        _nic(
            addresses=("203.0.113.10/24", "2001:db8::10/64"),
            routes=(
                Route("10.0.0.0/8", type="blackhole"),
                Route("10.1.0.0/16", type="unreachable", metric=5),
                Route("10.2.0.0/16", type="prohibit", table=7),
                Route("10.3.0.0/16", type="throw", table=7, metric=9),
                Route("10.4.0.0/16", type="local"),
                Route("2001:db8:1::/48", type="blackhole", metric=11),
                Route("2001:db8:2::/48", type="unreachable", table=7),
            ),
        )
    ),
    "options-of-routes": links(
        _nic(
            addresses=("203.0.113.10/24", "2001:db8::10/64"),
            routes=(
                Route(
                    "10.0.0.0/8",
                    "203.0.113.1",
                    options=RouteOptions("203.0.113.10", mtu=1400, initcwnd=20, initrwnd=30),
                ),
                Route("10.1.0.0/16", metric=3, options=RouteOptions(scope="host")),
                Route("10.2.0.0/16", options=RouteOptions(scope="global")),
                Route("2001:db8:1::/48", "fe80::1", True, 9, options=RouteOptions("2001:db8::10", mtu=1300)),
            ),
        )
    ),
    "routes-without-addresses": links(
        _nic(
            addresses=("203.0.113.10/24",),
            routes=(Route("2001:db8:1::/48"), Route("2001:db8:2::/48", "fe80::1", on_link=True)),
        ),
        _nic(
            number=1,
            addresses=("2001:db8::10/64",),
            routes=(Route("10.0.0.0/8"), Route("10.9.0.0/16", type="blackhole")),
            rules=(Rule(7, source="10.0.0.0/8", priority=99),),
        ),
        _nic(number=2, routes=(Route("10.20.0.0/16"), Route("2001:db8:3::/48"))),
    ),
    "only-blackholes": links(_nic(routes=(Route("10.0.0.0/8", type="blackhole"),))),
    "dhcp-ignored": links(
        _nic(
            dhcp4=True,
            dhcp6=True,
            options=NicOptions(
                dhcp4=Dhcp(
                    False, "false", False, False, False, False, send_hostname=False, route_metric=300
                ),
                dhcp6=Dhcp(use_dns=False, use_ntp=False, send_hostname=False),
            ),
        )
    ),
    "dhcp-said": links(
        _nic(
            dhcp4=True,
            options=NicOptions(
                dhcp4=Dhcp(True, "true", True, True, True, True, True, "web-1", identifier="mac"),
            ),
        ),
        _nic(
            number=1,
            dhcp4=True,
            dhcp6=True,
            options=NicOptions(
                dhcp4=Dhcp(use_domains="route", identifier="duid"),
                dhcp6=Dhcp(use_hostname=False, hostname="web-2", identifier="mac"),
            ),
        ),
    ),
    "dhcp-switches-apart": links(
        Nic(
            0,
            dhcp4=True,
            dhcp6=True,
            options=NicOptions(dhcp4=Dhcp(use_hostname=False), dhcp6=Dhcp(use_dns=False, use_hostname=True)),
        )
    ),
    "addresses-with-options": links(
        _nic(
            addresses=("203.0.113.10/24", "203.0.113.11/24", "203.0.113.12/24", "2001:db8::10/64"),
            options=NicOptions(
                addresses=(
                    AddressOptions("203.0.113.10/24", "eth0:web", "forever"),
                    AddressOptions("203.0.113.11/24", "web"),
                    AddressOptions("203.0.113.12/24", lifetime="0"),
                    AddressOptions("2001:db8::10/64", lifetime="0"),
                )
            ),
        )
    ),
    "ipv6-settings": links(
        Nic(0, options=NicOptions(ipv6_mtu=1400, ipv6_privacy=True, ipv6_address_token="::10")),
        Nic(
            1,
            addresses=("2001:db8::1/64",),
            options=NicOptions(ipv6_privacy=False, ipv6_address_generation="eui64"),
        ),
        Nic(2, options=NicOptions(ipv6_address_generation="stable-privacy")),
    ),
    "link-local": links(
        _nic(addresses=("203.0.113.10/24",), options=NicOptions(link_local=())),
        _nic(number=1, addresses=("198.51.100.10/24",), options=NicOptions(link_local=(4, 6))),
        _nic(number=2, options=NicOptions(link_local=(4,))),
    ),
    "no-link-local-beside-ipv6": links(
        _nic(addresses=("2001:db8::1/64",), options=NicOptions(link_local=()))
    ),
    "renamed": _renamed(),
    "how-it-is-brought-up": links(
        _nic(addresses=("203.0.113.10/24",), options=NicOptions(critical=True, ignore_carrier=True)),
        _nic(number=1, dhcp4=True, options=NicOptions(activation_mode="manual", wake_on_lan=True)),
        _nic(
            number=2,
            addresses=("198.51.100.10/24",),
            options=NicOptions(activation_mode="off", wake_on_lan=False),
        ),
    ),
    "loopback": links(
        Nic(
            0,
            loopback=True,
            addresses=("10.10.10.10/32", "2001:db8::53/128"),
            routes=(Route("10.11.0.0/16", type="local"), Route("2001:db8:1::/48", type="blackhole")),
        ),
        _nic(number=1, addresses=("203.0.113.10/24",)),
    ),
    "bond-without-checks": links(
        Nic(0),
        Nic(1),
        _nic(number=2, name="bond0", kind=Kind.BOND, ports=(0, 1), bond=Bond("balance-rr", 0), dhcp4=True),
    ),
    "bond-options": links(
        Nic(0),
        Nic(1),
        _nic(
            number=2,
            name="bond0",
            kind=Kind.BOND,
            ports=(0, 1),
            bond=Bond(
                "802.3ad",
                100,
                options=BondOptions(
                    min_links=1,
                    ad_select="count",
                    all_slaves_active=True,
                    updelay=200,
                    downdelay=300,
                    fail_over_mac="active",
                    num_grat_arp=3,
                    primary_reselect="better",
                    resend_igmp=4,
                    lp_interval=5,
                ),
            ),
            addresses=("203.0.113.10/24",),
        ),
    ),
    "bond-by-arp": links(
        Nic(0),
        Nic(1),
        _nic(
            number=2,
            name="bond0",
            kind=Kind.BOND,
            ports=(0, 1),
            bond=Bond(
                options=BondOptions(
                    arp_interval=250,
                    arp_ip_target=("203.0.113.1", "203.0.113.2"),
                    arp_validate="all",
                    arp_all_targets="any",
                ),
            ),
            addresses=("203.0.113.10/24",),
        ),
    ),
    "bond-round-robin": links(
        Nic(0),
        _nic(
            number=1,
            name="bond0",
            kind=Kind.BOND,
            ports=(0,),
            bond=Bond("balance-rr", options=BondOptions(packets_per_slave=3)),
        ),
    ),
    "bridge-options": links(
        Nic(0, options=NicOptions(set_mac="02:00:00:00:00:02")),
        Nic(1),
        _nic(
            number=2,
            name="br0",
            kind=Kind.BRIDGE,
            ports=(0, 1),
            bridge=Bridge(True, 250, 100, 4, 3, 12, ((0, 30),), ((0, 50), (1, 60))),
            addresses=("203.0.113.10/24",),
        ),
    ),
    "bridge-outside-limits": links(
        Nic(0),
        _nic(number=1, name="br0", kind=Kind.BRIDGE, ports=(0,), bridge=Bridge(False, forward_delay=0)),
    ),
    "resolver-without-its-ip-version": links(
        _nic(addresses=("2001:db8::10/64",), nameservers=("192.0.2.53", "2001:db8::53"))
    ),
    "quiet-with-a-table": links(
        QUIET,
        _nic(number=1, addresses=("192.0.2.1/24",), routes=(Route("10.0.0.0/8", "192.0.2.254", table=5),)),
    ),
}
