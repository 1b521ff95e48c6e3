"""Two NICs with a gateway each, with strict kernel settings: a host behind each, and one in the network of
each, gets the answer through the NIC that it pinged.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.config.nics import Nic, Route
from tests.vm.conftest import Rig
from tests.vm.documents import NO_MEDIUM, stored
from tests.vm.rig import GuestFile, ImageSpec, Machine, MachineSpec, newest_deb
from tests.vm.wire import Wire

FIRST, SECOND = "52:54:00:00:02:00", "52:54:00:00:02:01"
A, B = "203.0.113.10", "203.0.113.11"
BEHIND = "192.0.2.10"
NEIGHBOUR = "203.0.113.77"
#: An administrator's rule: drop packets that arrive by another NIC than the answer would leave by.
STRICT = GuestFile("/etc/sysctl.d/50-strict.conf", b"net.ipv4.conf.all.rp_filter = 1\n")


@pytest.fixture
def wires(tmp_path: Path) -> Iterator[tuple[Wire, Wire]]:
    """Two cables."""
    pair = Wire(tmp_path, "net0", FIRST), Wire(tmp_path, "net1", SECOND)
    yield pair
    for wire in pair:
        wire.close()


def _start(machine: Rig, wires: tuple[Wire, Wire], *nics: Nic) -> Machine:
    files = (*stored(*nics), STRICT)
    image = ImageSpec(debs=(newest_deb(),), commands=(NO_MEDIUM,), files=files)
    vm = machine.start(image, MachineSpec(nics=tuple(wire.nic for wire in wires)))
    assert vm.wait_booted() == "running", vm.output("systemctl --failed --no-legend")
    assert vm.output("sysctl -n net.ipv4.conf.all.rp_filter") == "1"
    return vm


def _nic(number: int, mac: str, address: str, gateway: str) -> Nic:
    route = Route("0.0.0.0/0", gateway)
    return Nic(number, mac, addresses=(f"{address}/24",), routes=(route,), accept_ra=False)


def test_nics_answer_each_for_itself_in_one_network_and_in_two(
    machine: Rig, wires: tuple[Wire, Wire]
) -> None:
    """The first document is applied at a boot, the other when the bootstrap stage is started again."""
    gateway = "203.0.113.254"
    vm = _start(machine, wires, _nic(0, FIRST, A, gateway), _nic(1, SECOND, B, gateway))
    for wire, other, address in ((wires[0], wires[1], A), (wires[1], wires[0], B)):
        assert wire.asks(BEHIND, address), vm.output("ip rule; ip route show table all")
        assert wire.asks(NEIGHBOUR, address)
        assert not other.answered(BEHIND, address, 0.1)
    assert len(vm.json("ip -j -4 route show default")) == 2
    assert [r["dev"] for r in vm.json("ip -j route get 192.0.2.1")] == [vm.output(_NAME.format(FIRST))]

    away = "198.51.100.10"
    for file in stored(_nic(0, FIRST, A, gateway), _nic(1, SECOND, away, "198.51.100.1")):
        vm.write_file(file.path, file.content, mode=file.mode)
    vm.run("systemctl restart gandi-bootstrap")
    vm.wait_until(f"ip -br addr | grep -qF {away}/24", interval=0.5)
    assert wires[0].asks(BEHIND, A)
    assert wires[1].asks(BEHIND, away), vm.output("ip rule; ip route show table all")
    # Each over the other's router: it arrived by the NIC that has the address.
    assert wires[1].asks(NEIGHBOUR, away)
    assert wires[0].asks("198.51.100.77", A)


#: The name of the NIC with that MAC.
_NAME = "ip -o link | grep -i {} | cut -d: -f2 | tr -d ' '"
