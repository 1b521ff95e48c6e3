"""Virtual NICs, another manager than before, and parameters of single NICs."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config.nics import Bond, Kind, Nic, Route
from agent.context import context
from agent.host.host import Host
from agent.lib.records import replace
from agent.network import interfaces, load, sysctls
from agent.network.managers import MANAGERS
from agent.report import Outcome
from agent.steps import network
from tests.unit.network.test_interfaces import add_nic

from .conftest import Machine

NIC0 = Nic(0, addresses=("203.0.113.10/24",), routes=(Route("0.0.0.0/0", "203.0.113.254"),))
NIC1 = Nic(1, addresses=("198.51.100.10/24",), routes=(Route("0.0.0.0/0", "198.51.100.1"),))
BOND = Nic(2, name="bond0", kind=Kind.BOND, ports=(0, 1), bond=Bond(), dhcp4=True)
VLAN = Nic(3, name="vlan7", kind=Kind.VLAN, parent=2, vlan=7, addresses=("192.0.2.1/24",))
NAMES = [manager.name for manager in MANAGERS]


@pytest.fixture
def plugged(machine: Machine) -> Machine:
    """A machine with two NICs, and a document for both."""
    for number in (0, 1):
        device = f"pci0000:00/0000:00:0{number}.0"
        add_nic(machine.root, f"ens{number}", f"52:54:00:00:00:0{number}", device=device, index=number + 2)
    machine.deliver(nics=(NIC0, NIC1))
    return machine


def _use(machine: Machine, manager: str) -> None:
    machine.put("/etc/default/gandi", f"CONFIG_RENDERER={manager}\n")


def _ours(root: Path) -> list[str]:
    """Return the agent's files for NICs."""
    found = (str(path.relative_to(root)) for path in (root / "etc").rglob("*gandi-*") if path.is_file())
    return sorted(name for name in found if "sysctl" not in name)


def _expected(manager: str, *keys: str) -> list[str]:
    renderer = load(manager)
    return sorted(path.lstrip("/") for key in keys for path in renderer.paths(key))


@pytest.mark.parametrize("manager", NAMES)
def test_every_manager_gets_its_files_once(plugged: Machine, manager: str) -> None:
    _use(plugged, manager)
    assert plugged.run(network.apply)["nic:0"] == "changed: ens0"
    files = _ours(plugged.root)
    assert files
    assert set(files) <= set(_expected(manager, "nic0", "nic1"))
    before = plugged.stamps()
    assert set(plugged.run(network.apply).values()) == {"unchanged: ens0", "unchanged: ens1", "unchanged"}
    assert plugged.stamps() == before


@pytest.mark.parametrize("after", NAMES)
@pytest.mark.parametrize("before", NAMES)
def test_what_was_written_for_the_manager_before_goes(plugged: Machine, before: str, after: str) -> None:
    _use(plugged, before)
    plugged.run(network.apply)
    _use(plugged, after)
    outcomes = plugged.run(network.apply)
    assert outcomes["nic:0"] == ("unchanged: ens0" if before == after else "changed: ens0")
    assert set(_ours(plugged.root)) <= set(_expected(after, "nic0", "nic1"))


def test_the_administrators_change_for_the_manager_before_stays_and_the_nic_works(plugged: Machine) -> None:
    _use(plugged, "networkd")
    plugged.run(network.apply)
    theirs = load("networkd").paths("nic0")[-1]
    plugged.put(theirs, "mine")
    _use(plugged, "ifupdown")
    assert plugged.run(network.apply)["nic:0"] == "changed: ens0"
    assert plugged.text(theirs) == "mine"
    assert plugged.run(network.apply)["nic:0"] == "unchanged: ens0"


def test_dhcp_of_no_document_goes_with_its_manager(plugged: Machine) -> None:
    for manager, outcome in (("networkd", Outcome.CHANGED), ("netplan", Outcome.CHANGED)):
        _use(plugged, manager)
        ctx = context(Host(plugged.root))
        assert {item.outcome for item in network.apply(ctx)} == {outcome}
    keys = [f"dhcp-52540000000{number}" for number in (0, 1)]
    assert set(_ours(plugged.root)) <= set(_expected("netplan", *keys))
    assert "etc/netplan/90-gandi-dhcp-525400000000.yaml" in _ours(plugged.root)


def test_keyfiles_and_netplan_are_for_root_alone(plugged: Machine) -> None:
    for manager in ("netplan", "networkmanager"):
        _use(plugged, manager)
        plugged.run(network.apply)
        path = plugged.root / load(manager).paths("nic0")[0].lstrip("/")
        assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("manager", NAMES)
def test_a_bond_and_a_vlan_on_it_are_made_of_what_is_here(plugged: Machine, manager: str) -> None:
    _use(plugged, manager)
    plugged.deliver(nics=(Nic(0), Nic(1), BOND, VLAN))
    outcomes = plugged.run(network.apply)
    assert outcomes["nic:2"] == "changed: bond0"
    assert outcomes["nic:3"] == "changed: vlan7"
    for number in (0, 1):
        (plugged.root / f"sys/class/net/ens{number}").unlink()
    outcomes = plugged.run(network.apply)
    assert outcomes["nic:0"] == "skipped: no interface on this machine matches it"
    assert outcomes["nic:3"] == "skipped: vlan7: none of the interfaces below it is on this machine"


