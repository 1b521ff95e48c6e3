"""Machines that are configured before their first boot, by ``apply --root`` or by Ganeti's hook, and then
boot without a medium.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.host.host import Host
from agent.image import seed
from tests import creation
from tests.vm import checks, sample
from tests.vm.conftest import Rig
from tests.vm.rig import (
    MIB,
    Image,
    ImageSpec,
    Machine,
    MachineSpec,
    Network,
    State,
    Table,
    make_filesystem,
    newest_deb,
)
from tests.vm.rig.image import copy_kernel, settle
from tests.vm.rig.rootdisk import write_disk
from tests.vm.rig.tree import chroot, merged

#: One NIC on the wire where 203.0.113.254 answers; a root disk twice as large as the image.
SPEC = MachineSpec(nics=(sample.PUBLIC_NIC,), root_size=sample.ROOT_SIZE)
DOCUMENT = {
    "version": 1,
    "id": "image-1",
    "hostname": "vm1.example.org",
    "timezone": "Europe/Paris",
    "nameservers": ["203.0.113.3"],
    "nics": [
        {
            "mac": sample.PUBLIC_NIC.mac,
            "addresses": ["203.0.113.10/24"],
            "routes": [{"to": "default", "via": "203.0.113.254"}],
        }
    ],
    "users": [
        {"name": "root", "password": sample.HASH},
        {"name": "admin1", "keys": [sample.KEY], "admin": True, "groups": ["users"]},
    ],
    "files": [{"path": "/etc/injected", "content": "text\n", "mode": "0600", "owner": "admin1"}],
    "scripts": [{"content": "#!/bin/sh\necho once >> /root/order\n"}],
    "metadata": {"zone": "paris"},
    "boot": [{"name": "early", "content": "systemctl is-active basic.target >> /root/early; true\n"}],
}
#: The media that _put_media makes in /root.
MEDIA = ("document.json", "full.iso", "plain.iso", "drive.vfat")


def _is_complete(vm: Machine) -> None:
    """Check the document's address, a gateway that answers, and keys and ids of the machine's own."""
    assert vm.wait_booted() == "running", vm.output("systemctl --failed --no-legend; gandi-agent status")
    assert vm.output("cat /proc/sys/kernel/hostname") == "vm1.example.org"
    links = {link["address"]: link["ifname"] for link in vm.json("ip -j link")}
    assert "203.0.113.10/24" in checks.cidrs(vm, links[sample.PUBLIC_NIC.mac])
    vm.run("ping -c1 -W5 203.0.113.254")
    assert vm.output("readlink /etc/localtime") == "/usr/share/zoneinfo/Europe/Paris"
    assert "nameserver 203.0.113.3" in vm.read_file("/etc/resolv.conf").decode()
    assert len(vm.read_file("/etc/machine-id").strip()) == 32
    vm.run("ls /etc/ssh/ssh_host_ed25519_key /etc/ssh/ssh_host_rsa_key && systemctl is-active ssh")
    vm.wait_until("test $(df --output=size -B1M / | tail -1) -gt 2700")
    assert vm.output("gandi-agent status --format=short").endswith("nothing failed")


def test_a_tree_configured_by_apply_boots_as_its_machine(machine: Rig, tmp_path: Path) -> None:
    spec = ImageSpec(debs=(newest_deb(),))
    with merged(spec) as tree:
        settle(tree, spec)
        (tree / "root/document.json").write_text(json.dumps(DOCUMENT))
        chroot(tree, ["gandi-agent", "apply", "--root", "/", "--source", "/root/document.json"])
        _put_media(tree)
        image = _image(tree, spec, tmp_path)
    vm = machine.start(image, SPEC)
    _is_complete(vm)
    shadow = vm.output("grep -E '^(root|admin1):' /etc/shadow")
    assert f"root:{sample.HASH}:" in shadow
    assert vm.read_file("/home/admin1/.ssh/authorized_keys").decode() == f"{sample.KEY}\n"
    assert vm.output("stat -c '%U %a' /etc/injected") == "admin1 600"
    vm.wait_until("test -e /root/order")
    assert vm.output("runuser -u nobody -- gandi-agent get zone") == "paris"
    for medium in MEDIA:
        assert "valid (native)" in vm.output(f"gandi-agent config validate /root/{medium}")
    assert vm.output("losetup --list --noheadings") == ""
    # What was applied offline is recognised, and what had to wait for the boot is done.
    found = sample.steps(vm, "bootstrap")
    for step in ("source", "hostname", "network", "resolver", "users", "files"):
        assert found[step] == "unchanged", vm.output("gandi-agent status")
    assert vm.read_file("/root/early") == b"inactive\n"
    host_key, machine_id = vm.read_file("/etc/ssh/ssh_host_ed25519_key"), vm.read_file("/etc/machine-id")
    vm.run("sync")
    vm.cut_power()
    vm.cold_boot()
    _is_complete(vm)
    assert vm.read_file("/root/order") == b"once\n"
    assert vm.read_file("/root/early") == b"inactive\n" * 2
    assert vm.read_file("/etc/ssh/ssh_host_ed25519_key") == host_key
    assert vm.read_file("/etc/machine-id") == machine_id


def test_an_image_is_configured_in_a_guest(machine: Rig, platform: State) -> None:
    """With Debian 13's own bubblewrap, and a kernel with audit, which PAM's programs use."""
    vm = machine.clone(platform)
    vm.run(
        "mkdir /mnt/image /mnt/space && mount -t tmpfs space /mnt/space && mkdir /mnt/space/u /mnt/space/w"
    )
    vm.run("mount -t overlay -o lowerdir=/,upperdir=/mnt/space/u,workdir=/mnt/space/w image /mnt/image")
    user = {"name": "admin1", "keys": [sample.KEY], "admin": True, "plain_password": "pass word"}
    document = {"version": 1, "id": "image-1", "hostname": "image1", "users": [user]}
    vm.write_file("/root/document.json", json.dumps(document))
    before = vm.output("cat /etc/passwd /etc/shadow /etc/hostname; hostname")
    said = vm.output("gandi-agent apply --root /mnt/image --source /root/document.json")
    assert "failed" not in said, said
    assert vm.output("cat /mnt/image/etc/hostname") == "image1"
    assert vm.output("cat /mnt/image/home/admin1/.ssh/authorized_keys") == sample.KEY
    assert vm.output("grep ^admin1: /mnt/image/etc/shadow | cut -d: -f2").startswith("$y$")
    assert "admin1" in vm.output("grep ^sudo: /mnt/image/etc/group")
    assert vm.output("cat /etc/passwd /etc/shadow /etc/hostname; hostname") == before
    vm.run("umount /mnt/image")


@pytest.mark.parametrize("style", [Table.MSDOS, pytest.param(Table.NONE, marks=pytest.mark.soak)])
def test_a_disk_made_by_ganetis_hook_boots_and_is_grown(machine: Rig, tmp_path: Path, style: Table) -> None:
    node = tmp_path / "node"
    node.mkdir()
    shutil.copy(newest_deb(), node / "gandi-agent.deb")
    spec = ImageSpec(network=Network.IFUPDOWN, table=style)
    with creation.instance(spec, tmp_path) as (target, uuid):
        done: subprocess.CompletedProcess[str] = creation.hook(target, node, style)
        assert done.returncode == 0, done.stdout + done.stderr
    vm = machine.start(Image(tmp_path, uuid), SPEC)
    _is_complete(vm)
    assert vm.read_file("/root/.ssh/authorized_keys").decode() == f"{creation.KEY}\n"
    assert vm.output("grep ^root: /etc/shadow | cut -d: -f2") == "*"
    assert "node1" not in vm.read_file("/etc/hosts").decode()
    assert vm.output("systemctl is-enabled serial-getty@ttyS0.service") == "enabled"
    vm.run("systemctl is-active serial-getty@ttyS0.service")


def _put_media(tree: Path) -> None:
    """Put the document on each kind of medium into the guest, which has a kernel with these filesystems."""
    document = tree / "root/document.json"
    files = seed.drive(document.read_bytes(), b"#!/bin/sh\n")
    seed.iso(Host(), str(tree / "root/full.iso"), files)
    seed.iso(Host(), str(tree / "root/plain.iso"), files, options=("-iso-level", "3"))
    fat = make_filesystem(tree / "root/drive.vfat", 16 * MIB, "vfat", label="GANDI")
    subprocess.run(["mcopy", "-i", fat, document, "::gandi.json"], check=True)


def _image(tree: Path, spec: ImageSpec, folder: Path) -> Image:
    copy_kernel(tree, folder, spec.root_fs)
    return Image(folder, write_disk(tree, spec, folder / "root.img"))
