"""Every NIC gets the document's configuration; a NIC that another tool configures is left as it is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.config.nics import Nic, Route
from agent.context import context
from agent.host.chroot_path import resolve_in_root
from agent.host.host import Host
from agent.lib.errors import ConfigError
from agent.network import interfaces, networkd
from agent.report import Outcome
from agent.steps import network
from tests.unit.network.test_interfaces import add_nic

from .conftest import Machine

NIC0 = Nic(
    0, addresses=("203.0.113.10/24",), routes=(Route("0.0.0.0/0", "203.0.113.254"),), ra_address=False
)
NIC1 = Nic(1, addresses=("192.168.1.5/24",))
ETC = "/etc/systemd/network"


def _mac(number: int) -> str:
    return f"52:54:00:00:00:{number:02x}"


def _plug(root: Path, *numbers: int) -> None:
    for number in numbers:
        device = f"pci0000:00/0000:00:{number:02x}.0"
        add_nic(root, f"ens{number}", _mac(number), device=device, index=number + 2)


def _enable(root: Path) -> None:
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True)
    (wants / "systemd-networkd.service").symlink_to("/usr/lib/systemd/system/systemd-networkd.service")


@pytest.fixture
def networked(machine: Machine) -> Machine:
    """A machine with networkd, two NICs and a document for both."""
    _enable(machine.root)
    _plug(machine.root, 0, 1)
    machine.deliver(nics=(NIC0, NIC1))
    return machine


def test_each_nic_has_its_file_and_only_the_way_out_is_waited_for(networked: Machine) -> None:
    assert networked.run(network.apply) == {
        "nic:0": "changed: ens0",
        "nic:1": "changed: ens1",
        "nic parameters": "changed",
    }
    first, second = (networked.text(networkd.paths(f"nic{number}")[-1]) for number in (0, 1))
    assert f"MACAddress={_mac(0)}\n" in first
    assert "RequiredForOnline=yes\n" in first
    assert "RequiredForOnline=no\n" in second


def test_the_nic_with_the_default_route_is_waited_for_wherever_it_stands(networked: Machine) -> None:
    networked.deliver(nics=(Nic(0, addresses=("10.0.0.2/8",)), Nic(1, routes=NIC0.routes)))
    networked.run(network.apply)
    assert "RequiredForOnline=no\n" in networked.text(networkd.paths("nic0")[-1])
    assert "RequiredForOnline=yes\n" in networked.text(networkd.paths("nic1")[-1])


def test_a_second_boot_rewrites_nothing(networked: Machine) -> None:
    networked.run(network.apply)
    before = networked.stamps()
    assert set(networked.run(network.apply).values()) == {"unchanged: ens0", "unchanged: ens1", "unchanged"}
    assert networked.stamps() == before


def test_a_network_that_the_document_disables_stays_as_it_is(networked: Machine) -> None:
    networked.run(network.apply)
    written = sorted((networked.root / ETC[1:]).iterdir())
    networked.deliver(network_disabled=True)
    outcomes = networked.run(network.apply)
    assert outcomes == {"network": "unchanged: the document leaves it as it is (config: disabled)"}
    assert written
    assert sorted((networked.root / ETC[1:]).iterdir()) == written
    networked.deliver(network_disabled=False)
    assert "nic:0" in networked.run(network.apply)


def test_a_changed_file_stays_until_that_nic_is_delivered_otherwise(networked: Machine) -> None:
    networked.run(network.apply)
    networked.put(networkd.paths("nic0")[-1], "mine")
    assert networked.run(network.apply)["nic:0"] == "kept: changed by admin"
    networked.deliver(nics=(NIC0, Nic(1, addresses=("192.168.1.6/24",))))
    outcomes = networked.run(network.apply)
    assert (outcomes["nic:0"], outcomes["nic:1"]) == ("kept: changed by admin", "changed: ens1")
    assert networked.text(networkd.paths("nic0")[-1]) == "mine"


def test_a_new_nic_before_the_others_on_the_bus_takes_nobodys_place(networked: Machine) -> None:
    networked.deliver(nics=(NIC0,))
    for number in (0, 1):
        (networked.root / f"sys/class/net/ens{number}").unlink()
    _plug(networked.root, 7)
    networked.run(network.apply)
    _plug(networked.root, 3)
    outcomes = networked.run(network.apply)
    assert outcomes["nic:0"] == "unchanged: ens7"
    assert outcomes[f"dhcp:{_mac(3)}"] == "changed: ens3"


class Booting(Host):
    """A machine in a folder that counts as the running one."""

    @property
    def live(self) -> bool:
        return True

    def path(self, name: str) -> str:
        return resolve_in_root(os.fspath(self.root), name)


def test_another_nic_does_not_take_the_place_of_one_whose_driver_is_late(
    networked: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    networked.deliver(nics=(NIC1,))
    other, late = (networked.root / f"sys/class/net/ens{number}" for number in (0, 1))
    others_place, place = other.readlink(), late.readlink()
    other.unlink()
    networked.run(network.apply)
    late.unlink()
    other.symlink_to(others_place)
    waits: list[float] = []

    def wait(_host: Host, ready: Callable[[], bool], patience: float) -> bool:
        waits.append(patience)
        late.symlink_to(place)
        return ready()

    monkeypatch.setattr(interfaces, "wait_for_change", wait)
    networked.put("/etc/default/gandi", "CONFIG_NODHCP=ens0\n")
    outcomes = []
    for _ in range(2):
        ctx = networked.context()
        ctx.host = Booting(networked.root)
        for index in (2, 3):
            networked.put(f"/run/udev/data/n{index}")
        outcomes.append({item.name: item.outcome for item in network.apply(ctx)})
    assert outcomes[0] == outcomes[1] == {"nic:1": Outcome.UNCHANGED, "ens0": Outcome.SKIPPED}
    assert len(waits) == 1, "no wait where all NICs are present"


def test_a_nic_that_left_the_document_loses_its_file_and_gets_dhcp(networked: Machine) -> None:
    networked.run(network.apply)
    networked.deliver(nics=(NIC0,))
    outcomes = networked.run(network.apply)
    assert outcomes["nic:1"] == "changed: no longer delivered, removed"
    assert outcomes[f"dhcp:{_mac(1)}"] == "changed: ens1"
    assert sorted(path.name for path in (networked.root / "etc/systemd/network").iterdir()) == [
        "10-gandi-dhcp-525400000001.network",
        "10-gandi-nic0.network",
    ]
    networked.deliver(nics=(NIC0, NIC1))
    networked.run(network.apply)
    assert sorted(path.name for path in (networked.root / "etc/systemd/network").iterdir()) == [
        "10-gandi-nic0.network",
        "10-gandi-nic1.network",
    ]


def test_a_nic_that_the_admin_configured_is_not_removed_with_the_document(networked: Machine) -> None:
    networked.run(network.apply)
    networked.put(networkd.paths("nic1")[-1], "[Match]\nName=ens1\n")
    networked.deliver(nics=(NIC0,))
    assert networked.run(network.apply)["nic:1"].startswith("kept: no longer delivered")
    assert networked.text(networkd.paths("nic1")[-1]) == "[Match]\nName=ens1\n"


def test_a_nic_of_the_document_that_is_not_here_is_told(networked: Machine) -> None:
    networked.deliver(nics=(NIC0, NIC1, Nic(2)))
    assert networked.run(network.apply)["nic:2"] == "skipped: no interface on this machine matches it"


def test_other_nics_are_left_to_whoever_configures_them(networked: Machine) -> None:
    networked.deliver(nics=(NIC0,))
    networked.put("/etc/systemd/network/20-wired.network", "[Match]\nName=en*\n")
    assert (
        networked.run(network.apply)["ens1"]
        == "skipped: configured by /etc/systemd/network/20-wired.network"
    )
    (networked.root / "etc/systemd/network/20-wired.network").unlink()
    networked.put("/etc/default/gandi", "CONFIG_NODHCP=ens1\n")
    assert networked.run(network.apply)["ens1"] == "skipped: in CONFIG_NODHCP"
    assert not (networked.root / "etc/systemd/network/10-gandi-dhcp-525400000001.network").exists()


def test_without_any_document_every_nic_gets_dhcp_and_one_is_waited_for(tmp_path: Path) -> None:
    _enable(tmp_path)
    _plug(tmp_path, 0, 1)
    for outcome in ("changed", "unchanged"):
        found = list(network.apply(context(Host(tmp_path))))
        assert [(item.name, item.outcome) for item in found] == [
            (f"dhcp:{_mac(0)}", outcome),
            (f"dhcp:{_mac(1)}", outcome),
        ]
    texts = [
        (tmp_path / f"etc/systemd/network/10-gandi-dhcp-52540000000{n}.network").read_text() for n in (0, 1)
    ]
    assert ["RequiredForOnline=yes\n" in text for text in texts] == [True, False]
    assert all("DHCP=ipv4\n" in text for text in texts)


def test_slaac_comes_back_by_the_setting_alone(networked: Machine) -> None:
    networked.run(network.apply)
    assert "UseAutonomousPrefix=no" in networked.text(networkd.paths("nic0")[-1])
    networked.put("/etc/default/gandi", "CONFIG_IPV6_SLAAC=1\n")
    assert networked.run(network.apply)["nic:0"] == "changed: ens0"
    assert "UseAutonomousPrefix" not in networked.text(networkd.paths("nic0")[-1])


def test_a_dry_run_says_what_it_would_write(networked: Machine) -> None:
    networked.context()
    ctx = networked.context(dry_run=True)
    assert [str(item.outcome) for item in network.apply(ctx)] == ["changed"] * 3
    assert any(networkd.paths("nic0")[-1] in line for line in ctx.host.planned)
    assert not (networked.root / "etc/systemd/network").exists()


def _files(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "etc/systemd/network").iterdir())


def test_dhcp_from_before_the_document_goes_when_the_document_comes(networked: Machine) -> None:
    """networkd takes the first file by name that matches a NIC, and "dhcp-" sorts before "nic0"."""
    ctx = networked.context()
    ctx.config = None
    list(network.apply(ctx))
    assert len(_files(networked.root)) == 2
    outcomes = networked.run(network.apply)
    assert outcomes[f"dhcp:{_mac(0)}"] == "changed: ens0 is in the document now, removed"
    assert _files(networked.root) == ["10-gandi-nic0.network", "10-gandi-nic1.network"]
    assert set(networked.run(network.apply).values()) == {"unchanged: ens0", "unchanged: ens1", "unchanged"}


def test_a_lost_configuration_leaves_the_nics_as_they_were(networked: Machine) -> None:
    networked.run(network.apply)
    before = networked.stamps()
    ctx = networked.context()
    ctx.config = None
    items = list(network.apply(ctx))
    assert [str(item) for item in items] == [
        f"skipped: ens{n}: configured by {networkd.paths(f'nic{n}')[-1]}" for n in (0, 1)
    ]
    assert networked.stamps() == before


def test_the_admins_file_for_a_nic_that_left_the_document_still_counts(networked: Machine) -> None:
    networked.run(network.apply)
    networked.put(networkd.paths("nic1")[-1], "[Match]\nName=ens1\n")
    networked.deliver(nics=(NIC0,))
    outcomes = networked.run(network.apply)
    assert outcomes["ens1"] == f"skipped: configured by {networkd.paths('nic1')[-1]}"
    assert _files(networked.root) == ["10-gandi-nic0.network", "10-gandi-nic1.network"]


def test_a_nic_that_is_missing_by_mistake_keeps_its_file(networked: Machine) -> None:
    networked.run(network.apply)
    networked.deliver(nics=(NIC0,), partial=True)
    assert networked.run(network.apply)["ens1"] == f"skipped: configured by {networkd.paths('nic1')[-1]}"
    assert _files(networked.root) == ["10-gandi-nic0.network", "10-gandi-nic1.network"]


def test_the_admins_change_of_a_file_for_dhcp_survives_the_nic_s_absence(networked: Machine) -> None:
    networked.deliver(nics=(NIC0,))
    networked.run(network.apply)
    path = networkd.paths("dhcp-525400000001")[-1]
    networked.put(path, "mine")
    nic = networked.root / "sys/class/net/ens1"
    place = nic.readlink()
    nic.unlink()
    networked.run(network.apply)
    nic.symlink_to(place)
    assert networked.run(network.apply)[f"dhcp:{_mac(1)}"] == "kept: changed by admin"
    assert networked.text(path) == "mine"


def test_hot_plug_only_leaves_the_network_alone(networked: Machine) -> None:
    networked.put("/etc/default/gandi", "CONFIG_DATASOURCE=none\n")
    assert networked.run(network.apply) == {"network": "skipped: CONFIG_DATASOURCE=none"}
    assert not (networked.root / "etc/systemd/network").exists()


def test_another_network_manager_is_no_failure_where_nothing_is_asked_for(machine: Machine) -> None:
    ctx = machine.context()
    ctx.config = None
    assert [item.outcome for item in network.apply(ctx)] == [Outcome.SKIPPED]
    machine.deliver(nics=(NIC0,))
    with pytest.raises(ConfigError, match="no supported network manager"):
        machine.run(network.apply)
