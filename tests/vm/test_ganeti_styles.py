"""Ganeti's OS definition: an instance of each partition style, from a release and from an image, boots."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests import creation
from tests.system.instances import SIZE, probed, root_of
from tests.vm import checks, login, sample
from tests.vm.conftest import Rig
from tests.vm.rig import Firmware, Image, ImageSpec, MachineSpec, newest_deb
from tests.vm.rig.image import add_channel, copy_kernel, settle
from tests.vm.rig.tree import merged

LOADER = ("grub-efi-amd64-bin", "grub-pc-bin", "grub2-common")
#: Without a table no firmware boots the disk: the node's kernel does.
FIRMWARE = {"none": None, "msdos": Firmware.BIOS, "gpt": Firmware.UEFI}


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("source", ["release", "image"])
@pytest.mark.parametrize("partition", ["none", "msdos", "gpt"])
def test_it_boots_as_the_instance(machine: Rig, tmp_path: Path, partition: str, source: str) -> None:
    node, disk, firmware = tmp_path / "node", tmp_path / "root.img", FIRMWARE[partition]
    (node / "images").mkdir(parents=True)
    shutil.copy(newest_deb(), node / "gandi-agent.deb")
    spec = ImageSpec(extra=(*LOADER, "login") if firmware else ("login",))
    chosen = {"DISK_0_PATH": str(disk), "OSP_PARTITION": partition, "OSP_PASSWORD_HASH": login.HASH}
    if firmware:
        chosen |= {"OSP_SWAP": "64", "OSP_BOOTLOADER": "grub"}
    with merged(spec) as tree:
        settle(tree, spec)
        copy_kernel(tree, tmp_path, spec.root_fs)
        if source == "image":
            subprocess.run(["tar", "-C", tree, "-cf", node / "images/tree.tar", "."], check=True)
            chosen["OSP_IMAGE"] = "tree.tar"
    with disk.open("wb") as file:
        file.truncate(SIZE)
    done = creation.script("create", node, **creation.ENVIRONMENT | chosen)
    assert done.returncode == 0, done.stdout + done.stderr
    with root_of(disk) as (target, parts):
        uuid = (parts or [probed(disk, 0, SIZE)])[-1]["UUID"]
        if source == "release":
            add_channel(target)

    hardware = MachineSpec(
        nics=(sample.PUBLIC_NIC,), root_size=sample.ROOT_SIZE, root_ports=1, firmware=firmware
    )
    vm = machine.start(Image(tmp_path, uuid), hardware)
    assert vm.wait_booted() == "running", vm.output("systemctl --failed --no-legend; gandi-agent status")
    assert vm.output("cat /proc/sys/kernel/hostname") == creation.NAME
    links = {link["address"]: link["ifname"] for link in vm.json("ip -j link")}
    assert "203.0.113.10/24" in checks.cidrs(vm, links[sample.PUBLIC_NIC.mac])
    assert vm.read_file("/root/.ssh/authorized_keys").decode() == f"{creation.KEY}\n"
    vm.run("systemctl is-active ssh")
    vm.wait_until("test $(df --output=size -B1M / | tail -1) -gt 2600")
    swap = vm.output("swapon --noheadings --show=TYPE").split()
    assert swap == (["partition"] if firmware else [])
    assert login.on_serial(vm, "root") == "root"
