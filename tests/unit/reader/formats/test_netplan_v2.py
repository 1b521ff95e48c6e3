"""network-config version 2: each key of netplan-yaml(5) becomes part of the model or is named."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

from agent.config import nics
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
from agent.reader.common.bounds import Unreadable
from agent.reader.common.merge import Draft
from agent.reader.common.problem import ERROR, HARMLESS, UNSUPPORTED, Problem
from agent.reader.formats import netplan_v2, yaml_events

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A document in which nothing is missing from the model.
WHOLE = """
version: 2
ethernets:
  lan:
    match: {macaddress: 52:54:00:12:34:56, name: "en*", driver: [virtio_net, "e1000*"]}
    set-name: lan0
    macaddress: 52:54:00:12:34:99
    wakeonlan: true
    dhcp4: true
    dhcp6: true
    dhcp-identifier: mac
    dhcp4-overrides:
      {use-dns: false, use-domains: route, use-hostname: false, use-mtu: false, use-ntp: false,
       use-routes: false, send-hostname: false, hostname: other, route-metric: 50}
    dhcp6-overrides: {use-dns: no, use-domains: true}
    ra-overrides: {use-dns: false}
    link-local: [ipv4]
    ipv6-mtu: 1400
    ipv6-privacy: true
    ipv6-address-generation: stable-privacy
    critical: true
    ignore-carrier: true
    activation-mode: manual
    mtu: 1500
  named:
    match: {name: ens3}
    addresses: [10.0.0.5/24, {10.0.0.6/24: {label: "ens3:one", lifetime: 0}}]
    gateway4: 10.0.0.1
    gateway6: fe80::1
    accept-ra: no
    ipv6-address-token: ::2
    optional: true
    nameservers: {search: "barley.example sach.example", addresses: [192.0.2.53, "2001:db8::53"]}
    routes:
    - {to: 10.1.0.0/16, via: 10.0.0.2, from: 10.0.0.5, table: 101, metric: 7, on-link: true, scope: global,
       mtu: 1400, congestion-window: 20, advertised-receive-window: 30}
    - {to: 203.0.113.0/24, type: blackhole}
    routing-policy:
    - {from: 10.0.0.5, to: 10.2.0.0/16, table: 101, priority: 5, mark: 6, type-of-service: 8}
  p1: {}
  p2:
  p3: {}
  p4: {}
  p5: {}
  p6: {}
bonds:
  bond0:
    interfaces: [p1, p4]
    macaddress: 52:54:00:12:34:98
    parameters:
      {mode: 802.3ad, lacp-rate: fast, mii-monitor-interval: 100, min-links: 1,
       transmit-hash-policy: layer3+4, ad-select: count, all-members-active: true,
       up-delay: 200, down-delay: 300ms, gratuitous-arp: 3, resend-igmp: 5, learn-packet-interval: 6}
  bond1:
    interfaces: [p2, p5]
    parameters:
      {mode: active-backup, arp-interval: 2s, arp-ip-targets: [10.0.0.1], arp-validate: all,
       arp-all-targets: any, fail-over-mac-policy: follow, primary: p2, primary-reselect-policy: better}
  bond2: {interfaces: [p6], parameters: {packets-per-member: 4}}
bridges:
  br0:
    interfaces: [p3, v7]
    parameters:
      {stp: false, ageing-time: 1m, priority: 100, forward-delay: 4, hello-time: 2000ms, max-age: 12,
       port-priority: {p3: 20, v7: 30}, path-cost: {p3: 40}}
vlans:
  v7: {id: 7, link: bond0}
