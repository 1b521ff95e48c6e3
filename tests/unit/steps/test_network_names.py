"""Names of NICs, conditions, lo, and values that a manager cannot express."""

from __future__ import annotations

import subprocess
import sys

import pytest

from agent.config.nics import Bond, Dhcp, Kind, Match, Nic, NicOptions
from agent.lib.records import replace
from agent.network import link_files
from agent.steps import network
from tests.unit.network.test_interfaces import add_nic

from .conftest import Machine

MACS = tuple(f"52:54:00:00:00:0{number}" for number in (0, 1))
LAN = Nic(0, MACS[0], dhcp4=True, options=NicOptions(set_name="lan0"))
LINK = link_files.path(0)


@pytest.fixture
def plugged(machine: Machine) -> Machine:
    """A machine with two NICs that are down, and ifupdown."""
    for number, mac in enumerate(MACS):
        device = f"pci0000:00/0000:00:0{number}.0"
        folder = add_nic(machine.root, f"ens{number}", mac, device=device, index=number + 2)
        (folder / "flags").write_text("0x1002\n")
    _use(machine, "ifupdown")
    machine.deliver(nics=(LAN,))
    return machine


def _use(machine: Machine, manager: str) -> None:
    machine.put("/etc/default/gandi", f"CONFIG_RENDERER={manager}\n")


def test_the_name_is_udevs_from_the_next_boot_and_the_manager_s_at_once(plugged: Machine) -> None:
    items = plugged.run(network.apply)
    assert items["link:0"] == "changed: ens0, by udev from the next boot"
    assert items["nic:0"] == "changed: lan0"
    assert f"MACAddress={MACS[0]}\n" in plugged.text(LINK)
    assert "\nName=lan0\n" in plugged.text(LINK)
    assert "iface lan0 inet dhcp" in plugged.text("/etc/network/interfaces.d/gandi-nic0")
    before = plugged.stamps()
    plugged.run(network.apply)
    assert plugged.stamps() == before


def test_a_nic_that_is_up_keeps_its_name_until_the_next_boot(plugged: Machine) -> None:
    (plugged.root / "sys/class/net/ens0/flags").write_text("0x1003\n")
    items = plugged.run(network.apply)
    assert items["nic:0 set_name"] == "skipped: ens0 is up: it is named lan0 at the next boot"
    assert items["nic:0"] == "changed: ens0"
    assert "\nName=lan0\n" in plugged.text(LINK)


def test_the_admins_file_for_udev_decides(plugged: Machine) -> None:
    plugged.run(network.apply)
    plugged.put(LINK, "[Match]\nOriginalName=*\n")
    items = plugged.run(network.apply)
    assert items["link:0"] == "kept: changed by admin"
    assert items["nic:0"] == "changed: ens0"


def test_the_file_for_udev_goes_with_the_name(plugged: Machine) -> None:
    plugged.run(network.apply)
    plugged.deliver(nics=(Nic(0, MACS[0], dhcp4=True, options=NicOptions(wake_on_lan=False)),))
    plugged.run(network.apply)
    assert "NamePolicy=keep" in plugged.text(LINK)
    assert "WakeOnLan=off\n" in plugged.text(LINK)
    plugged.deliver(nics=(Nic(0, MACS[0], dhcp4=True),), partial=True)
    assert "link:0" not in plugged.run(network.apply)
    plugged.deliver(partial=False)
    assert plugged.run(network.apply)["link:0"] == "changed: no longer delivered, removed"
    assert not (plugged.root / LINK.lstrip("/")).exists()


def test_a_nic_that_was_renamed_is_still_the_one_of_its_old_name(plugged: Machine) -> None:
    plugged.deliver(nics=(Nic(0, name="eth7", dhcp4=True, options=NicOptions(set_name="ens1")),))
    assert plugged.run(network.apply)["nic:0"] == "changed: ens1"


@pytest.mark.parametrize("match", [Match(name="wl*"), Match(drivers=("e1000",))], ids=repr)
def test_a_match_that_nothing_fulfils_takes_no_nic(plugged: Machine, match: Match) -> None:
    plugged.deliver(nics=(Nic(0, match=match, addresses=("192.0.2.7/24",)),))
    items = plugged.run(network.apply)
    assert items["nic:0"] == "skipped: no interface on this machine matches it"
    assert {name for name in items if name.startswith("dhcp:")} == {f"dhcp:{mac}" for mac in MACS}


def test_a_match_that_fits_several_is_one_of_them_and_says_so(plugged: Machine) -> None:
    plugged.deliver(nics=(Nic(0, match=Match(name="ens*"), addresses=("192.0.2.7/24",)),))
    items = plugged.run(network.apply)
    assert items["nic:0"] == "changed: ens0"
    assert items["nic:0 match"] == "skipped: fits ens1 too, not applied there: the NIC is ens0"
    assert f"dhcp:{MACS[1]}" in items


