"""network-config version 1: each key of its documentation becomes part of the model or is named."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

from agent.config.nics import (
    Bond,
    BondOptions,
    Bridge,
    Dhcp,
    Kind,
    Nic,
    NicOptions,
    Route,
)
from agent.reader.common.merge import Draft
from agent.reader.common.problem import ERROR, HARMLESS, UNSUPPORTED, Problem
from agent.reader.formats import cloudinit_v1, yaml_events

if TYPE_CHECKING:
    from collections.abc import Iterator

MAC = "52:54:00:12:34:56"
#: A document in which nothing is missing from the model.
WHOLE = """
version: 1
config:
- type: loopback
  name: lo
  subnets:
  - {type: loopback, dns_nameservers: [192.0.2.1], dns_search: [global.example]}
  - {type: static, address: 198.51.100.1/32}
- type: physical
  name: lan0
  mac_address: "52:54:00:12:34:56"
  mtu: 9000
  accept-ra: false
  wakeonlan: true
  keep_configuration: true
  subnets:
  - type: static
    address: 192.0.2.10
    netmask: 255.255.255.128
    gateway: 192.0.2.1
    metric: 50
    dns_nameservers: 192.0.2.53 192.0.2.54
    dns_search: a.example b.example
    routes:
    - {destination: 10.0.0.0, netmask: 255.0.0.0, gateway: 192.0.2.2, metric: 7}
    - {network: 10.9.0.0, prefix: 16, gateway: 192.0.2.3}
    - {type: blackhole, destination: 203.0.113.0/24}
  - {type: static6, address: "2001:db8::10", netmask: "ffff:ffff:ffff::", gateway: "2001:db8::1", mtu: 1400}
- {type: physical, name: eth1, subnets: [{type: dhcp, metric: 300, control: hotplug}]}
- {type: physical, name: eth2, optional: true, subnets: [{type: ipv6_dhcpv6-stateful, metric: 400}]}
- {type: physical, name: eth3, mtu: 8000}
- {type: physical, name: eth4}
- {type: physical, name: eth5}
- type: bond
  name: bond_0
  mac_address: "52:54:00:12:34:99"
  bond_interfaces: [eth3, eth4]
  params:
    bond-mode: active-backup
    bond_miimon: 100
    primary: eth4
    bond-fail_over_mac: 1
    bond-arp-ip-target: 192.0.2.1,192.0.2.2
    updelay: "200"
    all_slaves_active: 1
    num_unsol_na: 3
- type: bridge
  name: br0
  bridge_interfaces: [eth5]
  params:
    bridge_stp: "on"
    bridge_fd: 4
    ageing: 250
    bridge_bridgeprio: 22
    bridge_hello: 1
    bridge_maxage: 10
    bridge_hw: 52:54:00:12:34:77
    bridge_pathcost: ["eth5 50"]
    bridge_portprio: ["eth5 28"]
- {type: vlan, name: lan.7, vlan_link: lan0, vlan_id: 7, mtu: 1400,
   subnets: [{type: dhcp4, control: manual}]}
- {type: nameserver, address: [192.0.2.55], search: [c.example], interface: eth2}
- {type: nameserver, address: 192.0.2.56, search: d.example}
- {type: route, destination: 10.2.0.0/16, gateway: 192.0.2.4, metric: 9}
"""


@pytest.fixture(autouse=True, scope="module")
def library() -> None:
    yaml_events.load()


def _document(text: str) -> dict[str, Any]:
    problems: list[Problem] = []
    document = yaml_events.read("net", text, problems)
    assert not problems
    assert isinstance(document, dict)
    return document


def _read(document: dict[str, Any]) -> Draft:
    draft = Draft("test")
    cloudinit_v1.read(copy.deepcopy(document), "net", draft)
    return draft


def _entry(text: str) -> Draft:
    """Read a document with one entry, in YAML's flow style."""
    return _read(_document(f"version: 1\nconfig: [{text}]"))