"""


@pytest.fixture(autouse=True, scope="module")
def library() -> None:
    yaml_events.load()


def load(text: str) -> dict[str, Any]:
    document = yaml_events.read("network-config", text, [])
    assert isinstance(document, dict)
    return document


def read_document(document: dict[str, Any]) -> tuple[tuple[Nic, ...], list[Problem]]:
    draft = Draft("nocloud")
    netplan_v2.read(document, "n", draft)
    return draft.nics, draft.problems


def read(text: str) -> tuple[dict[str | None, Nic], list[Problem]]:
    found, problems = read_document(load(text))
    return {nic.name or nic.mac: nic for nic in found}, problems


def ethernet(keys: str, name: str = "eth0") -> tuple[Nic | None, list[Problem]]:
    """Return what becomes of one NIC with these keys."""
    found, problems = read(f"ethernets: {{{name}: {{{keys}}}}}")
    return next(iter(found.values()), None), problems


def test_everything_has_its_place() -> None:
    found, problems = read(WHOLE)
    assert not problems
    lan = found["52:54:00:12:34:56"]
    dhcp4 = Dhcp(False, "route", False, False, False, False, False, "other", 50, "mac")
    assert (lan.name, lan.match) == (None, Match("en*", ("virtio_net", "e1000*")))
    assert (lan.dhcp4, lan.dhcp6, lan.ra_dns, lan.mtu, lan.optional) == (True, True, False, 1500, True)
    assert lan.options == NicOptions(
        set_name="lan0",
        set_mac="52:54:00:12:34:99",
        dhcp4=dhcp4,
        dhcp6=Dhcp(use_dns=False, use_domains="yes"),
        link_local=(4,),
        ipv6_mtu=1400,
        ipv6_privacy=True,
        ipv6_address_generation="stable-privacy",
        wake_on_lan=True,
        critical=True,
        ignore_carrier=True,
        activation_mode="manual",
    )
    named = found["ens3"]
    assert named.addresses == ("10.0.0.5/24", "10.0.0.6/24")
    assert named.options == NicOptions(
        addresses=(AddressOptions("10.0.0.6/24", "ens3:one", "0"),), ipv6_address_token="::2"
    )
    assert named.routes == (
        Route("0.0.0.0/0", "10.0.0.1"),
        Route("::/0", "fe80::1", on_link=True),
        Route(
            "10.1.0.0/16", "10.0.0.2", True, 7, 101, options=RouteOptions("10.0.0.5", "global", 1400, 20, 30)
        ),
        Route("203.0.113.0/24", type="blackhole"),
    )
    assert named.rules == (Rule(101, "10.0.0.5/32", "10.2.0.0/16", 5, 6, 8),)
    assert named.nameservers == ("192.0.2.53", "2001:db8::53")
    assert named.search == ("barley.example", "sach.example")
    assert (named.accept_ra, named.optional) == (False, True)
    assert found["p1"] == Nic(found["p1"].number, name="p1", accept_ra=False)
    bond, bridge = found["bond0"], found["br0"]
    assert bond.mac == "52:54:00:12:34:98"
    assert bond.bond == Bond(
        "802.3ad",
        100,
        "layer3+4",
        "fast",
        options=BondOptions(
            min_links=1,
            ad_select="count",
            all_slaves_active=True,
            updelay=200,
            downdelay=300,
            num_grat_arp=3,
            resend_igmp=5,
            lp_interval=6,
        ),
    )
    by_arp = BondOptions(
        arp_interval=2000,
        arp_ip_target=("10.0.0.1",),
        arp_validate="all",
        arp_all_targets="any",
        fail_over_mac="follow",
        primary_reselect="better",
    )
    assert found["bond1"].bond == Bond("active-backup", 0, primary=found["p2"].number, options=by_arp)
    assert found["bond2"].bond == Bond("balance-rr", options=BondOptions(packets_per_slave=4))
    p3, v7 = found["p3"].number, found["v7"].number
    assert bridge.bridge == Bridge(False, 60, 100, 4, 2, 12, ((p3, 20), (v7, 30)), ((p3, 40),))
    assert [nics.from_dict(nics.to_dict(nic)) for nic in found.values()] == list(found.values())


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of each value, those inside of others included."""
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    for key, one in inside:
        yield (*at, key)
        if isinstance(one, dict | list):
            yield from places(one, (*at, key))


def container(document: Any, place: tuple[Any, ...]) -> Any:
    """Return what the value of the place is in."""
    for step in place[:-1]:
        document = document[step]
    return document


def test_no_value_is_lost() -> None:
    document = load(WHOLE)
    whole = read_document(copy.deepcopy(document))
    given = [place for place in places(document) if place != ("version",)]
    assert len(given) > 120
    for place in given:
        without = copy.deepcopy(document)
        del container(without, place)[place[-1]]
        assert read_document(without) != whole, place


@pytest.mark.parametrize("wrong", ["lo", {"a": "b"}, [[None]], Unreadable("too much")], ids=repr)
def test_anything_anywhere_gives_a_model(wrong: Any) -> None:
    document = load(WHOLE)
    for place in places(document):
        changed = copy.deepcopy(document)
        container(changed, place)[place[-1]] = wrong
        found, problems = read_document(changed)
        assert [nics.from_dict(nics.to_dict(nic)) for nic in found] == list(found)
        assert all(problem.hint or problem.harmless for problem in problems), problems


