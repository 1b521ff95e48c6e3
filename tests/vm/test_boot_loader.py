"""An instance with OSP_BOOTLOADER=grub boots by its firmware alone, without a kernel of its node's."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests import creation
from tests.system.instances import root_of
from tests.vm import sample
from tests.vm.conftest import Rig
from tests.vm.rig import MIB, Firmware, Image, ImageSpec, MachineSpec, newest_deb
from tests.vm.rig.image import copy_kernel, settle
from tests.vm.rig.tree import merged

PACKAGES = ("grub-efi-amd64-bin", "grub-pc-bin", "grub2-common")
LINE = "console=tty0 console=ttyS0,115200n8"


@pytest.mark.long
def test_a_disk_boots_by_uefi_and_by_a_bios(machine: Rig, tmp_path: Path) -> None:
    node, disk = tmp_path / "node", tmp_path / "root.img"
    (node / "images").mkdir(parents=True)
    shutil.copy(newest_deb(), node / "gandi-agent.deb")
    spec = ImageSpec(extra=PACKAGES)
    with merged(spec) as tree:
        settle(tree, spec)
        copy_kernel(tree, tmp_path, spec.root_fs)
        subprocess.run(["tar", "-C", tree, "-cf", node / "images/tree.tar", "."], check=True)
    with disk.open("wb") as file:
        file.truncate(1536 * MIB)
    chosen = {"DISK_0_PATH": str(disk), "OSP_IMAGE": "tree.tar", "OSP_BOOTLOADER": "grub"}
    done = creation.script("create", node, **creation.ENVIRONMENT | chosen)
    assert done.returncode == 0, done.stdout + done.stderr
    with root_of(disk) as (_, parts):
        uuid = parts[-1]["UUID"]

    image = Image(tmp_path, uuid)
    vm = machine.start(image, MachineSpec(nics=(sample.PUBLIC_NIC,), root_ports=1, firmware=Firmware.UEFI))
    assert vm.wait_booted() == "running", vm.output("systemctl --failed --no-legend; gandi-agent status")
    vm.run("test -d /sys/firmware/efi")
    assert vm.output("cat /proc/cmdline").endswith(f" root=UUID={uuid} ro {LINE}")
    assert vm.output("cat /proc/sys/kernel/hostname") == creation.NAME
    assert vm.output("findmnt -no FSTYPE /boot/efi") == "vfat"
    # The machine's own grub-probe and settings, for its next kernels.
    vm.run("update-grub")
    assert LINE in vm.output("grep -m1 'root=UUID=' /boot/grub/grub.cfg")
    vm.power_off()
    assert "GNU GRUB" in (vm.logs / "serial.log").read_text(errors="replace")

    vm.spec = MachineSpec(nics=(sample.PUBLIC_NIC,), root_ports=1, firmware=Firmware.BIOS)
    vm.start()
    assert vm.wait_booted() == "running", vm.output("systemctl --failed --no-legend; gandi-agent status")
    vm.run("test ! -e /sys/firmware/efi")
    assert LINE in vm.output("cat /proc/cmdline")
