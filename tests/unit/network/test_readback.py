"""Four renderers say the same as the model: see ``readback``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from agent.config.nics import Bond, Dhcp, Kind, Nic, NicOptions, Route
from agent.lib.records import replace
from agent.network import limits, load
from agent.network.interfaces import Link
from agent.network.managers import MANAGERS
from tests import corpus
from tests.corpus import outcome

from . import readback_ifupdown
from .cases import CASES
from .random_nics import document
from .rare_cases import RARE as OTHERS
from .readback import DEFAULTS as _DEFAULTS
from .readback import disagreements, links_of, of_links
from .readback_cases import RARE as OWN

NAMES = [manager.name for manager in MANAGERS]
RARE = OWN | {f"other-{case}": links for case, links in OTHERS.items()}
DOCUMENTS = CASES | RARE


@pytest.mark.parametrize("case", DOCUMENTS)
@pytest.mark.parametrize("manager", NAMES)
def test_what_is_written_is_what_the_model_has(manager: str, case: str) -> None:
    assert of_links(DOCUMENTS[case], manager) == []


@pytest.mark.parametrize("case", RARE)
@pytest.mark.parametrize("manager", NAMES)
def test_a_value_that_is_lost_is_a_disagreement(manager: str, case: str) -> None:
    links, renderer = RARE[case], load(manager)
    for link in links:
        for key, path, value in limits.rare(link.nic):
            lost = _lost(link, path)
            if path in limits.unsupported(renderer, link) or _is_default(manager, key, value, link):
                continue
            files = tuple(_with_master(lost if one is link else one, link, lost) for one in links)
            assert of_links(links, manager, rendered=files), f"{path} is not read back"


@pytest.mark.parametrize("case", DOCUMENTS)
@pytest.mark.parametrize("manager", NAMES)
def test_an_ordinary_value_that_is_lost_is_a_disagreement(manager: str, case: str) -> None:
    links = DOCUMENTS[case]
    for link in links:
        named = limits.unsupported(load(manager), link)
        for path, lost in [] if link.master else _without_each(link):
            files = tuple(lost if one is link else one for one in links)
            if path not in named:
                assert of_links(links, manager, rendered=files), f"{path} is not read back"


def _without_each(link: Link) -> Iterator[tuple[str, Link]]:
    """Yield paths of ordinary values, and the link without each."""
    nic = link.nic
    for name in ("addresses", "nameservers", "search"):
        for place, one in enumerate(getattr(nic, name)):
            less = _changed(nic, name, tuple(other for other in getattr(nic, name) if other is not one))
            if name == "addresses" and nic.options:
                own = tuple(of for of in nic.options.addresses if of.address != one)
                less = replace(less, options=replace(nic.options, addresses=own))
            yield f"{name}[{place}]", replace(link, nic=less)
    for place, route in enumerate(link.routes):
        yield f"routes[{place}].type", replace(link, routes=tuple(r for r in link.routes if r is not route))
    for route in link.table.routes if link.table else ():
        assert link.table
        table = replace(link.table, routes=tuple(r for r in link.table.routes if r is not route))
        yield "table", replace(link, table=table)
    for name, other in (("mtu", None), ("dhcp4", False), ("vlan", 4000)):
        if getattr(nic, name):
            yield name, replace(link, nic=_changed(nic, name, other))
    if nic.bond and nic.bond.lacp_rate:
        yield "bond.lacp_rate", replace(link, nic=replace(nic, bond=replace(nic.bond, lacp_rate=None)))


def _changed(nic: Nic, name: str, value: Any) -> Nic:
    return replace(nic, **{name: value})


def _lost(link: Link, path: str) -> Link:
    """Return the link without a value, as if its renderer had lost it."""
    nic = limits.without(link.nic, path)
    routes = tuple(route for route in nic.routes if route is not None)
    nic = replace(nic, routes=routes, rules=tuple(rule for rule in nic.rules if rule is not None))
    return replace(link, nic=nic, routes=routes)


def _with_master(link: Link, old: Link, new: Link) -> Link:
    is_port = link.master is not None and link.master.nic.number == old.nic.number
    return replace(link, master=new) if is_port else link


def _is_default(manager: str, key: str, value: object, link: Link) -> bool:
    """Return whether the manager does the same without the value."""
    if (manager, key) in (("networkmanager", "critical"), ("ifupdown", "ignore_carrier")):
        return True
    if key.startswith("dhcp"):
        if (manager, key) == ("networkmanager", "dhcp4.use_domains"):
            # Domains go with the resolvers.
            return True
        version, _, option = key.partition(".")
        if (manager, option) == ("networkmanager", "use_hostname") and link.nic.options:
            other = link.nic.options.dhcp6 if version == "dhcp4" else link.nic.options.dhcp4
            if other is not None and other.use_hostname == value:
                return True
        of_ipv6 = version == "dhcp6" and option in ("use_routes", "use_mtu")
        default = _DEFAULTS[manager].get(option)
        return of_ipv6 or value == default or option == "route_metric"
    default = (("addresses.lifetime", "forever"), ("bridge.stp", False), ("routes.scope", "global"))
    return (key, value) in default


@pytest.mark.parametrize("first", range(0, 60, 20))
@pytest.mark.parametrize("manager", ["networkd", "ifupdown", "networkmanager"])
def test_values_in_any_combination(manager: str, first: int) -> None:
    for seed in range(first, first + 20):
        assert disagreements(document(seed), manager) == [], f"document({seed})"


@pytest.mark.parametrize("manager", NAMES)
def test_each_network_document_of_the_corpus(manager: str) -> None:
    found, networks = dict[str, list[str]](), 0
    for one in corpus.documents():
        config = outcome.read(one.dialect, one.files).config if one.group.startswith("network/") else None
        nics = config.nics if config else ()
        networks += bool(nics)
        if wrong := disagreements(nics, manager):
            found[f"{one.group}/{one.name}"] = wrong
    assert found == {}
    assert networks >= 250


def test_metrics_of_virtual_nics() -> None:
    """Under netplan they have one metric for DHCP, and none for router advertisements."""
    given = NicOptions(dhcp6=Dhcp(route_metric=300))
    document = [Nic(0), Nic(1, name="v7", kind=Kind.VLAN, parent=0, vlan=7, options=given)]
    link = links_of(document)[1]
    named = {name: list(limits.unsupported(load(name), link)) for name in NAMES}
    assert named == {name: ["dhcp6.route_metric"] if name == "netplan" else [] for name in NAMES}


@pytest.mark.parametrize("manager", NAMES)
def test_what_is_not_used_of_router_advertisements(manager: str) -> None:
    parts = {f"ra_{of}": False for of in ("address", "dns", "gateway")}
    for name in parts:
        physical, vlan = Nic(0), Nic(1, name="v7", kind=Kind.VLAN, parent=0, vlan=7)
        for nic in (_changed(physical, name, False), _changed(vlan, name, False)):
            links = links_of([physical, nic] if nic.number else [nic])
            by_netplan, by_nm = manager == "netplan", manager == "networkmanager"
            expected = [name] if (by_netplan and nic.number) or (by_nm and name == "ra_address") else []
            assert list(load(manager).unsupported(links[-1])) == expected
    (only_dns,) = links_of([Nic(0, ra_address=False, ra_gateway=False)])
    ignored = manager in ("netplan", "networkmanager")
    assert list(load(manager).unsupported(only_dns)) == (["ra_dns"] if ignored else [])


def test_networkmanager_names_ordinary_values() -> None:
    plain = Nic(0, accept_ra=False, addresses=("2001:db8::1/64",), nameservers=("192.0.2.53",))
    bond = Bond("active-backup", lacp_rate="fast")
    document = [plain, Nic(1), Nic(2, name="bond0", kind=Kind.BOND, ports=(1,), bond=bond)]
    named = [list(load("networkmanager").unsupported(link)) for link in links_of(document)]
    assert named == [["nameservers[0]"], [], ["bond.lacp_rate"]]


def test_an_entry_point_for_documents() -> None:
    nic = Nic(
        0, addresses=("2001:db8::1/64",), routes=(Route("10.0.0.0/8"),), options=NicOptions(critical=True)
    )
    for manager in ("ifupdown", "networkmanager"):
        assert disagreements([nic], manager) == []


@pytest.mark.parametrize("case", DOCUMENTS)
def test_ifupdown_removes_what_it_adds(case: str) -> None:
    for link in DOCUMENTS[case]:
        (file,) = load("ifupdown").render(link)
        assert readback_ifupdown.undone(file.text) == []
    assert readback_ifupdown.undone("    up ip -4 rule add from 192.0.2.1 lookup 7 || true")