@pytest.mark.parametrize(
    ("entries", "address"),
    [
        ("lo: {addresses: [198.51.100.7/32]}, all: {match: {name: 'e*'}, dhcp4: true}", "198.51.100.7/32"),
        (
            "nic: {match: {macaddress: '52:54:00:00:00:01'}, dhcp4: true},"
            " self: {match: {name: lo}, addresses: ['2001:db8::7/128']}",
            "2001:db8::7/128",
        ),
    ],
)
def test_the_address_of_lo_stays_there(entries: str, address: str) -> None:
    (nic, lo), problems = read_document(load(f"ethernets: {{{entries}}}"))
    assert not problems
    assert lo == Nic(1, name="lo", loopback=True, addresses=(address,))
    assert (nic.number, nic.dhcp4, nic.addresses, nic.loopback) == (0, True, (), False)


def test_what_lo_has_and_cannot_have() -> None:
    lo, problems = ethernet(
        "addresses: [127.0.0.1/8, '::1/128', {127.0.0.53/8: {label: 'lo:1'}}], dhcp4: true, set-name: x,"
        " match: {name: lo},"
        " routes: [{to: 203.0.113.0/24, type: local, table: 7}],"
        " routing-policy: [{from: 198.51.100.7, table: 7}]"
    )
    assert lo == Nic(
        0,
        name="lo",
        loopback=True,
        addresses=("127.0.0.53/8",),
        routes=(Route("203.0.113.0/24", table=7, type="local"),),
        rules=(Rule(7, "198.51.100.7/32"),),
        options=NicOptions(addresses=(AddressOptions("127.0.0.53/8", "lo:1"),)),
    )
    assert sorted((problem.path, problem.severity) for problem in problems) == [
        ("n: ethernets.eth0.addresses[0]", HARMLESS),
        ("n: ethernets.eth0.addresses[1]", HARMLESS),
        ("n: ethernets.eth0.dhcp4", ERROR),
        ("n: ethernets.eth0.set-name", ERROR),
    ]


@pytest.mark.parametrize(
    ("text", "routes", "rules"),
    [
        (
            "ethernets: {e0: {addresses: [192.0.2.10/24], routes: [{to: 0.0.0.0/0, via: 192.0.2.1,"
            " table: 101}, {to: 203.0.113.0/24, type: blackhole}],"
            " routing-policy: [{from: 192.0.2.10, table: 101}]}}",
            (
                Route("0.0.0.0/0", "192.0.2.1", table=101),
                Route("203.0.113.0/24", type="blackhole"),
            ),
            (Rule(101, "192.0.2.10/32"),),
        ),
        (
            "bridges: {e0: {addresses: ['2001:db8::9/64'], routes: [{to: default, via: '2001:db8::1',"
            " table: 7}, {to: '2001:db8:dead::/48', type: unreachable, table: 7}],"
            " routing-policy: [{to: '2001:db8:5::/48', table: 7, priority: 9}]}}",
            (
                Route("::/0", "2001:db8::1", table=7),
                Route("2001:db8:dead::/48", table=7, type="unreachable"),
            ),
            (Rule(7, None, "2001:db8:5::/48", 9),),
        ),
    ],
)
def test_tables_and_routes_that_lead_nowhere(
    text: str, routes: tuple[Route, ...], rules: tuple[Rule, ...]
) -> None:
    found, problems = read(text)
    assert not problems
    assert found["e0"].routes == routes
    assert found["e0"].rules == rules


@pytest.mark.parametrize("search", ["barley.example sach.example", "barley.example,sach.example"])
def test_search_domains_in_one_string(search: str) -> None:
    nic, problems = ethernet(f"nameservers: {{search: '{search}'}}")
    assert not problems
    assert nic is not None
    assert nic.search == ("barley.example", "sach.example")


@pytest.mark.parametrize(
    "section",
    ["vrfs", "tunnels", "wifis", "modems", "dummy-devices", "virtual-ethernets", "nm-devices"],
)
def test_each_entry_of_an_unsupported_section_is_named(section: str) -> None:
    found, problems = read(
        f"ethernets: {{e0: {{}}}}\n{section}: {{renderer: networkd, a: {{}}, b: {{x: 1}}}}"
    )
    assert set(found) == {"e0"}
    assert [(problem.path, problem.severity) for problem in problems] == [
        (f"n: {section}.renderer", HARMLESS),
        (f"n: {section}.a", UNSUPPORTED),
        (f"n: {section}.b", UNSUPPORTED),
    ]