def _nics(draft: Draft) -> dict[str, Nic]:
    return {(nic.options.set_name if nic.options else None) or nic.name or "": nic for nic in draft.nics}


def _facts(draft: Draft) -> object:
    return draft.nics, draft.nameservers, draft.search, draft.problems


def test_everything_has_its_place() -> None:
    draft = _read(_document(WHOLE))
    assert not draft.problems
    nics = _nics(draft)
    assert list(nics) == ["lan0", "eth1", "eth2", "eth3", "eth4", "eth5", "bond_0", "br0", "lan.7", "lo"]
    assert (draft.nameservers, draft.search) == (
        ["192.0.2.1", "192.0.2.56"],
        ["global.example", "d.example"],
    )
    assert nics["lo"] == Nic(9, name="lo", loopback=True, addresses=("198.51.100.1/32",))
    assert nics["lan0"] == Nic(
        0,
        mac=MAC,
        mtu=9000,
        accept_ra=False,
        addresses=("192.0.2.10/25", "2001:db8::10/48"),
        routes=(
            Route("0.0.0.0/0", "192.0.2.1", metric=50),
            Route("10.0.0.0/8", "192.0.2.2", metric=7),
            Route("10.9.0.0/16", "192.0.2.3"),
            Route("203.0.113.0/24", type="blackhole"),
            Route("::/0", "2001:db8::1"),
            Route("10.2.0.0/16", "192.0.2.4", metric=9),
        ),
        nameservers=("192.0.2.53", "192.0.2.54"),
        search=("a.example", "b.example"),
        options=NicOptions(set_name="lan0", wake_on_lan=True, critical=True, ipv6_mtu=1400),
    )
    assert (nics["eth1"].dhcp4, nics["eth1"].optional) == (True, True)
    assert nics["eth1"].options == NicOptions(dhcp4=Dhcp(route_metric=300))
    assert (nics["eth2"].dhcp6, nics["eth2"].optional) == (True, True)
    assert nics["eth2"].options == NicOptions(dhcp6=Dhcp(route_metric=400))
    assert (nics["eth2"].nameservers, nics["eth2"].search) == (("192.0.2.55",), ("c.example",))
    assert nics["bond_0"] == Nic(
        6,
        mac="52:54:00:12:34:99",
        name="bond_0",
        kind=Kind.BOND,
        ports=(3, 4),
        bond=Bond(
            "active-backup",
            100,
            primary=4,
            options=BondOptions(
                fail_over_mac="active",
                arp_ip_target=("192.0.2.1", "192.0.2.2"),
                updelay=200,
                all_slaves_active=True,
                num_grat_arp=3,
            ),
        ),
    )
    assert nics["br0"] == Nic(
        7,
        mac="52:54:00:12:34:77",
        name="br0",
        kind=Kind.BRIDGE,
        ports=(5,),
        bridge=Bridge(True, 250, 22, 4, 1, 10, port_priority=((5, 28),), path_cost=((5, 50),)),
    )
    vlan = nics["lan.7"]
    assert (vlan.kind, vlan.parent, vlan.vlan, vlan.mtu, vlan.dhcp4) == (Kind.VLAN, 0, 7, 1400, True)
    assert vlan.options == NicOptions(activation_mode="manual")


