"""Single keys of network-config version 2: each spelling, and what a wrong or unsupported one costs."""

from __future__ import annotations

from typing import Any

import pytest

from agent.config.nics import (
    Bond,
    BondOptions,
    Bridge,
    Dhcp,
    Match,
    Nic,
    NicOptions,
    Route,
    RouteOptions,
    Rule,
)
from agent.reader.common.problem import ERROR, HARMLESS, UNSUPPORTED
from agent.reader.formats import yaml_events
from tests.unit.reader.formats.test_netplan_v2 import ethernet, read


@pytest.fixture(autouse=True, scope="module")
def library() -> None:
    yaml_events.load()


def eth0(**given: Any) -> Nic:
    return Nic(**{"number": 0, "name": "eth0", **given})


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("", {}),
        ("mtu: 1400", {"mtu": 1400}),
        ("dhcp4: yes, dhcp6: 'on'", {"dhcp4": True, "dhcp6": True}),
        ("dhcp4: y, accept-ra: N", {"dhcp4": True, "accept_ra": False}),
        ("accept-ra: 0", {"accept_ra": False}),
        ("accept-ra: '2'", {"accept_ra": True}),
        ("Accept_RA: off", {"accept_ra": False}),
        ("match: {driver: virtio_net}", {"name": None, "match": Match(None, ("virtio_net",))}),
        ("match: {name: 'e*'}", {"name": None, "match": Match("e*")}),
        ("match: {name: ens3, driver: [a, b]}", {"name": "ens3", "match": Match(None, ("a", "b"))}),
        ("match: {}", {"name": None, "match": Match("*")}),
        (
            "match: {macaddress: 52-54-00-AA-00-01, name: ens3}",
            {"name": None, "mac": "52:54:00:aa:00:01", "match": Match("ens3")},
        ),
        ("link-local: []", {"options": NicOptions(link_local=())}),
        ("link-local: ipv6", {"options": NicOptions(link_local=(6,))}),
        ("activation-mode: off", {"optional": True, "options": NicOptions(activation_mode="off")}),
        ("dhcp-identifier: duid", {"options": NicOptions(dhcp4=Dhcp(identifier="duid"))}),
        ("macaddress: 52:54:00:00:00:02", {"options": NicOptions(set_mac="52:54:00:00:00:02")}),
        ("addresses: 10.0.0.5/24", {"addresses": ("10.0.0.5/24",)}),
        ("nameservers: {addresses: '192.0.2.1, 192.0.2.2'}", {"nameservers": ("192.0.2.1", "192.0.2.2")}),
        ("routes: [{to: default, via: '2001:db8::1'}]", {"routes": (Route("::/0", "2001:db8::1"),)}),
        ("routes: [{to: default, from: '2001:db8::1'}]", None),
        ("routes: [{to: 10.0.0.0/8, table: 254}]", {"routes": (Route("10.0.0.0/8"),)}),
        ("routes: [{to: 10.0.0.0/8, via: 192.0.2.1/24}]", {"routes": (Route("10.0.0.0/8", "192.0.2.1"),)}),
        ("routing-policy: [{to: 10.0.0.9, table: 5}]", {"rules": (Rule(5, None, "10.0.0.9/32"),)}),
    ],
)
def test_each_spelling(keys: str, expected: dict[str, Any] | None) -> None:
    nic, problems = ethernet(keys)
    assert not problems
    assert nic is not None
    if expected is None:
        assert nic.routes == (Route("::/0", options=RouteOptions("2001:db8::1")),)
    else:
        assert nic == eth0(**expected)


