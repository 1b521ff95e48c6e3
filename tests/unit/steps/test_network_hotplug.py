"""NICs plugged in and out in one boot: their files are removed and written again; no other takes their
place.
"""

from __future__ import annotations

import pytest

from agent.config.nics import Nic
from agent.context import context
from agent.host.host import Host
from agent.network import networkd, nic_inventory
from agent.steps import network

from .conftest import Machine
from .test_network import NIC0, NIC1, _enable, _mac, _plug

DHCP = networkd.paths("dhcp-525400000002")[-1]


@pytest.fixture
def networked(machine: Machine) -> Machine:
    """A machine with networkd that has booted with two NICs, both in its document."""
    _enable(machine.root)
    _plug(machine.root, 0, 1)
    machine.deliver(nics=(NIC0, NIC1))
    machine.run(network.apply)
    return machine


def _unplug(machine: Machine, number: int) -> None:
    (machine.root / f"sys/class/net/ens{number}").unlink()


def _again(machine: Machine) -> dict[str, str]:
    """Run the step again in the same boot, after a NIC was plugged in or out, and record the NICs."""
    found = machine.run(network.apply, same_boot=True)
    ctx = machine.context(same_boot=True)
    nic_inventory.store(ctx, nic_inventory.wait_for_nics(ctx, (), {}, by_name=False))
    return found


def test_the_files_of_one_that_was_unplugged_go_and_come_again(networked: Machine) -> None:
    file = networkd.paths("nic1")[-1]
    before = networked.text(file)
    _unplug(networked, 1)
    assert _again(networked)["nic:1"] == "changed: unplugged, removed"
    assert not (networked.root / file.lstrip("/")).exists()
    assert _again(networked)["nic:1"] == "unchanged: gone"
    _plug_again(networked, 1)
    assert _again(networked)["nic:1"] == "changed: ens1"
    assert networked.text(file) == before


def _plug_again(machine: Machine, number: int) -> None:
    link = machine.root / f"sys/class/net/ens{number}"
    link.symlink_to(f"../../devices/pci0000:00/0000:00:{number:02x}.0/net/ens{number}")


def test_a_file_of_the_administrators_stays(networked: Machine) -> None:
    file = networkd.paths("nic1")[-1]
    networked.put(file, "mine")
    _unplug(networked, 1)
    assert _again(networked)["nic:1"].startswith("kept")
    assert networked.text(file) == "mine"


def test_at_a_boot_a_nic_that_is_not_there_keeps_its_files(networked: Machine) -> None:
    """It may appear later."""
    _unplug(networked, 1)
    assert networked.run(network.apply)["nic:1"].startswith("skipped")
    assert networked.text(networkd.paths("nic1")[-1])


def test_no_nic_that_was_there_takes_the_place_of_one_that_went(networked: Machine) -> None:
    _plug(networked.root, 2)
    assert _again(networked)[f"dhcp:{_mac(2)}"] == "changed: ens2"
    _unplug(networked, 0)
    outcomes = _again(networked)
    assert outcomes["nic:0"] == "changed: unplugged, removed"
    assert outcomes[f"dhcp:{_mac(2)}"] == "unchanged: ens2"
    # A new one takes it: the platform has replaced the NIC.
    _plug(networked.root, 7)
    assert _again(networked)["nic:0"] == "changed: ens7"


def test_its_files_for_dhcp_go(networked: Machine) -> None:
    _plug(networked.root, 2)
    _again(networked)
    assert networked.text(DHCP)
    _unplug(networked, 2)
    _again(networked)
    assert not (networked.root / DHCP.lstrip("/")).exists()


def test_without_a_document_too(machine: Machine) -> None:
    _enable(machine.root)
    _plug(machine.root, 2)

    def look() -> dict[str, str]:
        ctx = context(Host(machine.root))
        return {item.name: str(item.outcome) for item in network.apply(ctx)}

    assert look() == {f"dhcp:{_mac(2)}": "changed"}
    _unplug(machine, 2)
    assert look() == {f"dhcp:{_mac(2)}": "changed"}
    assert not (machine.root / DHCP.lstrip("/")).exists()


def test_the_way_out_stays_where_it_is(machine: Machine) -> None:
    """A NIC that is plugged in before it on the bus takes no connection away."""
    _enable(machine.root)
    _plug(machine.root, 2)
    machine.run(network.apply)
    before = machine.text(DHCP)
    assert "RouteMetric" not in before
    _plug(machine.root, 1)
    outcomes = _again(machine)
    assert outcomes == {f"dhcp:{_mac(1)}": "changed: ens1", f"dhcp:{_mac(2)}": "unchanged: ens2"}
    assert machine.text(DHCP) == before


def test_it_is_known_by_the_mac_that_it_was_made_with(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agent.network import ethtool_netlink

    _enable(machine.root)
    _plug(machine.root, 2)
    machine.run(network.apply)
    machine.put("/sys/class/net/ens2/address", "52:54:00:00:00:99\n")
    machine.put("/sys/class/net/ens2/addr_assign_type", "3\n")
    monkeypatch.setattr(ethtool_netlink, "permanent_address", lambda index: {4: _mac(2)}[index])
    assert _again(machine) == {f"dhcp:{_mac(2)}": "unchanged: ens2"}


def test_a_new_place_in_the_document_may_be_a_nic_that_was_there(networked: Machine) -> None:
    _plug(networked.root, 2)
    _again(networked)
    networked.deliver(nics=(NIC0, NIC1, Nic(2, addresses=("10.0.0.2/8",))))
    assert _again(networked)["nic:2"] == "changed: ens2"
