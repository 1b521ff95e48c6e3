"""Which bonds, VLANs and bridges are possible; each other one is left out and reported by its path."""

from __future__ import annotations

from typing import Any

import pytest

from agent.config.nics import Bond, Bridge, Kind, Nic, NicOptions, Route, RouteOptions, Rule
from agent.reader.common.problem import Problem
from agent.reader.common.topology import MOST, Link, assemble


def nic(name: str | None, **given: Any) -> Link:
    return Link(f"nics.{name}", Nic(0, name=name, **given), (name,) if name else ())


def bond(name: str, *ports: str, primary: str | None = None, **given: Any) -> Link:
    made = Nic(0, name=name, kind=Kind.BOND, bond=Bond(), **given)
    return Link(f"bonds.{name}", made, (name,), ports, primary=primary)


def bridge(name: str, *ports: str, **given: Any) -> Link:
    return Link(f"bridges.{name}", Nic(0, name=name, kind=Kind.BRIDGE, **given), (name,), ports)


def vlan(name: str, parent: str | None, number: int | None = 5, **given: Any) -> Link:
    made = Nic(0, name=name, kind=Kind.VLAN, vlan=number, **given)
    return Link(f"vlans.{name}", made, (name,), parent=parent)


def lo() -> Link:
    return nic("lo", loopback=True, addresses=("198.51.100.7/32",))


def renamed(name: str, to: str) -> Link:
    return nic(name, options=NicOptions(set_name=to))


def priorities(name: str, *ports: str, **given: int) -> Link:
    made = bridge(name, *ports)
    made.by_port, made.keys = {"port_priority": given}, {"port_priority": "params.bridge_portprio"}
    return made


def build(*links: Link) -> tuple[dict[str | None, Nic], list[Problem]]:
    problems: list[Problem] = []
    return {made.name: made for made in assemble(list(links), problems)}, problems


def test_a_tower() -> None:
    found, problems = build(
        vlan("v5", "bond0"), bridge("br0", "v5", "c"), bond("bond0", "a", "b", primary="b"), *map(nic, "abc")
    )
    assert not problems
    assert {name: one.number for name, one in found.items()} == {
        **{"a": 0, "b": 1, "c": 2},
        **{"v5": 3, "br0": 4, "bond0": 5},
    }
    assert found["bond0"].ports == (0, 1)
    assert found["bond0"].bond == Bond(primary=1)
    assert found["v5"].parent == 5
    assert found["br0"].ports == (3, 2)
    assert not found["a"].accept_ra, "a port listens to no router"


REFUSED = [
    ("missing port", [bond("b0", "a", "x"), nic("a")], "bonds.b0.ports", "no NIC x", {"a", "b0"}),
    ("bond of nothing", [bond("b0", "x")], "bonds.b0.ports", "no NIC x", set()),
    ("no parent", [vlan("v", "x")], "vlans.v.parent", "no NIC x", set()),
    ("parent not given", [vlan("v", None)], "vlans.v.parent", "without a parent", set()),
    ("no id", [vlan("v", "a", None), nic("a")], "vlans.v", "without an id", {"a"}),
    ("on what was left out", [vlan("w", "v"), vlan("v", "x")], "vlans.w.parent", "no NIC v", set()),
    ("itself", [vlan("v", "v")], "vlans.v", "depends on itself", set()),
    ("cycle", [vlan("v", "br"), bridge("br", "v"), nic("a")], "vlans.v", "depends on itself", {"a"}),
    ("name twice", [nic("a"), bridge("a")], "bridges.a", "twice", {"a"}),
    ("MAC twice", [nic("a", mac="m"), nic("b", mac="m")], "nics.b", "MAC address appears twice", {"a"}),
    ("port of two", [bond("b0", "a"), bridge("br", "a"), nic("a")], "bridges.br.ports", "already", None),
    ("bond in bond", [bond("b0", "b1"), bond("b1", "a"), nic("a")], "bonds.b0.ports", "cannot be", None),
    ("bridge in bridge", [bridge("x", "y"), bridge("y")], "bridges.x.ports", "cannot be a port", {"x", "y"}),
    ("VLAN on a bond's port", [bond("b0", "a"), vlan("v", "a"), nic("a")], "vlans.v.parent", "port", None),
    ("VLAN twice", [vlan("v", "a"), vlan("w", "a"), nic("a")], "vlans.w", "same VLAN", {"v", "a"}),
    ("primary", [bond("b0", "a", primary="b"), nic("a"), nic("b")], "bonds.b0.primary", "not one", None),
    (
        "address twice",
        [nic("a", addresses=("1.2.3.4/8",)), nic("b", addresses=("1.2.3.4/24",))],
        "nics.b",
        "an address",
        None,
    ),
    (
        "port with address",
        [bridge("br", "a"), nic("a", addresses=("1.2.3.4/8",))],
        "nics.a",
        "port of br",
        None,
    ),
    ("MTU of a VLAN", [vlan("v", "a", mtu=9000), nic("a", mtu=1500)], "vlans.v.mtu", "larger", None),
    ("MTU for IPv6", [nic("a", mtu=1000, addresses=("2001:db8::1/64",))], "nics.a.mtu", "too small", None),
    (
        "families",
        [nic("a", routes=(Route("::/0", "1.2.3.4"),))],
        "nics.a.routes",
        "a gateway of another IP version",
        None,
    ),
    (
        "family of the source",
        [nic("a", routes=(Route("::/0", options=RouteOptions("1.2.3.4")),))],
        "nics.a.routes",
        "a source address of another IP version",
        None,
    ),
    (
        "gateway to nowhere",
        [nic("a", routes=(Route("1.0.0.0/8", "1.2.3.4", type="throw"),))],
        "nics.a.routes",
        "type throw has no gateway",
        None,
    ),
    ("port of lo", [bridge("br", "lo"), lo()], "bridges.br.ports", "lo cannot be a port", {"br", "lo"}),
    ("VLAN of lo", [vlan("v", "lo"), lo()], "vlans.v.parent", "lo has no VLANs", {"lo"}),
    (
        "name to give twice",
        [renamed("a", "x"), renamed("b", "x")],
        "nics.b.set-name",
        "another NIC has the name",
        {"a", "b"},
    ),
    (
        "name to give is taken",
        [nic("a"), renamed("b", "a")],
        "nics.b.set-name",
        "another NIC has the name",
        {"a", "b"},
    ),
    ("name that was given", [renamed("a", "x"), bridge("x")], "bridges.x", "twice", {"a"}),
    (
        "option of what is no port",
        [priorities("br", "a", b=1), nic("a"), nic("b")],
        "bridges.br.params.bridge_portprio",
        "not one of its ports",
        None,
    ),
]