@pytest.mark.parametrize("ports", ["[e1]", "e1"])
def test_a_port_of_a_vrf_does_not_land_in_the_main_table(ports: str) -> None:
    found, problems = read(
        "ethernets: {e0: {dhcp4: true}, e1: {addresses: [10.0.0.5/24], gateway4: 10.0.0.1}}\n"
        f"vrfs: {{red: {{table: 5, interfaces: {ports}}}}}"
    )
    assert set(found) == {"e0"}
    assert [(p.path, p.severity) for p in problems] == [
        ("n: vrfs.red", UNSUPPORTED),
        ("n: ethernets.e1", UNSUPPORTED),
    ]


def test_the_top_of_the_document() -> None:
    found, problems = read(
        "renderer: NetworkManager\nopenvswitch: {}\nother: 1\nethernets: {e0: {}}\nbonds:\n"
    )
    assert set(found) == {"e0"}
    assert sorted((p.path, p.severity) for p in problems) == [
        ("n: openvswitch", UNSUPPORTED),
        ("n: other", UNSUPPORTED),
        ("n: renderer", HARMLESS),
    ]


def test_a_key_in_two_spellings_and_a_section_with_a_renderer() -> None:
    found, problems = read("ethernets: {renderer: networkd, e0: {dhcp4: true, DHCP4: false}}")
    assert [(problem.path, problem.severity) for problem in problems] == [
        ("n: ethernets.renderer", HARMLESS),
        ("n: ethernets.e0.DHCP4", ERROR),
    ]
    assert found["e0"].dhcp4
    assert found["e0"].kind is Kind.PHYSICAL


def test_options_that_name_no_port_are_named_by_netplans_keys() -> None:
    found, problems = read(
        "ethernets: {e0: {}}\n"
        "bonds: {b: {interfaces: [e0], parameters: {primary: e7}}}\n"
        "bridges: {r: {parameters: {path-cost: {e8: 5}}}}"
    )
    assert set(found) == {"e0", "b", "r"}
    assert sorted(problem.path for problem in problems) == [
        "n: bonds.b.parameters.primary",
        "n: bridges.r.parameters.path-cost",
    ]


@pytest.mark.parametrize(
    ("parameters", "bond", "named"),
    [
        ("mode: balance-rr, lacp-rate: fast, primary: e0", Bond("balance-rr"), ["lacp_rate", "primary"]),
        ("mode: 802.3ad, packets-per-member: 2", Bond("802.3ad"), ["packets_per_slave"]),
        ("mode: balance-tlb, arp-interval: 0", Bond("balance-tlb"), []),
        (
            "mode: 802.3ad, arp-interval: 100, arp-ip-targets: [10.0.0.1]",
            Bond("802.3ad"),
            ["arp_interval", "arp_ip_target"],
        ),
        (
            "mode: active-backup, mii-monitor-interval: 100, arp-interval: 100, min-links: 2",
            Bond(miimon=100, options=BondOptions(min_links=2)),
            ["arp_interval"],
        ),
        ("mode: active-backup, mii-monitor-interval: 0, up-delay: 100", Bond(miimon=0), ["updelay"]),
    ],
)
def test_options_of_a_bond_that_exclude_each_other_do_not_cost_the_bond(
    parameters: str, bond: Bond, named: list[str]
) -> None:
    found, problems = read(
        f"ethernets: {{e0: {{}}}}\nbonds: {{b: {{interfaces: [e0], parameters: {{{parameters}}}}}}}"
    )
    assert found["b"].bond == bond
    assert [(p.path, p.severity, p.message.partition(":")[0]) for p in problems] == [
        ("n: bonds.b.parameters", UNSUPPORTED, key) for key in named
    ]


def test_the_resolvers_of_a_port_are_named() -> None:
    found, (problem,) = read(
        "ethernets: {e0: {nameservers: {addresses: [192.0.2.53], search: [a.example]}}}\n"
        "bonds: {b: {interfaces: [e0]}}"
    )
    assert (found["e0"].nameservers, found["e0"].search) == ((), ())
    assert problem.path == "n: ethernets.e0"
    assert "resolvers" in problem.message


def test_an_mtu_of_ipv6_above_the_nics_is_named() -> None:
    nic, (problem,) = ethernet("mtu: 1400, ipv6-mtu: 1500")
    assert nic is not None
    assert (nic.mtu, nic.options) == (1400, None)
    assert problem.path == "n: ethernets.eth0.ipv6-mtu"
