"""Each network manager in a guest that uses it: addresses, routes and resolvers in force after the boot and
after a reboot, answers by the NIC that was pinged, a lease, and a dead NIC that delays nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.config.nics import Bond, Kind, Route
from agent.config.nics import Nic as Wanted
from tests.vm import checks, sample
from tests.vm.conftest import Rig
from tests.vm.documents import NO_MEDIUM, stored
from tests.vm.rig import ImageSpec, Machine, MachineSpec, Network, Nic, newest_deb
from tests.vm.wire import Wire

#: Networks with a router, and a host behind it.
FIRST, SECOND = "52:54:00:00:01:00", "52:54:00:00:01:01"
LEASED = Nic(id="leased", mac="52:54:00:00:01:02")
DEAD = "52:54:00:00:01:03"
#: Hosts behind each of the two routers.
HERE, THERE = "192.0.2.10", "192.0.2.20"
A, B = "203.0.113.10", "198.51.100.10"

DOCUMENT = (
    Wanted(
        0,
        FIRST,
        addresses=(f"{A}/24", "2001:db8::10/64"),
        routes=(
            Route("0.0.0.0/0", "203.0.113.254"),
            Route("::/0", "2001:db8::1"),
            Route("10.9.0.0/16", "203.0.113.253", metric=50),
        ),
        nameservers=("203.0.113.3",),
        search=("one.example",),
        mtu=1400,
        accept_ra=False,
    ),
    Wanted(
        1,
        SECOND,
        addresses=(f"{B}/32",),
        routes=(Route("0.0.0.0/0", "198.51.100.1", on_link=True),),
        accept_ra=False,
    ),
    Wanted(2, LEASED.mac, dhcp4=True, accept_ra=False),
    Wanted(3, DEAD, dhcp4=True, accept_ra=False, optional=True),
)
#: Under networkd: two more NICs, a bond of them and a VLAN on it.
PORTS = "52:54:00:00:01:04", "52:54:00:00:01:05"
C, D, NEIGHBOUR = "192.168.7.10", "192.168.8.10", "192.168.7.77"
BONDED = (
    Wanted(4, PORTS[0]),
    Wanted(5, PORTS[1]),
    Wanted(
        6,
        name="bond0",
        mac=PORTS[0],
        kind=Kind.BOND,
        ports=(4, 5),
        bond=Bond("active-backup", miimon=100, primary=4),
        addresses=(f"{C}/24",),
        accept_ra=False,
    ),
    Wanted(7, name="bond0.7", kind=Kind.VLAN, parent=6, vlan=7, addresses=(f"{D}/24",), accept_ra=False),
)
#: Packages of the image besides the manager: networkd is tested with systemd-resolved.
EXTRA = {Network.NETWORKD: ("systemd-resolved",)}


@pytest.fixture
def wires(tmp_path: Path) -> Iterator[tuple[Wire, Wire]]:
    """Return two networks."""
    pair = Wire(tmp_path, "net0", FIRST), Wire(tmp_path, "net1", SECOND)
    yield pair
    for wire in pair:
        wire.close()


@pytest.mark.long
@pytest.mark.parametrize("manager", [pytest.param(one, id=str(one)) for one in Network])
def test_a_document_is_in_force_under_its_manager(
    machine: Rig, wires: tuple[Wire, Wire], tmp_path: Path, manager: Network
) -> None:
    bonded = BONDED if manager is Network.NETWORKD else ()
    ports = [Wire(tmp_path, f"member{number}", mac) for number, mac in enumerate(PORTS if bonded else ())]
    files = stored(*DOCUMENT, *bonded, nameservers=("203.0.113.4",), search=("all.example",))
    image = ImageSpec(
        debs=(newest_deb(),),
        network=manager,
        extra=EXTRA.get(manager, ()),
        commands=(NO_MEDIUM,),
        files=files,
    )
    # There is no DHCP server at its other end.
    dead = Wire(tmp_path, "dead", DEAD)
    nics = (*(wire.nic for wire in wires), LEASED, dead.nic, *(port.nic for port in ports))
    vm = machine.start(image, MachineSpec(nics=nics))
    for outcome in ("changed", "unchanged"):
        # A dead NIC delays the boot by no more than the manager's own wait.
        assert vm.wait_booted() == "running", vm.output(
            "systemctl --failed --no-legend; systemctl list-jobs"
        )
        assert sample.steps(vm, "bootstrap")["network"] == outcome
        _in_force(vm, manager)
        _resolvers(vm, manager)
        first, second = wires
        assert first.asks(HERE, A)
        assert second.asks(THERE, B)
        if outcome == "changed":
            vm.run("sync")
            vm.cut_power()
            vm.cold_boot()
    if ports:
        _bonded(vm, *ports)


def _in_force(vm: Machine, manager: Network) -> None:
    names = {link["address"]: link["ifname"] for link in vm.json("ip -j link")}
    first, second, leased = names[FIRST], names[SECOND], names[LEASED.mac]
    vm.wait_until(f"ip -4 -o addr show dev {leased} | grep -q 'inet 10.0.2.'", timeout=180)
    assert checks.cidrs(vm, first) == {f"{A}/24", "2001:db8::10/64"}
    assert checks.cidrs(vm, second) == {f"{B}/32"}
    mtu = {link["ifname"]: link["mtu"] for link in vm.json("ip -j link")}
    assert mtu[first] == 1400
    # dhcpcd, which ifupdown leaves a lease to, adds ways of its own behind the others: of IPv6 even where
    # the NIC is to take none.
    last = 1000 if manager is Network.IFUPDOWN else 1 << 32
    lead = 1 if manager is Network.IFUPDOWN else None
    assert _ways(vm, 4, last) == [(first, "203.0.113.254", 100), (second, "198.51.100.1", 200)]
    assert [way[:2] for way in _ways(vm, 6, last)][:lead] == [(first, "2001:db8::1")]
    extra = vm.json("ip -j route show 10.9.0.0/16")
    assert [(r["gateway"], r["metric"]) for r in extra] == [("203.0.113.253", 50)]
    rules = {
        (rule["src"], str(rule["table"])) for rule in vm.json("ip -j rule") if rule["priority"] == 10000
    }
    assert rules == {(B, "10001")}
    assert vm.output(f"sysctl -n net.ipv4.conf.{second}.rp_filter") == "2"


def _ways(vm: Machine, family: int, last: int) -> list[tuple[str, str, int]]:
    """Return the default routes with a metric below a limit, in order."""
    routes = sorted(vm.json(f"ip -j -{family} route show default"), key=lambda route: route.get("metric", 0))
    return [
        (r["dev"], r.get("gateway", ""), r.get("metric", 0)) for r in routes if r.get("metric", 0) < last
    ]


def _resolvers(vm: Machine, manager: Network) -> None:
    if manager is Network.NETWORKD:
        assert "203.0.113.4" in vm.output("resolvectl dns | grep ^Global")
        said = vm.output("resolvectl dns; resolvectl domain")
        assert "203.0.113.3" in said
        assert "one.example" in said
        return
    text = vm.read_file("/etc/resolv.conf").decode()
    servers = [line.split()[1] for line in text.splitlines() if line.startswith("nameserver")]
    assert servers == ["203.0.113.4", "203.0.113.3"], text
    assert "all.example one.example" in text


def _bonded(vm: Machine, one: Wire, other: Wire) -> None:
    """Check the bond, which switches to its other port, and the VLAN on it."""
    assert one.asks(NEIGHBOUR, C)
    assert checks.cidrs(vm, "bond0.7") == {f"{D}/24"}
    assert vm.json("ip -j -d link show bond0.7")[0]["linkinfo"]["info_data"]["id"] == 7
    vm.set_link("member0", up=False)
    # The other port has the bond's address now, and the answer leaves by it.
    other.mac = PORTS[0]
    assert other.asks(NEIGHBOUR, C, timeout=30)