def test_a_match_by_driver_is_sysfs_s_or_what_udev_has_recorded(plugged: Machine) -> None:
    for number, driver in enumerate(("virtio_net", "e1000")):
        device = plugged.root / f"sys/devices/pci0000:00/0000:00:0{number}.0"
        (device / "driver").symlink_to(f"/sys/bus/drivers/{driver}")
    plugged.deliver(nics=(Nic(0, match=Match(drivers=("e1*",)), dhcp4=True),))
    assert plugged.run(network.apply)["nic:0"] == "changed: ens1"
    plugged.put("/run/udev/data/n2", "E:ID_NET_DRIVER=mlx5_core\nI:1\n")
    plugged.deliver(nics=(Nic(0, match=Match(drivers=("mlx*",)), dhcp4=True),))
    assert plugged.run(network.apply)["nic:0"] == "changed: ens0"


def test_lo_gets_its_address_and_no_other_nic_does(plugged: Machine) -> None:
    _use(plugged, "networkd")
    plugged.deliver(nics=(Nic(0, loopback=True, addresses=("198.51.100.7/32",)),))
    items = plugged.run(network.apply)
    assert items["nic:0"] == "changed: lo"
    text = plugged.text("/etc/systemd/network/10-gandi-nic0.network")
    assert "Name=lo\n" in text
    assert "Address=198.51.100.7/32\n" in text
    others = [
        plugged.text(f"/etc/systemd/network/10-gandi-dhcp-{mac.replace(':', '')}.network") for mac in MACS
    ]
    assert ["RequiredForOnline=yes\n" in other for other in others] == [True, False]
    assert plugged.context().state.nic_pairs() == {}


def test_what_the_manager_cannot_express_is_named(plugged: Machine) -> None:
    _use(plugged, "networkd")
    options = NicOptions(dhcp6=Dhcp(use_mtu=False, use_dns=False))
    plugged.deliver(nics=(Nic(0, MACS[0], dhcp6=True, options=options),))
    items = plugged.run(network.apply)
    named = {name: item for name, item in items.items() if name.startswith("nic:0 ")}
    assert list(named) == ["nic:0 dhcp6.use_mtu"]
    assert named["nic:0 dhcp6.use_mtu"].startswith("skipped: not applied: networkd: DHCP for IPv6")


def test_ordinary_values_too(plugged: Machine) -> None:
    _use(plugged, "networkmanager")
    bond = Nic(1, name="bond0", kind=Kind.BOND, ports=(0,), bond=Bond(lacp_rate="fast"), dhcp4=True)
    plugged.deliver(
        nics=(
            Nic(0, MACS[0], accept_ra=False),
            replace(bond, nameservers=("2001:db8::53",), accept_ra=False),
        )
    )
    items = plugged.run(network.apply)
    named = {name: item for name, item in items.items() if name.startswith("nic:1 ")}
    assert list(named) == ["nic:1 bond.lacp_rate", "nic:1 nameservers[0]"]
    assert named["nic:1 nameservers[0]"] == (
        "skipped: not applied: networkmanager: not allowed on a NIC without IPv6"
    )


def test_dhcpv6_under_ifupdown_needs_its_client(plugged: Machine) -> None:
    file = "/etc/network/interfaces.d/gandi-nic0"
    plugged.deliver(nics=(Nic(0, MACS[0], dhcp4=True, dhcp6=True),))
    items = plugged.run(network.apply)
    assert items["nic:0"] == "changed: ens0"
    assert items["nic:0 dhcp6"].startswith("skipped: not applied: ifupdown: /sbin/dhclient is missing")
    assert "iface ens0 inet dhcp\n" in plugged.text(file)
    assert "inet6" not in plugged.text(file)
    plugged.put("/sbin/dhclient", "")
    items = plugged.run(network.apply)
    assert items["nic:0"] == "changed: ens0"
    assert "nic:0 dhcp6" not in items
    assert "iface ens0 inet6 dhcp\n" in plugged.text(file)


def test_ordinary_values_of_networkd_cost_no_import() -> None:
    """A boot pays for each module: one with ordinary values only needs none of those for rare ones."""
    code = (
        "import sys; from agent.network import networkd; from tests.unit.network.cases import CASES\n"
        "links = CASES['public']\n"
        "assert [networkd.unsupported(link) for link in links] == [{}] * len(links)\n"
        "assert not {'agent.network.limits', 'agent.network.networkd_options'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
