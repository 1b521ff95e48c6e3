"""The links made from a document's NICs: their relations, which one the boot waits for, the order of the
default routes, and which replies use which table.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.config.nics import Bond, Dhcp, Kind, Nic, NicOptions, Route, Rule
from agent.lib.records import replace
from agent.network.interfaces import LOOPBACK, Interface, Link, is_default
from agent.network.plan import plan

GATEWAYS = {4: "192.0.2.254", 6: "2001:db8::fe"}
ANYWHERE = {4: "0.0.0.0/0", 6: "::/0"}


def _links(*nics: Nic, there: set[int] | None = None) -> dict[int, Link]:
    numbers = {n.number for n in nics if n.kind is Kind.PHYSICAL and not n.loopback}
    physical = {n: Interface(f"eth{n}", f"52:54:00:00:00:{n:02x}") for n in numbers & (there or numbers)}
    return {link.nic.number: link for link in plan(nics, physical, slaac=False)}


def _out(number: int, *addresses: str, family: int = 4, metric: int | None = None) -> Nic:
    route = Route(ANYWHERE[family], GATEWAYS[family], metric=metric)
    return Nic(number, addresses=addresses, routes=(route,), accept_ra=False)


def _rule(number: int, source: str, to: str | None = None) -> Rule:
    """Return the rule that the agent adds for the NIC's own table."""
    return Rule(10_000 + number, source, to, 10_000)


BOND = Nic(5, name="bond0", kind=Kind.BOND, ports=(0, 1), bond=Bond(), dhcp4=True)
VLAN = Nic(3, name="vlan7", kind=Kind.VLAN, parent=5, vlan=7)
BRIDGE = Nic(4, name="br0", kind=Kind.BRIDGE, ports=(3,))


def test_what_is_made_knows_what_of_and_what_it_is_for() -> None:
    links = _links(Nic(0), Nic(1), VLAN, BRIDGE, BOND)
    assert [port.name for port in links[5].ports] == ["eth0", "eth1"]
    assert links[0].master is not None
    assert links[0].master.name == "bond0"
    assert links[5].vlans == ("vlan7",)
    assert links[3].parent is not None
    assert links[3].parent.name == "bond0"
    assert links[3].master is not None
    assert links[3].master.name == "br0"


def test_a_bond_is_made_of_the_ports_that_are_there_and_of_none_it_is_not() -> None:
    assert [port.name for port in _links(Nic(0), Nic(1), BOND, there={1})[5].ports] == ["eth1"]
    assert _links(Nic(0), BOND, VLAN, BRIDGE, Nic(9), there={9}).keys() == {9}
    alone = Nic(2, name="br9", kind=Kind.BRIDGE)
    assert _links(Nic(0), alone).keys() == {0, 2}


def test_the_boot_waits_for_the_way_out_and_for_no_port() -> None:
    links = _links(Nic(0), Nic(1), BOND)
    assert [n for n, link in links.items() if link.required] == [5]
    optional = replace(_out(0, "192.0.2.1/24"), optional=True)
    links = _links(optional, Nic(1), _out(2, "192.0.2.2/24"))
    assert [n for n, link in links.items() if link.required] == [2]
    assert [n for n, link in _links(optional).items() if link.required] == [0]


def test_one_way_out_is_left_as_it_is() -> None:
    links = _links(_out(0, "192.0.2.1/24"), Nic(1, addresses=("10.0.0.1/24",), accept_ra=False))
    assert links[0].routes == links[0].nic.routes
    assert (links[0].table, links[1].table) == (None, None)
    assert links[0].metric4 is None


def test_the_first_answers_by_its_own_table_towards_the_others_networks_only() -> None:
    links = _links(_out(0, "192.0.2.1/24"), _out(1, "198.51.100.1/24", "198.51.100.2/24"))
    first, second = links[0].table, links[1].table
    assert first is not None
    assert second is not None
    assert first.rules == (_rule(0, "192.0.2.1", "198.51.100.0/24"),)
    assert second.rules == (_rule(1, "198.51.100.1"), _rule(1, "198.51.100.2"))
    assert second.routes == (
        Route("198.51.100.0/24", table=10001),
        Route("0.0.0.0/0", GATEWAYS[4], table=10001),
    )


def test_several_default_routes_of_one_nic_keep_their_order() -> None:
    first = _out(0, "192.0.2.1/24", metric=100)
    backup = replace(first.routes[0], gateway="192.0.2.254", metric=200)
    links = _links(replace(first, routes=(*first.routes, backup)), _out(1, "198.51.100.1/24", metric=100))
    assert [[route.metric for route in links[n].routes] for n in (0, 1)] == [[100, 300], [200]]
    assert [links[n].metric4 for n in (0, 1)] == [100, 200]
    table = links[0].table
    assert table
    assert [route.metric for route in table.routes if route.gateway] == [100, 200]


def test_the_document_s_metric_decides_which_is_first() -> None:
    links = _links(_out(0, "192.0.2.1/24", metric=500), _out(1, "198.51.100.1/24", metric=50))
    assert [links[n].routes[0].metric for n in (0, 1)] == [500, 50]
    assert links[0].table is not None
    assert links[0].table.rules == (_rule(0, "192.0.2.1"),)


def test_a_lease_takes_part_and_families_are_apart() -> None:
    leased = Nic(1, dhcp4=True, accept_ra=False)
    links = _links(_out(0, "192.0.2.1/24"), leased, _out(2, "2001:db8::1/64", family=6))
    assert (links[0].metric4, links[1].metric4) == (100, 200)
    assert links[2].metric6 is None
    assert links[2].routes == links[2].nic.routes
    assert {link.table for link in links.values()} == {None}


