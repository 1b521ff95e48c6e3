"""NICs plugged in and out while the machine runs: of the document, of no document, in CONFIG_NODHCP."""

from __future__ import annotations

import pytest

from tests.vm import plugged
from tests.vm.checks import cidrs
from tests.vm.conftest import Rig
from tests.vm.plugged import ADDRESS, FIRST, LATER, LATER_ADDRESS, OTHER, look_again, name_of, settings
from tests.vm.rig import Machine, Nic

FILES = "/etc/systemd/network"
_LATER = Nic(id="later", mac=LATER)
_OTHER = Nic(id="other", mac=OTHER, backend="user,restrict=on,net=10.9.0.0/24")


@pytest.fixture
def vm(machine: Rig) -> Machine:
    """A machine after its boot."""
    return machine.clone(plugged.state())


def _add(vm: Machine, nic: Nic) -> str:
    vm.add_nic(nic)
    vm.wait_until(f"ip -o link | grep -q {nic.mac}", timeout=30)
    vm.run("udevadm settle")
    return name_of(vm, nic.mac)


def _has(vm: Machine, name: str, address: str) -> None:
    waited = vm.wait_until(f"ip -o addr show dev {name} | grep -q 'inet {address}'", timeout=60)
    print(f"{name}: {address} after {waited.seconds:.2f} s")


def test_a_nic_is_configured_when_it_comes_and_forgotten_when_it_goes(vm: Machine) -> None:
    """In the document and not, removed, added again, its driver loaded again, renamed, MAC changed, udevd
    restarted in between.
    """
    first = name_of(vm, FIRST)
    route = vm.json("ip -j route show default")
    assert ADDRESS in cidrs(vm, first)

    later = _add(vm, _LATER)
    _has(vm, later, LATER_ADDRESS)
    assert vm.json(f"ip -j link show {later}")[0]["mtu"] == 1400
    assert vm.output(f"sysctl -n net.ipv4.conf.{later}.arp_announce") == "2"
    vm.wait_until(f"grep -q 'post-iface-attach add {later}' /run/hooks")

    other = _add(vm, _OTHER)
    _has(vm, other, "10.9.0.")
    vm.wait_until(f"grep -q 'post-iface-attach add {other}' /run/hooks")
    assert vm.json("ip -j route show default")[0] == route[0], "the way out is the one that it was"

    vm.run(f"ip link set {other} down; ip link set {other} address 52:54:00:00:03:77")
    vm.run(f"ip link set {other} name moved; ip link set moved up; udevadm settle")
    look_again(vm)
    assert vm.output(f"ls {FILES} | grep -c gandi-dhcp-525400000302") == "1"
    assert vm.run(f"ls {FILES} | grep gandi-dhcp-525400000377", check=False).stdout == ""

    vm.remove_nic("other")
    vm.remove_nic("later")
    vm.wait_until(f"! ls {FILES} | grep -q -e nic1 -e dhcp-525400000302", timeout=30)
    for gone in (later, "moved"):
        vm.wait_until(f"grep -q 'post-iface-detach remove {gone}' /run/hooks")
    assert ADDRESS in cidrs(vm, first)

    vm.run("systemctl restart systemd-udevd")
    again = _add(vm, _OTHER)
    _has(vm, again, "10.9.0.")
    again = _add(vm, _LATER)
    _has(vm, again, LATER_ADDRESS)
    driver = vm.output(f"basename $(readlink -f /sys/class/net/{again}/device)")
    for verb in ("unbind", "bind"):
        vm.run(f"echo {driver} > /sys/bus/virtio/drivers/virtio_net/{verb}")
    vm.wait_until(f"ip -o link | grep -q {LATER}")
    _has(vm, again, LATER_ADDRESS)
    assert vm.json("ip -j route show default")[0] == route[0]
    assert vm.output("systemctl is-system-running") == "running"


def test_a_nic_that_is_to_be_left_is_left(vm: Machine) -> None:
    settings(vm, f'CONFIG_NODHCP="{" ".join(f"enp{bus}s0" for bus in range(1, 20))}"')
    name = _add(vm, _OTHER)
    seen = f"gandi-agent resources | grep '{name}.*CONFIG_NODHCP' | grep -vq 'not handled yet'"
    vm.wait_until(seen, timeout=30)
    look_again(vm)
    assert cidrs(vm, name) == set()
    assert vm.run(f"ls {FILES} | grep dhcp-525400000302", check=False).stdout == ""
    settings(vm, 'CONFIG_NODHCP=""')
    vm.run("udevadm trigger")
    _has(vm, name, "10.9.0.")

    settings(vm, "CONFIG_NETWORK=0")
    name = _add(vm, _LATER)
    look_again(vm)
    assert cidrs(vm, name) == set()


@pytest.mark.long
def test_a_storm_of_virtual_nics_wakes_nobody(vm: Machine) -> None:
    """500 veth pairs in a namespace and 50 more where udev sees them do not start the daemon once."""
    settings(vm, "CONFIG_IDLE_EXIT=0")
    # The only thing that wakes an idle daemon: the watchdog's ping.
    place = "/run/systemd/system/gandi-agent.service.d"
    vm.run(f"mkdir -p {place}")
    vm.write_file(f"{place}/storm.conf", "[Service]\nWatchdogSec=0\n")
    vm.run("systemctl daemon-reload")
    vm.run("ip netns add storm")
    look_again(vm)
    pid = vm.output("systemctl show -P MainPID gandi-agent")
    spent = f"cut -d' ' -f14,15 /proc/{pid}/stat"
    wakeups = f"awk '/^voluntary/ {{print $2}}' /proc/{pid}/status"
    # The kernel's filter is attached after ten seconds without work, with no other sign of it.
    vm.wait_until(f'before=$({wakeups}); sleep 12; test "$({wakeups})" = "$before"', timeout=180)
    before, woken = vm.output(spent), vm.output(wakeups)
    pairs = [f"link add a{n} type veth peer name b{n}\n" for n in range(500)]
    waited = vm.run("ip -n storm -batch -", stdin="".join(pairs).encode(), timeout=300)
    vm.run("ip -batch -", stdin="".join(pairs[:50]).encode(), timeout=300)
    vm.run("udevadm settle --timeout=120", timeout=130)
    print(f"500 pairs in {waited.seconds:.0f} s")
    assert vm.output(wakeups) == woken
    assert vm.output(spent) == before
