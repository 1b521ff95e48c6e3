"""What is left out for netplan's backend NetworkManager, and named. That this is all of it is shown with
netplan itself (tests/vm/test_netplan_for_networkmanager.py).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config.nics import AddressOptions, Bond, Dhcp, Kind, Nic, NicOptions, Route, RouteOptions, Rule
from agent.host.host import Host
from agent.lib.records import replace
from agent.network import netplan
from agent.network.interfaces import fallback_link

from .cases import CASES, ETH0
from .readback import links_of
from .readback_cases import RARE

_V4 = Nic(0, accept_ra=True, addresses=("192.0.2.7/24",))
_V6 = Nic(0, accept_ra=False, addresses=("2001:db8::7/64",))
_BOTH = replace(_V6, addresses=("192.0.2.7/24", "2001:db8::7/64"))
_LEASED = Nic(0, dhcp4=True, dhcp6=True)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A machine on which netplan's backend is NetworkManager."""
    host = Host(tmp_path)
    host.write("/usr/lib/netplan/00-network-manager-all.yaml", "network:\n  renderer: NetworkManager\n")
    return host


def _options(nic: Nic, **values: object) -> Nic:
    return replace(nic, options=NicOptions(**values))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("nic", "named"),
    [
        (_V4, []),
        (_BOTH, []),
        (_LEASED, []),
        (Nic(0), []),
        # Refused with all of netplan's files.
        (replace(_V4, routes=(Route("10.0.0.0/8", type="blackhole"),)), ["routes[0].type"]),
        (
            _options(_BOTH, addresses=(AddressOptions("192.0.2.7/24", "web", "0"),)),
            ["addresses[0].label", "addresses[0].lifetime"],
        ),
        (_options(_BOTH, addresses=(AddressOptions("192.0.2.7/24", lifetime="forever"),)), []),
        (_options(_BOTH, ipv6_mtu=1400), ["ipv6_mtu"]),
        (_options(_V4, activation_mode="off"), []),
        # NetworkManager would refuse the profile.
        (replace(_V4, nameservers=("2001:db8::53", "192.0.2.53")), ["nameservers[0]"]),
        (replace(_V6, nameservers=("2001:db8::53", "192.0.2.53")), ["nameservers[1]"]),
        (_options(_V4, ipv6_address_generation="eui64"), ["ipv6_address_generation"]),
        # Not passed on.
        (
            replace(_V4, routes=(Route("2001:db8:1::/48"),), rules=(Rule(7, "2001:db8::/32"),)),
            ["routes[0]", "rules[0]"],
        ),
        (
            replace(_V4, routes=(Route("10.0.0.0/8", options=RouteOptions(scope="host")),)),
            ["routes[0].scope"],
        ),
        (
            replace(_V4, routes=(Route("10.0.0.0/8", "192.0.2.1", options=RouteOptions(scope="link")),)),
            ["routes[0]"],
        ),
        (replace(_V4, rules=(Rule(7, tos=8), Rule(7, tos=16))), ["rules[1].tos"]),
        (_options(_V4, ignore_carrier=True, critical=True), ["ignore_carrier"]),
        (_options(_V4, link_local=(4,)), ["link_local"]),
        (
            _options(_LEASED, dhcp4=Dhcp(use_dns=False, use_routes=False)),
            ["dhcp4.use_dns", "dhcp4.use_routes"],
        ),
        (_options(replace(_LEASED, dhcp6=False), dhcp4=Dhcp(use_routes=False, route_metric=7)), []),
        (replace(_LEASED, ra_dns=False), ["ra_dns"]),
        (replace(_LEASED, dhcp6=False, accept_ra=False), ["ra_address", "ra_gateway"]),
        (replace(_V6, accept_ra=True), ["ra_address", "ra_dns", "ra_gateway"]),
        (
            Nic(0, loopback=True, addresses=("10.0.0.1/32",), routes=(Route("10.1.0.0/16", type="local"),)),
            ["addresses[0]", "routes[0]"],
        ),
    ],
)
def test_what_is_named(host: Host, nic: Nic, named: list[str]) -> None:
    (link,) = links_of([nic])
    found = netplan.possible(host, link)[1]
    assert sorted(found) == named
    assert all(why.startswith("for NetworkManager: ") for why in found.values())


def test_a_route_is_left_out_as_a_whole_and_the_others_stay(host: Host) -> None:
    (link,) = RARE["routes-that-lead-nowhere"]
    text = netplan.render(netplan.possible(host, link)[0])[0].text
    assert "routes:" not in text
    assert '"203.0.113.10/24"' in text
    options = (Route("10.1.0.0/16", type="blackhole"), Route("10.2.0.0/16", "192.0.2.1", metric=7))
    (link,) = links_of([replace(_V4, routes=options)])
    rest = netplan.possible(host, link)[0]
    assert rest.routes == rest.nic.routes == options[1:]


def test_the_nic_s_own_table_has_no_copy_of_what_is_left_out(host: Host) -> None:
    more = (Route("10.0.0.0/8", type="blackhole"),)
    first, second = (link.nic for link in CASES["two-gateways"])
    link = links_of([first, replace(second, routes=second.routes + more)])[1]
    rest, named = netplan.possible(host, link)
    assert list(named) == ["routes[2].type"]
    assert link.table
    assert rest.table
    assert [route for route in link.table.routes if route not in rest.table.routes] == [
        replace(more[0], table=link.table.number)
    ]


def test_what_means_the_same_is_written_as_netplan_passes_it_on(host: Host) -> None:
    rules = (Rule(7, "192.0.2.7"), Rule(8, "192.0.2.7", priority=50))
    (link,) = links_of([_options(replace(_V4, rules=rules), activation_mode="off")])
    rest, named = netplan.possible(host, link)
    assert named == {}
    assert [rule.priority for rule in rest.nic.rules] == [32765, 50]
    assert 'activation-mode: "manual"' in netplan.render(rest)[0].text


def test_a_bond_s_primary_port_has_another_name_there(host: Host) -> None:
    bond = Bond(primary=0)
    links = links_of([Nic(0), Nic(1, name="bond0", kind=Kind.BOND, ports=(0,), bond=bond, dhcp4=True)])
    rest, named = netplan.possible(host, links[1])
    assert list(named) == ["bond.primary"]
    assert "primary" not in netplan.render(rest)[0].text


def test_nothing_is_left_out_for_networkd_or_of_a_nic_outside_the_document(
    host: Host, tmp_path: Path
) -> None:
    for link in RARE["routes-that-lead-nowhere"]:
        assert netplan.possible(Host(tmp_path / "other"), link) == (link, {})
    outside = fallback_link(ETH0, required=True)
    assert netplan.possible(host, outside) == (outside, {})
