"""An instance with OSP_BOOTLOADER=grub boots by its firmware alone, without a kernel of its node's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests import creation
from tests.system.instances import root_of
from tests.vm import login, sample
from tests.vm.conftest import Rig
from tests.vm.rig import MIB, Bus, Firmware, Image, ImageSpec, MachineSpec, newest_deb, qemu, quick
from tests.vm.rig.image import copy_kernel, settle
from tests.vm.rig.rootdisk import Extent, loop_device
from tests.vm.rig.tree import merged

PACKAGES = ("grub-efi-amd64-bin", "grub-pc-bin", "grub2-common", "login")
LINE = "console=tty0 console=ttyS0,115200n8"
#: What the rig's boots have on the kernel's command line, as settings of the tree here: without them the
#: kernel's own messages on the serial port alone take seconds. The rest of a quick boot needs its initrd.
QUICK = " ".join(
    word
    for word in (*qemu.CMDLINE, *quick.CMDLINE)
    if not word.startswith(("ro", "TERM=", "LD_LIBRARY_PATH="))
)


@pytest.mark.long
def test_a_disk_boots_by_uefi_and_by_a_bios(machine: Rig, tmp_path: Path) -> None:
    """With a new UUID, since that is mended, and on two buses."""
    node, disk = tmp_path / "node", tmp_path / "root.img"
    (node / "images").mkdir(parents=True)
    shutil.copy(newest_deb(), node / "gandi-agent.deb")
    spec = ImageSpec(extra=PACKAGES)
    with merged(spec) as tree:
        settle(tree, spec)
        copy_kernel(tree, tmp_path, spec.root_fs)
        _is_quick(tree)
        subprocess.run(["tar", "-C", tree, "-cf", node / "images/tree.tar", "."], check=True)
    with disk.open("wb") as file:
        file.truncate(1536 * MIB)
    chosen = {"DISK_0_PATH": str(disk), "OSP_IMAGE": "tree.tar", "OSP_BOOTLOADER": "grub"}
    chosen |= {"OSP_PASSWORD_HASH": login.HASH}
    done = creation.script("create", node, **creation.ENVIRONMENT | chosen)
    assert done.returncode == 0, done.stdout + done.stderr
    uuid = _lost_and_mended(disk)

    image = Image(tmp_path, uuid)
    vm = machine.start(image, MachineSpec(nics=(sample.PUBLIC_NIC,), root_ports=1, firmware=Firmware.UEFI))
    assert vm.wait_booted() == "running", vm.output("systemctl --failed --no-legend; gandi-agent status")
    vm.run("test -d /sys/firmware/efi")
    assert vm.output("cat /proc/cmdline").endswith(f" root=UUID={uuid} ro {QUICK} {LINE}")
    assert vm.output("cat /proc/sys/kernel/hostname") == creation.NAME
    assert vm.output("findmnt -no FSTYPE /boot/efi") == "vfat"
    assert vm.output("swapon --noheadings --show=TYPE,SIZE").split() == ["partition", "64M"]
    assert int(vm.output("findmnt -bno SIZE /")) > 1500 * MIB
    # The machine's own grub-probe and settings, for its next kernels.
    vm.run("update-grub")
    assert LINE in vm.output("grep -m1 'root=UUID=' /boot/grub/grub.cfg && sync")
    vm.cut_power()
    assert "GNU GRUB" in (vm.logs / "serial.log").read_text(errors="replace")

    # On another bus, too.
    vm.spec = replace(vm.spec, firmware=Firmware.BIOS, root_bus=Bus.SCSI)
    vm.start()
    assert vm.wait_booted() == "running", vm.output("systemctl --failed --no-legend; gandi-agent status")
    vm.run("test ! -e /sys/firmware/efi")
    assert LINE in vm.output("cat /proc/cmdline")
    assert vm.output("findmnt -no SOURCE /").startswith("/dev/sda")
    assert login.on_serial(vm, "root") == "root"


def _is_quick(tree: Path) -> None:
    """Leave out in the tree what a quick boot leaves out, and most of the time for which GRUB waits."""
    settings, units = tree / "etc/default/grub.d", tree / "etc/systemd/system"
    settings.mkdir(parents=True, exist_ok=True)
    (settings / "00-rig.cfg").write_text(f'GRUB_TIMEOUT=1\nGRUB_CMDLINE_LINUX="{QUICK}"\n')
    for name in quick.IDLE_UNITS:
        (units / name).symlink_to("/dev/null")
    dropins = {"systemd-udev-trigger": quick.TRIGGER, **dict.fromkeys(quick.SANDBOXED, quick.OPEN)}
    for unit, text in dropins.items():
        (units / f"{unit}.service.d").mkdir()
        (units / f"{unit}.service.d/rig.conf").write_text(text)


def _lost_and_mended(disk: Path) -> str:
    """Give the root filesystem a new UUID and a larger disk, as a copy for another machine gets them, mend
    what leads to it, and add swap; return the UUID.
    """
    with root_of(disk) as (_, parts):
        old = parts[-1]["UUID"]
    said = subprocess.run(["sfdisk", "--json", disk], check=True, capture_output=True).stdout
    last = json.loads(said)["partitiontable"]["partitions"][-1]
    with loop_device(disk, Extent(last["start"] * 512, last["size"] * 512)) as part:
        subprocess.run(["e2fsck", "-f", "-y", part], check=False, capture_output=True)
        subprocess.run(["tune2fs", "-U", "random", part], check=True, capture_output=True)
    with root_of(disk) as (_, parts):
        new = parts[-1]["UUID"]
    assert new != old
    os.truncate(disk, 1792 * MIB)
    mended = ("--repair", "--bootloader", "grub", "--swap=64M:partition")
    argv = [sys.executable, "-m", "agent", "apply", "--image", str(disk), *mended]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"/etc/fstab: / UUID={old} -> UUID={new}" in done.stdout
    return new
