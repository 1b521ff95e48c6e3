"""The same on arm64, on the virt machine with a PL011: with a device tree, where there is neither DMI nor
ACPI, and by UEFI, where there are both.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.vm import checks, delivered, sample, test_settled
from tests.vm.conftest import Rig
from tests.vm.plugging import BOUND, Done, Plugged
from tests.vm.releases import ARM64
from tests.vm.rig import Architecture, Firmware, ImageSpec, Machine, MachineSpec, build, newest_deb

#: Seconds: with an image that is made by emulated programs.
TIMEOUT = 1800
TABLES = "/sys/firmware/qemu_fw_cfg/by_name/etc/smbios/smbios-tables/raw"
SPEC = ARM64.spec


def _first_boot(machine: Rig, folder: Path, spec: MachineSpec) -> Machine:
    image = build(ImageSpec(debs=(newest_deb(),), architecture=Architecture.ARM64))
    vm = machine.start(image, spec, disks=[sample.swap_disk(folder, script=sample.SHORT_SCRIPT)])
    assert vm.wait_booted(delivered.BOOT_TIMEOUT) == "running", vm.output("systemctl --failed --no-legend")
    return vm


def _is_the_machine(vm: Machine) -> None:
    assert vm.output("uname -m; hostname; systemctl is-active ssh").split() == ["aarch64", "vm1", "active"]
    assert "serial-getty@ttyAMA0.service" in vm.output("systemctl show -P Wants getty.target").split()
    checks.addresses(vm)
    assert vm.read_file("/home/admin1/.ssh/authorized_keys").decode().splitlines() == [
        sample.KEY,
        sample.OTHER_KEY,
    ]
    assert len(vm.read_file("/proc/swaps").splitlines()) == 2
    vm.wait_until("test $(wc -l < /root/order) = 2")
    assert sample.order(vm) == ["script one two words three in /", "run in /"]
    instance = json.loads(vm.read_file("/var/lib/gandi/instance.json"))
    assert (instance["id"], instance["dmi"]) == (vm.spec.uuid, vm.spec.uuid)


@pytest.mark.long
@pytest.mark.timeout(TIMEOUT)
def test_with_a_device_tree_it_is_the_machine_and_takes_a_disk(machine: Rig, tmp_path: Path) -> None:
    """Its UUID is in QEMU's tables, which no firmware has read; the next boot is compared with them."""
    vm = _first_boot(machine, tmp_path, SPEC)
    vm.run(f"test -e /proc/device-tree/compatible -a ! -e /sys/class/dmi/id -a -e {TABLES}")
    _is_the_machine(vm)
    disk = Plugged(vm, tmp_path, "data")
    while disk.next() is not Done.DETACH:
        disk.is_right()
    disk.is_right()
    test_settled.at_rest(vm)
    vm.run(f"grep -q '^passed {TABLES} ' {test_settled.MARK}")
    assert vm.output(test_settled.CHECK) == test_settled.NOTHING_NEW


@pytest.mark.soak
@pytest.mark.timeout(TIMEOUT)
def test_by_uefi_it_is_the_machine_and_takes_memory(machine: Rig, tmp_path: Path) -> None:
    """With ACPI and DMI. A kernel that leaves memory offline; QEMU has no hot-plug of arm64's CPUs."""
    offline = replace(SPEC, firmware=Firmware.UEFI, cmdline=(*SPEC.cmdline, "memhp_default_state=offline"))
    vm = _first_boot(machine, tmp_path, offline)
    vm.run("test -d /sys/firmware/acpi -a ! -e /proc/device-tree/compatible")
    assert vm.output("cat /sys/class/dmi/id/product_uuid") == vm.spec.uuid
    _is_the_machine(vm)
    total = "$(awk '/MemTotal/ {print $2}' /proc/meminfo)"
    least = int(vm.output(f"echo {total}")) + 200 * 1024
    vm.add_memory("dimm0", 256)
    vm.wait_until(f"test {total} -gt {least}", timeout=BOUND)
    vm.run("! grep -l offline /sys/devices/system/memory/memory*/state")