@pytest.mark.parametrize(
    ("links", "path", "said", "left"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_refused(links: list[Link], path: str, said: str, left: set[str] | None) -> None:
    found, problems = build(*links)
    assert any(problem.path == path and said in problem.message for problem in problems)
    assert all(problem.hint and not problem.harmless for problem in problems)
    assert left is None or set(found) == left
    numbers = {one.number for one in found.values()}
    assert all({*one.ports} <= numbers for one in found.values())


def test_a_virtual_one_needs_a_name() -> None:
    nameless = Link("bridges[0]", Nic(0, kind=Kind.BRIDGE), ())
    found, (problem,) = build(nameless)
    assert not found
    assert "without a name" in problem.message


@pytest.mark.parametrize(
    ("addresses", "gateway", "given", "on_link"),
    [
        (("10.0.0.5/24",), "10.0.0.1", {}, False),
        (("10.0.0.5/32",), "10.0.0.1", {}, True),
        (("10.0.0.5/24",), "10.0.1.1", {}, True),
        (("10.0.0.5/24",), "10.0.1.1", {"dhcp4": True}, False),
        ((), "10.0.1.1", {}, False),
        (("2001:db8::5/64",), "fe80::1", {}, True),
        (("2001:db8::5/128",), "2001:db8::1", {}, True),
        (("10.0.0.5/24", "10.0.1.5/24"), "10.0.1.1", {}, False),
    ],
)
def test_on_link(addresses: tuple[str, ...], gateway: str, given: dict[str, Any], on_link: bool) -> None:
    everything = "::/0" if ":" in gateway else "0.0.0.0/0"
    found, problems = build(nic("a", addresses=addresses, routes=(Route(everything, gateway),), **given))
    assert not problems
    assert [route.on_link for route in found["a"].routes] == [on_link]


def test_numbers_that_are_given_stay() -> None:
    two, other = nic("b"), nic("a")
    two.number = 0
    twice = nic("c")
    twice.number = 0
    found, (problem,) = build(other, two, twice)
    assert (found["b"].number, found["a"].number, found["c"].number) == (0, 1, 2)
    assert problem.path == "nics.c.number"


def test_lo_takes_no_number_of_a_nic() -> None:
    found, problems = build(lo(), nic("a"), bridge("br"))
    assert not problems
    assert {name: one.number for name, one in found.items()} == {"a": 0, "br": 1, "lo": 2}
    assert found["lo"].loopback


def test_nics_may_swap_their_names() -> None:
    found, problems = build(renamed("a", "b"), renamed("b", "a"))
    assert not problems
    assert [one.options for one in found.values()] == [NicOptions(set_name="b"), NicOptions(set_name="a")]


def test_options_by_port_are_by_the_ports_numbers() -> None:
    made = priorities("br", "a", "b", b=7)
    made.by_port["path_cost"] = {"a": 9}
    found, problems = build(made, nic("a"), nic("b"))
    assert not problems
    assert found["br"].bridge == Bridge(port_priority=((1, 7),), path_cost=((0, 9),))


def test_a_route_that_leads_nowhere_keeps_its_type() -> None:
    given = Route("1.0.0.0/8", "1.2.3.4", on_link=True, table=5, type="blackhole")
    found, problems = build(nic("a", routes=(given,)))
    assert [problem.is_error for problem in problems] == [True]
    assert found["a"].routes == (Route("1.0.0.0/8", table=5, type="blackhole"),)


def test_a_port_has_no_rules() -> None:
    found, (problem,) = build(bridge("br", "a"), nic("a", rules=(Rule(5, "1.2.3.4/32"),)))
    assert not found["a"].rules
    assert "port of br" in problem.message


def test_too_many() -> None:
    found, problems = build(*(nic(f"e{n}") for n in range(MOST + 10)))
    assert len(found) == MOST
    assert problems