@pytest.mark.parametrize(
    ("keys", "place", "said"),
    [
        ("match: {macaddress: x}", "match.macaddress", "not a MAC address"),
        ("match: {macaddress: ''}", "match.macaddress", "empty"),
        ("match: {macaddress: null, name: 'e*'}", "match.macaddress", "empty"),
        ("match: {name: ''}", "match.name", "not a pattern"),
        ("match: {name: 'eth0 eth1'}", "match.name", "not a pattern"),
        ("match: {name: '!eth0'}", "match.name", "not a pattern"),
        ("match: {driver: ['']}", "match.driver", "no driver's name"),
        ("match: {driver: []}", "match.driver", "no driver's name"),
        ("match: {driver: null}", "match.driver", "no driver's name"),
        ("match: {path: 'pci-*', name: 'e*'}", "match.path", "unknown key"),
        ("match: eth0", "match", "not a dictionary"),
        ("auth: {key-management: 802.1x}", "auth", "802.1X"),
        ("openvswitch: {}", "openvswitch", "Open vSwitch"),
        ("virtual-function-count: 4", "virtual-function-count", "SR-IOV"),
        ("link: eth1", "link", "SR-IOV"),
        ("embedded-switch-mode: legacy", "embedded-switch-mode", "SR-IOV"),
        ("delay-virtual-functions-rebind: true", "delay-virtual-functions-rebind", "SR-IOV"),
        ("infiniband-mode: connected", "infiniband-mode", "InfiniBand"),
    ],
)
def test_it_matches_no_nic_rather_than_any(keys: str, place: str, said: str) -> None:
    nic, problems = ethernet(f"{keys}, addresses: [10.0.0.5/24]")
    assert nic is None
    (problem,) = problems
    assert (problem.path, problem.severity) == (f"n: ethernets.eth0.{place}", ERROR)
    assert said in problem.message
    assert problem.hint


@pytest.mark.parametrize("name", ["a name", "an-interface-with-a-long-name", "all", "''"])
def test_a_key_that_no_interface_can_have(name: str) -> None:
    nic, (problem,) = ethernet("dhcp4: true", name)
    assert nic is None
    assert problem.is_error
    assert "no interface can have this name" in problem.message


#: What costs only itself: the NIC is the same as without it.
ALONE = [
    ("macaddress: random", "macaddress", ERROR, "a word in place of a MAC address"),
    ("macaddress: permanent", "macaddress", ERROR, "a word in place of a MAC address"),
    ("macaddress: stable", "macaddress", ERROR, "a word in place of a MAC address"),
    ("set-name: lan0", "set-name", ERROR, "without match"),
    ("addresses: [10.0.0.5]", "addresses[0]", ERROR, "with a prefix"),
    ("addresses: [127.0.0.5/8]", "addresses[0]", ERROR, "an address of lo"),
    ("addresses: [{10.0.0.5/24: {scope: link}}]", "addresses[0]", ERROR, "unknown options"),
    ("addresses: [{10.0.0.5/24: {lifetime: 60}}]", "addresses[0]", ERROR, "not a known word"),
    ("macaddress: '01:00:5e:00:00:01'", "macaddress", ERROR, "of a group"),
    ("macaddress: '00:00:00:00:00:00'", "macaddress", ERROR, "of nothing"),
    ("gateway4: 'fe80::1'", "gateway4", ERROR, "not an IPv4 address"),
    ("gateway6: 10.0.0.1", "gateway6", ERROR, "not an IPv6 address"),
    ("link-local: [ipv5]", "link-local[0]", ERROR, "not a known word"),
    ("ipv6-mtu: 1000", "ipv6-mtu", ERROR, "whole number"),
    ("ipv6-address-token: '2001:db8::1'", "ipv6-address-token", ERROR, "host's bits"),
    ("activation-mode: never", "activation-mode", ERROR, "not a known word"),
    ("dhcp4-overrides: {use-dns: maybe}", "dhcp4-overrides.use-dns", ERROR, "neither true nor false"),
    ("dhcp4-overrides: {use-sip: true}", "dhcp4-overrides.use-sip", UNSUPPORTED, "unknown key"),
    ("ra-overrides: {use-domains: true}", "ra-overrides.use-domains", UNSUPPORTED, "not supported"),
    ("nameservers: {addresses: [x]}", "nameservers.addresses[0]", ERROR, "not an IP address"),
    ("nameservers: {options: [x]}", "nameservers.options", UNSUPPORTED, "unknown key"),
    ("emit-lldp: true", "emit-lldp", UNSUPPORTED, "LLDP"),
    ("hairpin: true", "hairpin", UNSUPPORTED, "port"),
    ("neigh-suppress: true", "neigh-suppress", UNSUPPORTED, "port"),
    ("port-mac-learning: false", "port-mac-learning", UNSUPPORTED, "port"),
    ("networkmanager: {name: x}", "networkmanager", UNSUPPORTED, "one network manager"),
    ("large-receive-offload: true", "large-receive-offload", UNSUPPORTED, "offloading"),
    ("receive-checksum-offload: true", "receive-checksum-offload", UNSUPPORTED, "offloading"),
    ("optional-addresses: [dhcp6]", "optional-addresses", HARMLESS, "waits for a NIC"),
    ("renderer: networkd", "renderer", HARMLESS, "CONFIG_RENDERER"),
    ("routes: [{to: 10.0.0.0/8, via: x}]", "routes[0].via", ERROR, "not an IP address"),
    ("routes: [{to: 10.0.0.0/8, via: ''}]", "routes[0].via", ERROR, "not an IP address"),
    ("routes: [{to: 10.0.0.0/8, via: null}]", "routes[0].via", ERROR, "not an IP address"),
    ("routes: [{to: 10.0.0.0/8, table: main}]", "routes[0].table", ERROR, "whole number"),
    ("routes: [{to: 10.0.0.0/8, table: null}]", "routes[0].table", ERROR, "empty"),
    ("routes: [{to: 10.0.0.0/8, type: multicast}]", "routes[0].type", ERROR, "not supported"),
    ("routes: [{to: 10.0.0.0/8, type: hole}]", "routes[0].type", ERROR, "not a known word"),
    ("routes: [{to: 10.0.0.0/8, metric: low}]", "routes[0].metric", ERROR, "whole number"),
    ("routes: [{to: 10.0.0.0/8, scope: near}]", "routes[0].scope", ERROR, "not a known word"),
    ("routes: [{to: 10.0.0.0/8, dev: eth1}]", "routes[0].dev", ERROR, "unknown key"),
    ("routes: [{via: 10.0.0.1}]", "routes[0].to", ERROR, "missing"),
    ("routes: [{to: 10.0.0.0/8, via: 'fe80::1'}]", "routes", ERROR, "another IP version"),
    ("routes: [{to: 10.0.0.0/8, from: 'fe80::1'}]", "routes", ERROR, "another IP version"),
    ("routing-policy: [{from: 10.0.0.5, table: null}]", "routing-policy[0].table", ERROR, "empty"),
    ("routing-policy: [{from: x, table: 5}]", "routing-policy[0].from", ERROR, "neither a network"),
    ("routing-policy: [{table: 5, mark: 1}]", "routing-policy[0]", ERROR, "all packets"),
    (
        "routing-policy: [{table: 5, from: 10.0.0.1, to: '2001:db8::/32'}]",
        "routing-policy[0]",
        ERROR,
        "IP version",
    ),
    ("routing-policy: [{table: 5, from: 10.0.0.1, iif: x}]", "routing-policy[0].iif", ERROR, "unknown key"),
    ("mtuu: 1500", "mtuu", UNSUPPORTED, "unknown key"),
]


