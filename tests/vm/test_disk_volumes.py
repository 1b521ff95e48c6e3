"""LVM and LUKS: the volumes that the administrator made and mounted grow with their disks, and reserved
space stays reserved, also when the daemon is killed. All of them at once in one machine.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm.conftest import Rig
from tests.vm.rig import MIB, Bus, Disk, Machine, State, make_disk

SMALL, LARGE, LARGER = 192 * MIB, 320 * MIB, 448 * MIB
KEY = "/root/key"
#: Name of the disk (its serial number) -> its bus, and the administrator's commands for $D.
MADE = {
    "whole": (Bus.VIRTIO, "pvcreate -q $D; vgcreate -q v-whole $D; lvcreate -qn data -l 100%FREE v-whole"),
    "reserved": (
        Bus.SCSI,
        "pvcreate -q $P; vgcreate -q v-reserved $P; lvcreate -qn data -L 120M v-reserved",
    ),
    "two": (Bus.VIRTIO, "vgcreate -q v-two $D; lvcreate -qn data -L 120M v-two; lvcreate -qn b -L 8M v-two"),
    "key": (Bus.VIRTIO, f"$LUKS $D {KEY}; cryptsetup open --key-file {KEY} $D c-key"),
    "ask": (Bus.VIRTIO, f"$LUKS $D {KEY}; cryptsetup open --key-file {KEY} $D c-ask"),
    "deep": (
        Bus.SCSI,
        f"$LUKS $P {KEY}; cryptsetup open --key-file {KEY} $P c-deep; pvcreate -q /dev/mapper/c-deep;"
        " vgcreate -q v-deep /dev/mapper/c-deep; lvcreate -qn data -l 100%FREE v-deep",
    ),
}
#: The devices mounted at /mnt/NAME.
NODES = {name: f"/dev/v-{name}/data" for name in ("whole", "reserved", "two", "deep")}
NODES |= {name: f"/dev/mapper/c-{name}" for name in ("key", "ask")}
PARTED = ("reserved", "deep")
#: Those that the agent grows.
GROWING = ("whole", "reserved", "key", "deep")
LUKS = "cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000"


@pytest.mark.long
def test_volumes_grow_with_their_disks(machine: Rig, platform: State, tmp_path: Path) -> None:
    vm = machine.clone(platform)
    _hook(vm)
    vm.run(f"head -c 64 /dev/urandom > {KEY} && chmod 600 {KEY}")
    vm.write_file(
        "/etc/crypttab", f"c-key /dev/vdx {KEY} luks\nc-deep /dev/vdx {KEY} luks\nc-ask /dev/vdx none\n"
    )
    for name, (bus, _) in MADE.items():
        path = make_disk(tmp_path / f"{name}.img", SMALL)
        vm.add_disk(Disk(path=path, id=name, bus=bus, serial=name))
    for name in MADE:
        _make(vm, name)
    before = {name: _size(vm, name) for name in MADE}
    free = vm.output("vgs --noheadings -o vg_free_count v-reserved")
    assert int(free) > 5
    shown = vm.output("gandi-agent disks")
    assert "LVM" in shown
    assert "encrypted" in shown

    _grow(vm, LARGE)
    _wait_larger(vm, {name: before[name] + 100 * MIB for name in GROWING})
    vm.wait_until("test $(vgs --noheadings -o vg_free_count v-two) -gt 30")
    assert _size(vm, "two") == before["two"], "two volumes: the administrator decides which one grows"
    assert vm.output("vgs --noheadings -o vg_free_count v-reserved") == free, "reserved space stays reserved"
    vm.wait_until("grep -q 'encrypted: run cryptsetup resize c-ask' /run/gandi/status.json", interval=1)
    assert _size(vm, "ask") == before["ask"]
    grown = vm.output("cat /root/grown").splitlines()
    assert sorted(line.split()[1] for line in grown) == [
        f"/mnt/{n}" for n in ("deep", "key", "reserved", "whole")
    ]

    # The daemon is killed during the growth: the next one reads the actual state and goes on.
    _grow(vm, LARGER)
    vm.run("for i in 1 2 3; do systemctl kill -s KILL gandi-agent.service; sleep 0.3; done")
    _wait_larger(vm, {name: before[name] + 220 * MIB for name in GROWING})
    assert vm.output("vgs --noheadings -o vg_free_count v-reserved") == free
    vm.run("cryptsetup resize --key-file /root/key c-ask && resize2fs /dev/mapper/c-ask")
    _wait_larger(vm, {"ask": before["ask"] + 220 * MIB})
    assert vm.output(f"cd /mnt; cat {'/mine '.join(MADE)}/mine").split() == list(MADE)


def _make(vm: Machine, name: str) -> None:
    vm.wait_until(f"lsblk -dno SERIAL | grep -qx {name}")
    disk = "/dev/" + vm.output(f"lsblk -dno NAME,SERIAL | grep ' {name}$'").split()[0]
    if name in PARTED:
        vm.run(f"echo 'start=2048, size={SMALL // 512 - 4096}' | sfdisk -q --label gpt {disk}")
    vm.run(f"set -e; D={disk} P={disk}1 LUKS='{LUKS}'; udevadm settle; {MADE[name][1]}", timeout=120)
    vm.run(
        f"set -e; mkfs.ext4 -q {NODES[name]}; mkdir -p /mnt/{name}; "
        f"echo '{NODES[name]} /mnt/{name} ext4 defaults 0 2' >> /etc/fstab; "
        f"mount {NODES[name]}; echo {name} > /mnt/{name}/mine"
    )
    # The agent has seen the disk at this size.
    device = f"{disk}1" if name in PARTED else disk
    vm.wait_until(f"grep -q $(blkid -p -o value -s UUID {device}) /var/lib/gandi/disks.json")


def _grow(vm: Machine, size: int) -> None:
    for name in MADE:
        vm.resize_disk(name, size)


def _size(vm: Machine, name: str) -> int:
    return int(vm.output(f"df --output=size -B1 /mnt/{name} | tail -1"))


def _wait_larger(vm: Machine, sizes: dict[str, int]) -> None:
    """Wait for all of them, with long pauses: the machine has work to do."""
    larger = [f"test $(df --output=size -B1 /mnt/{name} | tail -1) -ge {sizes[name]}" for name in sizes]
    vm.wait_until(" && ".join(larger), timeout=240, interval=1)


def _hook(vm: Machine) -> None:
    vm.write_file("/etc/gandi/hooks/post-disk-grow", "#!/bin/sh\necho $1 $2 >> /root/grown\n", mode=0o755)