def test_a_bond_that_left_the_document_leaves_no_file(plugged: Machine) -> None:
    _use(plugged, "networkd")
    plugged.deliver(nics=(Nic(0), Nic(1), BOND, VLAN))
    plugged.run(network.apply)
    assert "etc/systemd/network/10-gandi-nic2.netdev" in _ours(plugged.root)
    plugged.deliver(nics=(NIC0, NIC1))
    assert plugged.run(network.apply)["nic:2"] == "changed: no longer delivered, removed"
    assert _ours(plugged.root) == [f"etc/systemd/network/10-gandi-nic{number}.network" for number in (0, 1)]


def test_answers_by_source_make_the_reverse_path_loose(plugged: Machine) -> None:
    _use(plugged, "networkd")
    plugged.run(network.apply)
    assert plugged.text(sysctls.FILE).splitlines()[1:] == [
        "-net/ipv4/conf/ens0/rp_filter = 2",
        "-net/ipv4/conf/ens1/arp_announce = 2",
        "-net/ipv4/conf/ens1/arp_filter = 0",
        "-net/ipv4/conf/ens1/rp_filter = 2",
    ]
    plugged.deliver(nics=(NIC0, Nic(1, addresses=NIC1.addresses)))
    plugged.run(network.apply)
    assert plugged.text(sysctls.FILE).splitlines()[1:] == [
        "-net/ipv4/conf/ens1/arp_announce = 2",
        "-net/ipv4/conf/ens1/arp_filter = 0",
        "-net/ipv4/conf/ens1/rp_filter = 0",
    ]
    plugged.deliver(nics=(NIC0,))
    assert plugged.run(network.apply)["nic parameters"] == "changed: no longer delivered, removed"
    assert not (plugged.root / sysctls.FILE.lstrip("/")).exists()


def test_parameters_are_left_alone_where_the_setting_says_so(plugged: Machine) -> None:
    plugged.put("/etc/default/gandi", "CONFIG_RENDERER=networkd\nCONFIG_SYSCTL=0\n")
    assert "nic parameters" not in plugged.run(network.apply)
    assert not (plugged.root / sysctls.FILE.lstrip("/")).exists()


def test_a_name_that_was_read_before_udev_gave_another_is_not_used(
    plugged: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """udev's record of a NIC is written after its rename: here between the agent's two reads."""
    nics = plugged.root / "sys/class/net"
    named = interfaces.is_named_by_udev

    def rename(host: Host, one: interfaces.Interface) -> bool:
        if (nics / "ens1").is_symlink():
            (nics / "ens1").rename(nics / "enp0s5")
        return named(host, one)

    for index in (2, 3):
        plugged.put(f"/run/udev/data/n{index}")
    monkeypatch.setattr(interfaces, "is_named_by_udev", rename)
    _use(plugged, "ifupdown")
    assert plugged.run(network.apply)["nic:1"] == "changed: enp0s5"
    assert "iface enp0s5 inet static" in plugged.text(load("ifupdown").paths("nic1")[0])


@pytest.mark.parametrize("documented", [False, True])
def test_dhcp_for_a_nic_of_that_name_that_the_machine_had_before_goes(
    plugged: Machine, *, documented: bool
) -> None:
    """An image that was booted without a document and then copied: ifupdown merges stanzas of one name."""
    _use(plugged, "ifupdown")
    ctx = plugged.context()
    ctx.config = None
    list(network.apply(ctx))
    for number in (0, 1):
        (plugged.root / f"sys/class/net/ens{number}/address").write_text(f"52:54:00:00:01:0{number}\n")
    ctx = plugged.context()
    ctx.config = ctx.config if documented else None
    outcomes = {item.name: str(item) for item in network.apply(ctx)}
    keys = ("nic0", "nic1") if documented else ("dhcp-525400000100", "dhcp-525400000101")
    assert _ours(plugged.root) == _expected("ifupdown", *keys)
    assert "removed" in outcomes["dhcp:52:54:00:00:00:00"]


def test_a_changed_file_for_a_nic_that_the_machine_had_before_stays(plugged: Machine) -> None:
    _use(plugged, "ifupdown")
    theirs = load("ifupdown").paths("dhcp-525400000900")[0]
    plugged.put(theirs, "iface ens0 inet dhcp\n    hostname mine\n")
    plugged.run(network.apply)
    assert plugged.text(theirs).endswith("hostname mine\n")


def test_what_netplan_refuses_for_its_backend_costs_only_itself(plugged: Machine) -> None:
    _use(plugged, "netplan")
    nowhere = Route("10.0.0.0/8", type="blackhole")
    plugged.deliver(nics=(replace(NIC0, routes=(*NIC0.routes, nowhere)),))
    assert [name for name in plugged.run(network.apply) if "routes" in name] == []
    path = load("netplan").paths("nic0")[0]
    assert "blackhole" in plugged.text(path)
    plugged.put("/etc/netplan/00-all.yaml", "network:\n  renderer: NetworkManager\n")
    for outcome in ("changed: ens0", "unchanged: ens0"):
        items = plugged.run(network.apply)
        assert items["nic:0"] == outcome
        assert items["nic:0 routes[1].type"].startswith("skipped: not applied: netplan: for NetworkManager:")
        assert "blackhole" not in plugged.text(path)
        assert "203.0.113.254" in plugged.text(path)