@pytest.mark.parametrize(("keys", "place", "severity", "said"), ALONE, ids=[row[0] for row in ALONE])
def test_it_costs_only_itself(keys: str, place: str, severity: str, said: str) -> None:
    nic, problems = ethernet(keys)
    (problem,) = problems
    assert (problem.path, problem.severity) == (f"n: ethernets.eth0.{place}", severity)
    assert said in problem.message
    assert problem.hint or problem.harmless
    assert nic is not None
    assert nic == eth0()


@pytest.mark.parametrize(
    ("keys", "expected", "place"),
    [
        (
            "match: {name: ens3, driver: [virtio_net, {}]}",
            {"name": "ens3", "match": Match(None, ("virtio_net",))},
            "match.driver[1]",
        ),
        ("link-local: [ipv4, x]", {"options": NicOptions(link_local=(4,))}, "link-local[1]"),
        ("addresses: [x, 10.0.0.5/24]", {"addresses": ("10.0.0.5/24",)}, "addresses[0]"),
        (
            "addresses: [{10.0.0.5/24: {label: 'a name that is too long'}}]",
            {"addresses": ("10.0.0.5/24",)},
            "addresses[0].label",
        ),
        (
            "routes: [{to: x}, {to: 10.0.0.0/8, via: 192.0.2.1}]",
            {"routes": (Route("10.0.0.0/8", "192.0.2.1"),)},
            "routes[0].to",
        ),
        ("routes: [{to: 10.0.0.0/8, mtu: x}]", {"routes": (Route("10.0.0.0/8"),)}, "routes[0].mtu"),
        (
            "routes: [{to: 10.0.0.0/8, advertised-mss: 1400}]",
            {"routes": (Route("10.0.0.0/8"),)},
            "routes[0].advertised-mss",
        ),
        (
            "routes: [{to: 10.0.0.0/8, type: blackhole, via: 192.0.2.1}]",
            {"routes": (Route("10.0.0.0/8", type="blackhole"),)},
            "routes",
        ),
        ("ra-overrides: {table: 5}", {"ra_gateway": False}, "ra-overrides.table"),
        (
            "ipv6-address-generation: eui64, ipv6-address-token: '::2'",
            {"options": NicOptions(ipv6_address_token="::2")},
            "ipv6-address-generation",
        ),
    ],
)
def test_one_wrong_member(keys: str, expected: dict[str, Any], place: str) -> None:
    nic, (problem,) = ethernet(keys)
    assert problem.path == f"n: ethernets.eth0.{place}"
    assert not problem.harmless
    assert nic == eth0(**expected)


