"""Debian's own kernel, unpacked, boots as an ELF image (QEMU starts it by its PVH entry)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from agent.host.host import Host
from agent.image import kernel_image
from tests.vm.conftest import Rig
from tests.vm.rig import MIB, Disk, Image, MachineSpec


@pytest.mark.long
def test_the_unpacked_kernel_boots(machine: Rig, image: Image, tmp_path: Path) -> None:
    """In the guest, which is not a Xen PV machine, kernels are unpacked only by force; a damaged one is
    refused.
    """
    folder = tmp_path / "image"
    folder.mkdir()
    for file in image.folder.iterdir():
        (folder / file.name).symlink_to(file)
    unpacked = folder / "vmlinuz"
    unpacked.unlink()
    shutil.copy(image.kernel, unpacked)
    assert kernel_image.unpack_image(Host(), str(unpacked)).outcome == "changed"
    assert unpacked.read_bytes()[:4] == b"\x7fELF"
    packed = image.kernel.read_bytes()
    disk = tmp_path / "packed.img"
    disk.write_bytes(packed + bytes(-len(packed) % MIB))
    disks = [Disk(path=disk, id="packed")]
    vm = machine.start(Image(folder, image.root_uuid), MachineSpec(debian_initrd=True), disks=disks)
    vm.wait_booted()

    vm.run(f"head -c {len(packed)} /dev/vdb > /root/vmlinuz-9")
    before = vm.output("sha256sum /root/vmlinuz-9")
    assert "only a Xen PV machine needs it" in vm.output("gandi-agent decompress-kernel /root/vmlinuz-9")
    vm.run("/etc/kernel/postinst.d/gandi-agent 9 /root/vmlinuz-9")
    assert vm.output("sha256sum /root/vmlinuz-9") == before
    vm.run("head -c 5000000 /root/vmlinuz-9 > /root/part")
    said = vm.output(
        "cd /root; for file in part vmlinuz-9 /etc/passwd; do "
        "gandi-agent decompress-kernel --force $file; done; :"
    )
    assert "truncated" in said
    assert "install the package zstd" in said
    assert "not an x86 kernel image" in said
    assert vm.output("sha256sum /root/vmlinuz-9") == before