def test_beside_a_lease_that_comes_first_a_static_nic_answers_by_its_own_table() -> None:
    leased = Nic(0, dhcp4=True, accept_ra=False)
    links = _links(leased, _out(1, "198.51.100.1/24"))
    assert links[0].table is None
    assert links[1].table is not None
    assert links[1].table.rules == (_rule(1, "198.51.100.1"),)
    assert links[1].table.routes == (
        Route("198.51.100.0/24", table=10001),
        Route("0.0.0.0/0", GATEWAYS[4], table=10001),
    )
    links = _links(leased, _out(1, "198.51.100.1/24"), _out(2, "203.0.113.7/32"))
    assert [t.rules for n in (1, 2) if (t := links[n].table)] == [
        (_rule(1, "198.51.100.1"),),
        (_rule(2, "203.0.113.7"),),
    ]


def test_link_local_addresses_belong_to_no_nic() -> None:
    links = _links(
        _out(0, "fe80::1/64", "2001:db8::1/64", family=6),
        _out(1, "fe80::1/64", "2001:db8:1::1/64", family=6),
    )
    tables = [links[n].table for n in (0, 1)]
    assert all("fe80" not in (rule.source or "") for table in tables if table for rule in table.rules)


_NICS = st.lists(
    st.builds(
        lambda number, family, metric, dhcp: replace(
            _out(number, {4: f"10.{number}.0.1/24", 6: f"2001:db8:{number}::1/64"}[family], family=family),
            routes=(Route(ANYWHERE[family], GATEWAYS[family], metric=metric),),
            dhcp4=dhcp,
        ),
        st.integers(0, 200),
        st.sampled_from((4, 6)),
        st.none() | st.integers(0, 300),
        st.booleans(),
    ),
    unique_by=lambda nic: nic.number,
    max_size=5,
)


@given(_NICS)
def test_every_way_out_has_a_metric_of_its_own(nics: list[Nic]) -> None:
    links = _links(*nics).values()
    for family in (4, 6):
        ways = [link for link in links if link.has_default_route(family)]
        if len(ways) < 2:
            continue
        metrics = [link.metric4 if family == 4 else link.metric6 for link in ways]
        assert None not in metrics
        assert len(set(metrics)) == len(metrics)
        for link, metric in zip(ways, metrics, strict=True):
            assert {r.metric for r in link.routes if is_default(r, family)} <= {metric}


def test_a_document_with_rules_routes_by_them_alone() -> None:
    ruled = replace(_out(0, "192.0.2.1/24"), rules=(Rule(7, "192.0.2.1"),))
    links = _links(ruled, _out(1, "198.51.100.1/24"))
    assert {link.table for link in links.values()} == {None}
    assert [links[n].routes[0].metric for n in (0, 1)] == [100, 200]
    six = replace(ruled, rules=(Rule(7, "2001:db8::1"),))
    assert all(link.table for link in _links(six, _out(1, "198.51.100.1/24")).values())


def test_own_tables_are_none_of_the_document_s() -> None:
    taken = replace(
        _out(0, "192.0.2.1/24"), routes=(Route("0.0.0.0/0", GATEWAYS[4]), Route("10.0.0.0/8", table=10_001))
    )
    links = _links(taken, _out(1, "198.51.100.1/24"))
    tables = [table for n in (0, 1) if (table := links[n].table)]
    assert [table.number for table in tables] == [20_000, 20_001]
    assert {route.table for route in links[1].all_routes} == {None, 20_001}
    assert {rule.table for rule in links[1].all_rules} == {20_001}
    # A route of another table is no way of the machine's own traffic, and is not copied.
    assert [route.destination for route in tables[0].routes] == [
        "192.0.2.0/24",
        "0.0.0.0/0",
    ]
    aside = replace(_out(0), routes=(Route("0.0.0.0/0", GATEWAYS[4], table=7),))
    assert not any(link.table for link in _links(aside, _out(1, "198.51.100.1/24")).values())


def test_metrics_of_leases_are_the_document_s_and_order_the_gateways() -> None:
    leased = Nic(0, dhcp4=True, accept_ra=False, options=NicOptions(dhcp4=Dhcp(route_metric=300)))
    assert _links(leased)[0].metric4 == 300
    links = _links(leased, _out(1, "198.51.100.1/24", metric=50))
    assert (links[0].metric4, links[1].routes[0].metric) == (300, 50)
    without = replace(leased, options=NicOptions(dhcp4=Dhcp(use_routes=False)))
    assert not any(link.table for link in _links(without, _out(1, "198.51.100.1/24")).values())


def test_lo_is_itself_and_nothing_waits_for_it() -> None:
    links = _links(Nic(0, loopback=True, name="lo", addresses=("192.0.2.7/32",)), Nic(1))
    assert links[0].interface == LOOPBACK
    assert (links[0].required, links[1].required) == (False, True)
    assert not links[0].nic.accept_ra


def test_the_boot_does_not_wait_for_what_stays_down() -> None:
    off = Nic(0, dhcp4=True, options=NicOptions(activation_mode="off"))
    assert [link.required for link in _links(off, Nic(1)).values()] == [False, True]
    assert not _links(off)[0].required


def test_the_boot_waits_for_a_gateway_of_the_main_table() -> None:
    aside = replace(_out(0), routes=(Route("0.0.0.0/0", GATEWAYS[4], table=101),))
    assert [link.required for link in _links(aside, Nic(1, dhcp4=True)).values()] == [False, True]