def _leaves(value: object, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inside = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    if not isinstance(value, dict | list):
        yield place
    for step, one in inside:
        yield from _leaves(one, (*place, step))


def _without(document: dict[str, Any], place: tuple[Any, ...]) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    *above, last = place
    holder: Any = changed
    for step in above:
        holder = holder[step]
    del holder[last]
    return changed


def test_no_leaf_is_lost() -> None:
    document = _document(WHOLE)
    whole = _facts(_read(document))
    unused = [one for one in _leaves(document) if _facts(_read(_without(document, one))) == whole]
    # By the version, this reader was chosen.
    assert unused == [("version",)]


@pytest.mark.parametrize(
    "entry",
    [
        "{type: loopback, name: lo, subnets: [{type: loopback}]}",
        "{type: loopback, name: lo}",
        "{type: physical, name: lo, subnets: [{type: loopback}]}",
        "{type: loopback, name: lo, subnets: [{type: static, address: 127.0.0.1/8}]}",
        "{type: loopback, name: lo, subnets: [{type: static6, address: '::1/128'}]}",
    ],
)
def test_what_lo_has_anyway_needs_no_word(entry: str) -> None:
    draft = _entry(f"{entry}, {{type: physical, name: eth0, subnets: [{{type: dhcp}}]}}")
    assert draft.nics == (Nic(0, name="eth0", dhcp4=True),)
    assert not draft.problems


@pytest.mark.parametrize(
    ("subnet", "addresses"),
    [
        ("{type: static, address: 192.0.2.10}", ("192.0.2.10/24",)),
        ("{type: static, address: '2001:db8::1'}", ("2001:db8::1/64",)),
        ("{type: static6, address: '2001:db8::1'}", ("2001:db8::1/64",)),
        ("{type: static6, address: '2001:db8::1', netmask: 48}", ("2001:db8::1/48",)),
        ("{type: static6, address: '2001:db8::1/ffff:ffff::'}", ("2001:db8::1/32",)),
        ("{type: static, address: 192.0.2.10/255.255.255.128}", ("192.0.2.10/25",)),
        ("{type: static, address: 192.0.2.10, prefix: 26}", ("192.0.2.10/26",)),
        ("{type: static, address: 192.0.2.10/27, netmask: 255.255.255.224}", ("192.0.2.10/27",)),
        ("{type: ipv4, ip_address: 192.0.2.10}", ("192.0.2.10/24",)),
    ],
)
def test_prefixes(subnet: str, addresses: tuple[str, ...]) -> None:
    draft = _entry(f"{{type: physical, name: eth0, subnets: [{subnet}]}}")
    assert not draft.problems
    assert draft.nics[0].addresses == addresses


@pytest.mark.parametrize(
    ("kind", "dhcp"),
    [
        ("dhcp", (True, False)),
        ("dhcp4", (True, False)),
        ("ipv4_dhcp", (True, False)),
        ("dhcp6", (False, True)),
        ("ipv6_dhcp", (False, True)),
        ("ipv6_dhcpv6-stateful", (False, True)),
        ("ipv6_dhcpv6-stateless", (False, False)),
        ("ipv6_slaac", (False, False)),
        ("manual", (False, False)),
    ],
)
def test_types_of_subnets(kind: str, dhcp: tuple[bool, bool]) -> None:
    draft = _entry(f"{{type: physical, name: eth0, subnets: [{{type: {kind}}}]}}")
    assert not draft.problems
    (nic,) = draft.nics
    assert (nic.dhcp4, nic.dhcp6, nic.accept_ra, nic.optional) == (*dhcp, True, False)


@pytest.mark.parametrize(
    ("route", "destination"),
    [
        ("{destination: 10.1.2.3, gateway: 192.0.2.1}", "10.1.2.0/24"),
        ("{destination: 0.0.0.0, gateway: 192.0.2.1}", "0.0.0.0/0"),
        ("{destination: 0.0.0.0, netmask: 0.0.0.0, gateway: 192.0.2.1}", "0.0.0.0/0"),
        ("{destination: default, gateway: 'fe80::1'}", "::/0"),
        ("{network: '::', netmask: '::', gateway: 'fe80::1'}", "::/0"),
        ("{network: '2001:db8:1::', gateway: 'fe80::1'}", "2001:db8:1::/64"),
        ("{network: 10.0.0.0/8, gateway: 192.0.2.1/24}", "10.0.0.0/8"),
    ],
)
def test_destinations(route: str, destination: str) -> None:
    draft = _entry(
        "{type: physical, name: eth0, subnets: [{type: static, address: 192.0.2.9/24, routes: ["
        + route
        + "]}]}"
    )
    assert not draft.problems
    assert [one.destination for one in draft.nics[0].routes] == [destination]


def test_ports_need_no_entry_of_their_own() -> None:
    draft = _entry(
        "{type: bond, name: bond0, bond_interfaces: [eth0, eth1], params: {mode: 1}},"
        "{type: bridge, name: br0, bridge_interfaces: [], params: {bridge_ports: eth2 eth3}}"
    )
    assert not draft.problems
    nics = _nics(draft)
    assert list(nics) == ["eth0", "eth1", "eth2", "eth3", "bond0", "br0"]
    assert (nics["bond0"].ports, nics["br0"].ports) == ((0, 1), (2, 3))


def test_a_route_without_a_device_goes_by_the_only_lease() -> None:
    lease = "{type: physical, name: eth0, subnets: [{type: dhcp}]}"
    route = "{type: route, destination: 10.0.0.0/8, gateway: 192.0.2.1}"
    assert _entry(f"{lease}, {route}").nics[0].routes == (Route("10.0.0.0/8", "192.0.2.1"),)
    draft = _entry(f"{lease}, {lease.replace('eth0', 'eth1')}, {route}")
    assert not any(nic.routes for nic in draft.nics)
    assert [(p.path, p.severity) for p in draft.problems] == [("net: config[2]", ERROR)]


def _subnet(text: str) -> str:
    return "{type: physical, name: eth0, subnets: [" + text + "]}"


@pytest.mark.parametrize(
    ("entry", "path", "severity", "left"),
    [
        # What an entry is found by.
        ("{type: physical, subnets: [{type: dhcp}]}", "", ERROR, 0),
        ("{type: physical, name: a name of many letters}", ".name", ERROR, 0),
        ("{type: physical, mac_address: '52:54:00:12:34:56'}", "", ERROR, 1),
        ("{type: physical, name: eth0, mac_address: x}", ".mac_address", ERROR, 0),
        ("{type: bond, bond_interfaces: [eth0], params: {}}", "", ERROR, 0),
        ("{type: loopback, name: eth0}", ".name", ERROR, 0),
        ("{type: loopback, name: lo, subnets: [{type: dhcp}]}", ".subnets", ERROR, 0),
        ("{type: infiniband, name: ib0}", ".type", ERROR, 0),
        # What an entry of its type has no use for.
        ("{type: physical, name: eth0, vlan_id: 5}", ".vlan_id", UNSUPPORTED, 1),
        ("{type: physical, name: eth0, params: {driver: e1000}}", ".params", UNSUPPORTED, 1),
        ("{type: physical, name: eth0, qlen: 5}", ".qlen", UNSUPPORTED, 1),
        ("{type: loopback, name: lo, mtu: 1500}", ".mtu", UNSUPPORTED, 0),
        ("{type: physical, name: eth0, id: eth0}", ".id", HARMLESS, 1),
        # Bonds and bridges.
        ("{type: bond, name: b, bond_interfaces: [e], params: {mode: 9}}", ".params.mode", ERROR, 0),
        (
            "{type: bond, name: b, bond_interfaces: [e], params: {bond-miimon: x}}",
            ".params.bond-miimon",
            ERROR,
            2,
        ),
        (
            "{type: bond, name: b, bond_interfaces: [e], params: {bond-Queue-ID: 1}}",
            ".params.bond-Queue-ID",
            UNSUPPORTED,
            2,
        ),
        (
            "{type: bond, name: b, bond_interfaces: [e], params: {mii_status: up}}",
            ".params.mii_status",
            HARMLESS,
            2,
        ),
        ("{type: bond, name: b, bond_interfaces: [e], params: [1]}", ".params", ERROR, 0),
        (
            "{type: bond, name: b, bond_interfaces: [e], params: {bond-primary: f}}",
            ".params.bond-primary",
            ERROR,
            2,
        ),
        ("{type: bridge, name: b, params: {bridge_pathcost: [e 5]}}", ".params.bridge_pathcost", ERROR, 1),
        ("{type: bridge, name: b, params: {bridge_waitport: e 5}}", ".params.bridge_waitport", HARMLESS, 1),
        (
            "{type: bridge, name: b, params: {bridge_vlan_aware: yes}}",
            ".params.bridge_vlan_aware",
            UNSUPPORTED,
            1,
        ),
        # Subnets.
        (_subnet("{type: static}"), ".subnets[0].address", ERROR, 1),
        (
            _subnet("{type: static, address: 192.0.2.1/24, netmask: 255.0.0.0}"),
            ".subnets[0].address",
            ERROR,
            1,
        ),
        (_subnet("{type: dhcp, address: 192.0.2.1}"), ".subnets[0].address", UNSUPPORTED, 1),
        (_subnet("{type: dhcp, colour: red}"), ".subnets[0].colour", UNSUPPORTED, 1),
        (_subnet("{type: dhcp, ipv4: true}"), ".subnets[0].ipv4", HARMLESS, 1),
        (_subnet("{type: manual, metric: 5}"), ".subnets[0].metric", UNSUPPORTED, 1),
        (_subnet("{type: dhcp, dns_search: [-, a.example]}"), ".subnets[0].dns_search[0]", ERROR, 1),
        (
            _subnet("{type: static, address: 192.0.2.1/24, pointopoint: 192.0.2.2}"),
            ".subnets[0].pointopoint",
            ERROR,
            1,
        ),
        # Routes.
        (
            _subnet("{type: dhcp, routes: [{destination: 10.0.0.0/8, table: 5}]}"),
            ".subnets[0].routes[0].table",
            ERROR,
            1,
        ),
        (
            _subnet("{type: dhcp, routes: [{destination: 10.0.0.0/8, gateway: x}]}"),
            ".subnets[0].routes[0].gateway",
            ERROR,
            1,
        ),
        (
            _subnet("{type: dhcp, routes: [{type: nat, destination: 10.0.0.0/8}]}"),
            ".subnets[0].routes[0].type",
            ERROR,
            1,
        ),
        (_subnet("{type: dhcp, routes: [{gateway: 192.0.2.1}]}"), ".subnets[0].routes[0]", ERROR, 1),
        # Resolvers.
        ("{type: nameserver, address: 192.0.2.1, interface: eth9}", ".interface", ERROR, 0),
        ("{type: nameserver, address: [x, 192.0.2.1]}", ".address[0]", ERROR, 0),
    ],
)
def test_it_is_named_and_costs_only_itself(entry: str, path: str, severity: str, left: int) -> None:
    draft = _entry(entry)
    told = [(p.path.replace("[]", "[0]"), p.severity) for p in draft.problems]
    assert (f"net: config[0]{path}", severity) in told
    assert len(draft.nics) == left
    assert not any(nic.routes or nic.addresses for nic in draft.nics)


def test_what_is_right_beside_it_stays() -> None:
    draft = _entry(_subnet("{type: dhcp, dns_search: '- a.example', dns_nameservers: [x, 192.0.2.53]}"))
    assert (draft.nics[0].search, draft.nics[0].nameservers) == (("a.example",), ("192.0.2.53",))
    assert len(draft.problems) == 2
    draft = _entry(_subnet("{type: static, address: x, gateway: 192.0.2.1, dns_nameservers: 192.0.2.53}"))
    assert (draft.nics[0].routes, draft.nics[0].nameservers) == ((), ("192.0.2.53",))


def test_a_resolver_may_be_a_program_of_the_machine() -> None:
    draft = _entry(_subnet("{type: dhcp, dns_nameservers: [127.0.0.53, '::1', '224.0.0.1']}"))
    assert draft.nics[0].nameservers == ("127.0.0.53", "::1")
    assert [problem.path for problem in draft.problems] == ["net: config[0].subnets[0].dns_nameservers[2]"]
