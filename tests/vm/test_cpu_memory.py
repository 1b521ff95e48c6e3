"""CPUs and memory added to a running machine with a kernel that leaves them offline; what the administrator
takes offline stays offline.
"""

from __future__ import annotations

import pytest

from tests.vm import plugged
from tests.vm.conftest import Rig
from tests.vm.plugged import look_again, name_of, settings
from tests.vm.rig import Machine

CPU = "/sys/devices/system/cpu"
MEMORY = "/sys/devices/system/memory"


@pytest.fixture
def vm(machine: Rig) -> Machine:
    """A machine after its boot."""
    return machine.clone(plugged.state())


def _offline(vm: Machine) -> list[str]:
    found = vm.run(f"grep -l offline {MEMORY}/memory*/state", check=False).stdout.split()
    return sorted(path.split("/")[-2] for path in found)


def _total(vm: Machine) -> int:
    """Return the memory in MiB."""
    return int(vm.output("awk '/MemTotal/ {print $2}' /proc/meminfo")) // 1024


def _blocks(vm: Machine) -> int:
    return int(vm.output(f"ls -d {MEMORY}/memory* | wc -l"))


def test_cpus_come_online_and_the_administrators_stay_offline(vm: Machine) -> None:
    """CPUs already online, taken offline by the administrator, and events repeated by udevadm trigger."""
    nic = name_of(vm, plugged.QUEUES)
    assert vm.output("nproc") == "1"
    assert vm.output(f"ls -d /sys/class/net/{nic}/queues/tx-* | wc -l") == "1"
    for count in (2, 3, 4):
        vm.add_cpu(f"cpu{count - 1}")
        waited = vm.wait_until(f"test $(nproc) = {count}", timeout=60)
        print(f"CPU {count}: online after {waited.seconds:.2f} s")
        vm.wait_until(f"test $(ls -d /sys/class/net/{nic}/queues/tx-* | wc -l) = {count}", timeout=30)
    assert f"Combined:\t{plugged.MOST_QUEUES}" in vm.output(f"ethtool -l {nic}").split("Current")[1].replace(
        "Combined:\t\t", "Combined:\t"
    )

    vm.run(f"echo 0 > {CPU}/cpu2/online")
    vm.wait_until(f"test $(ls -d /sys/class/net/{nic}/queues/tx-* | wc -l) = 3", timeout=30)
    look_again(vm)
    assert vm.output(f"cat {CPU}/online") == "0-1,3"
    vm.run(f"echo 1 > {CPU}/cpu2/online; echo 1 > {CPU}/cpu2/online")
    vm.wait_until(f"test $(ls -d /sys/class/net/{nic}/queues/tx-* | wc -l) = 4", timeout=30)

    vm.run(f"ethtool -L {nic} combined 2")
    vm.run(f"echo 0 > {CPU}/cpu3/online")
    look_again(vm)
    assert vm.output(f"ls -d /sys/class/net/{nic}/queues/tx-* | wc -l") == "2"
    assert vm.output("systemctl is-system-running") == "running"


def test_memory_comes_online_and_the_administrators_stays_offline(vm: Machine) -> None:
    """A kernel that leaves memory offline, one that does not, a zone, and many blocks at once."""
    before, blocks = _total(vm), _blocks(vm)
    assert _offline(vm) == []
    for number, size in enumerate((128, 256, 512)):
        vm.add_memory(f"dimm{number}", size)
    vm.wait_until(f"test $(ls -d {MEMORY}/memory* | wc -l) = {blocks + 7}", timeout=30)
    waited = vm.wait_until(f"! grep -l offline {MEMORY}/memory*/state", timeout=60)
    print(f"three modules: online after {waited.seconds:.2f} s")
    assert _total(vm) - before == pytest.approx(896, abs=32)

    vm.add_virtio_memory("vmem0", 256, most=1024)
    vm.wait_until(f"test $(ls -d {MEMORY}/memory* | wc -l) -ge {blocks + 9}", timeout=60)
    vm.wait_until(f"! grep -l offline {MEMORY}/memory*/state", timeout=60)
    vm.resize_virtio_memory("vmem0", 1024)
    vm.wait_until(f"test $(awk '/MemTotal/ {{print $2}}' /proc/meminfo) -gt {(before + 1850) * 1024}")
    assert _offline(vm) == []

    look_again(vm)
    # The kernel may need a block of the normal zone: choose one that can be removed.
    away = vm.output(
        f"for f in $(ls -d {MEMORY}/memory* | sort -V -r); do "
        "echo offline 2>/dev/null > $f/state && basename $f && break; done"
    )
    assert away
    look_again(vm)
    assert _offline(vm) == [away]
    vm.run(f"echo online > {MEMORY}/{away}/state")

    settings(vm, "CONFIG_MEMORY_ONLINE=online_movable")
    there = set(vm.output(f"ls -d {MEMORY}/memory*").split())
    vm.add_memory("movable", 256)
    vm.wait_until(f"test $(ls -d {MEMORY}/memory* | wc -l) = {len(there) + 2}", timeout=30)
    vm.wait_until(f"! grep -l offline {MEMORY}/memory*/state", timeout=60)
    new = set(vm.output(f"ls -d {MEMORY}/memory*").split()) - there
    assert {vm.output(f"cat {path}/valid_zones") for path in new} == {"Movable"}

    vm.run(f"echo online > {MEMORY}/auto_online_blocks")
    ours = vm.journal("gandi-agent").count("MiB online")
    vm.add_memory("kernels", 128)
    vm.wait_until(f"test $(ls -d {MEMORY}/memory* | wc -l) = {len(there) + 3}", timeout=30)
    look_again(vm)
    assert _offline(vm) == []
    assert vm.journal("gandi-agent").count("MiB online") == ours
    assert vm.output("systemctl is-system-running") == "running"
