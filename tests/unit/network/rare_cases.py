"""Documents with the rare values of NICs, by the name of their golden files."""

from __future__ import annotations

from agent.config.nics import (
    AddressOptions,
    Bond,
    BondOptions,
    Bridge,
    Dhcp,
    Kind,
    Match,
    Nic,
    NicOptions,
    Route,
    RouteOptions,
    Rule,
)
from agent.lib.records import replace
from agent.network.interfaces import Link
from agent.network.plan import plan

from .cases import INTERFACES


def links(*nics: Nic) -> tuple[Link, ...]:
    """Return the links as planned on a machine with those interfaces."""
    physical = {n.number: INTERFACES[n.number] for n in nics if n.kind is Kind.PHYSICAL and not n.loopback}
    return plan(nics, physical, slaac=False)


DHCP4 = Dhcp(
    use_dns=False,
    use_domains="route",
    use_hostname=False,
    use_mtu=True,
    use_ntp=False,
    use_routes=False,
    send_hostname=True,
    hostname="vm1",
    route_metric=300,
    identifier="mac",
)
DHCP6 = replace(DHCP4, use_dns=True, send_hostname=False, hostname="vm1-6", route_metric=400)
ADDRESSES = ("192.0.2.7/24", "192.0.2.8/24", "2001:db8::7/64")
OPTIONS = NicOptions(
    set_name="lan0",
    set_mac="02:00:00:00:00:99",
    dhcp4=DHCP4,
    dhcp6=DHCP6,
    addresses=(
        AddressOptions("192.0.2.8/24", label="eth0:1"),
        AddressOptions("2001:db8::7/64", lifetime="0"),
    ),
    link_local=(4,),
    ipv6_mtu=1280,
    ipv6_privacy=True,
    ipv6_address_generation="stable-privacy",
    wake_on_lan=True,
    critical=True,
    ignore_carrier=True,
    activation_mode="manual",
)
ROUTES = (
    Route("0.0.0.0/0", "192.0.2.1", table=101),
    Route("10.0.0.0/8", type="blackhole", metric=7),
    Route("10.1.0.0/16", type="unreachable", table=101),
    Route("2001:db8:1::/48", type="prohibit"),
    Route("10.2.0.0/16", type="throw", table=101),
    Route("198.51.100.9/32", type="local"),
    Route(
        "10.9.0.0/16",
        "192.0.2.1",
        options=RouteOptions(source="192.0.2.8", scope="global", mtu=1400, initcwnd=20, initrwnd=30),
    ),
    Route("10.8.0.0/16", options=RouteOptions(scope="host")),
)
RULES = (
    Rule(101, "192.0.2.7"),
    Rule(101, "192.0.2.0/24", "10.0.0.0/8", priority=50),
    Rule(101, mark=7),
    Rule(101, destination="2001:db8:2::/48", tos=8),
)
BOND = BondOptions(
    min_links=1,
    ad_select="bandwidth",
    all_slaves_active=True,
    arp_interval=500,
    arp_ip_target=("192.0.2.1", "192.0.2.2"),
    arp_validate="all",
    arp_all_targets="any",
    updelay=200,
    downdelay=300,
    fail_over_mac="active",
    num_grat_arp=3,
    packets_per_slave=4,
    primary_reselect="better",
    resend_igmp=5,
    lp_interval=6,
)
FULL = Nic(
    0,
    "52:54:00:12:34:56",
    dhcp4=True,
    dhcp6=True,
    addresses=ADDRESSES,
    routes=ROUTES,
    rules=RULES,
    options=OPTIONS,
)
BOND0 = Nic(2, name="bond0", kind=Kind.BOND, ports=(0, 1), bond=Bond(options=BOND), accept_ra=False)
BRIDGE0 = Nic(
    2,
    name="br0",
    kind=Kind.BRIDGE,
    ports=(0, 1),
    accept_ra=False,
    bridge=Bridge(
        stp=True,
        ageing_time=200,
        priority=4096,
        forward_delay=5,
        hello_time=1,
        max_age=10,
        port_priority=((0, 8),),
        path_cost=((0, 20), (1, 30)),
    ),
)

RARE: dict[str, tuple[Link, ...]] = {
    "everything": links(FULL),
    "token": links(Nic(0, options=NicOptions(ipv6_address_token="::7", link_local=()))),
    "the-same-for-both-versions": links(
        Nic(
            0,
            dhcp4=True,
            dhcp6=True,
            options=NicOptions(dhcp4=Dhcp(use_dns=False), dhcp6=Dhcp(use_dns=False)),
        )
    ),
    "metrics-of-both-versions": links(
        Nic(0, dhcp4=True, dhcp6=True),
        Nic(1, dhcp4=True, accept_ra=False),
    ),
    "made-with-both-versions": links(
        Nic(0),
        Nic(
            2,
            name="br0",
            kind=Kind.BRIDGE,
            ports=(0,),
            dhcp4=True,
            dhcp6=True,
            options=NicOptions(
                dhcp4=Dhcp(use_dns=False, use_ntp=False), dhcp6=Dhcp(use_ntp=False, identifier="mac")
            ),
        ),
        Nic(1, dhcp4=True, accept_ra=False),
    ),
    "never-up": links(Nic(0, dhcp4=True, options=NicOptions(activation_mode="off", link_local=(4, 6)))),
    "loopback": links(
        Nic(
            0,
            name="lo",
            loopback=True,
            addresses=("198.51.100.7/32",),
            routes=(Route("10.0.0.0/8", type="unreachable"),),
        ),
        Nic(1, match=Match(name="e*"), dhcp4=True),
    ),
    "bond": links(Nic(0, options=NicOptions(set_mac="02:00:00:00:00:99", critical=True)), Nic(1), BOND0),
    "bond-without-checks": links(Nic(0), replace(BOND0, ports=(0,), bond=Bond("balance-rr", 0))),
    "bridge": links(Nic(0), Nic(1), BRIDGE0),
    "routes-of-a-family-without-an-address": links(
        Nic(
            0,
            accept_ra=False,
            addresses=("192.0.2.7/24",),
            routes=(Route("::/0", "fe80::1", on_link=True), Route("2001:db8::/32", type="blackhole")),
        )
    ),
}