@pytest.mark.parametrize(
    ("parameters", "bond"),
    [
        ("", Bond("balance-rr")),
        ("mii-monitor-interval: 0", Bond("balance-rr", 0)),
        ("mii-monitor-interval: 1s", Bond("balance-rr", 1000)),
        ("mii-monitor-interval: '100'", Bond("balance-rr", 100)),
        ("arp-interval: 500", Bond("balance-rr", 0, options=BondOptions(arp_interval=500))),
        ("all-slaves-active: false", Bond("balance-rr", options=BondOptions(all_slaves_active=False))),
        ("packets-per-slave: 0", Bond("balance-rr", options=BondOptions(packets_per_slave=0))),
        ("gratuitious-arp: 2", Bond("balance-rr", options=BondOptions(num_grat_arp=2))),
    ],
)
def test_bond_parameters(parameters: str, bond: Bond) -> None:
    found, problems = read(
        f"ethernets: {{a: {{}}}}\nbonds: {{b: {{interfaces: a, parameters: {{{parameters}}}}}}}"
    )
    assert not problems
    assert found["b"].bond == bond


@pytest.mark.parametrize(
    ("keys", "place", "severity", "stays"),
    [
        ("parameters: {mode: x}", "bonds.b.parameters.mode", ERROR, False),
        ("parameters: 5", "bonds.b.parameters", ERROR, False),
        ("parameters: {up-delay: soon}", "bonds.b.parameters.up-delay", ERROR, True),
        ("parameters: {up-delay: 1.5}", "bonds.b.parameters.up-delay", ERROR, True),
        ("parameters: {arp-ip-targets: ['fe80::1']}", "bonds.b.parameters.arp-ip-targets[0]", ERROR, True),
        ("parameters: {unknown: 1}", "bonds.b.parameters.unknown", UNSUPPORTED, True),
        ("dhcp4: perhaps", "bonds.b.dhcp4", ERROR, True),
        ("match: {name: x}", "bonds.b.match", UNSUPPORTED, True),
        ("wakeonlan: true", "bonds.b.wakeonlan", UNSUPPORTED, True),
        ("openvswitch: {lacp: active}", "bonds.b.openvswitch", ERROR, False),
    ],
)
def test_a_wrong_bond(keys: str, place: str, severity: str, *, stays: bool) -> None:
    found, (problem,) = read(f"ethernets: {{a: {{}}}}\nbonds: {{b: {{interfaces: [a], {keys}}}}}")
    assert (problem.path, problem.severity) == (f"n: {place}", severity)
    assert set(found) == ({"a", "b"} if stays else {"a"})
    assert not stays or found["b"].bond == Bond("balance-rr")


@pytest.mark.parametrize(
    ("parameters", "bridge", "place"),
    [
        ("aging-time: 30", Bridge(ageing_time=30), None),
        ("stp: true", Bridge(stp=True), None),
        ("", None, None),
        ("ageing-time: 1500ms", None, "ageing-time"),
        ("hello-time: 0", None, "hello-time"),
        ("ageing-time: 30, aging-time: 40", Bridge(ageing_time=30), "aging-time"),
        ("port-priority: {a: 64}", None, "port-priority.a"),
    ],
)
def test_bridge_parameters(parameters: str, bridge: Bridge | None, place: str | None) -> None:
    found, problems = read(
        f"ethernets: {{a: {{}}}}\nbridges: {{b: {{interfaces: [a], parameters: {{{parameters}}}}}}}"
    )
    assert [problem.path for problem in problems] == ([f"n: bridges.b.parameters.{place}"] if place else [])
    assert found["b"].bridge == bridge
