"""``apply --image`` on a machine with udev, LVM and the device mapper: the image stays apart from them."""

from __future__ import annotations

import json
from pathlib import Path

from tests.vm.conftest import Rig
from tests.vm.rig import MIB, Disk, Machine, State, make_disk

DOCUMENT = {
    "version": 1,
    "id": "image-1",
    "hostname": "vm9.example.org",
    "files": [{"path": "/etc/injected", "content": "text\n"}],
}
#: Make an image: a volume group with the name of the machine's own, in a logical partition. The lock keeps
#: udev from it, and LVM's options the machine's own group.
MAKE = r"""
set -e
mkdir -p /root/tree/etc /root/tree/usr/bin /root/tree/usr/lib /root/tree/tmp /root/at
cd /root/tree
mkdir -p proc sys dev run var/lib root
ln -s usr/bin bin
ln -s usr/lib lib
mkdir -p usr/lib64
ln -s usr/lib64 lib64
for program in true sh; do
    real=$(readlink -f /usr/bin/$program)
    cp $real usr/bin/$program
    for library in $(ldd $real | grep -o '/[^ ]*'); do
        mkdir -p .$(dirname $library)
        cp -L $library .$library
    done
done
echo 'root:x:0:0:root:/root:/bin/sh' > etc/passwd
echo 'root:x:0:' > etc/group
echo 'root:*:19000:0:99999:7:::' > etc/shadow
echo ID=small > etc/os-release
truncate -s 200M /root/disk.raw
printf 'label: dos\nsize=20M, type=83\ntype=5\ntype=8e\n' | sfdisk -q /root/disk.raw
start=$(partx -go START -n 5 /root/disk.raw) sectors=$(partx -go SECTORS -n 5 /root/disk.raw)
truncate -s $((sectors * 512)) /root/pv
node=$(losetup -f)
only="[\"a|^$node\$|\",\"r|.*|\"]"
config="devices{use_devicesfile=0 hints=\"none\" filter=$only global_filter=$only}"
config="$config backup{backup=0 archive=0}"
exec 9< $node
flock 9
losetup $node /root/pv
lvm() { /usr/sbin/$1 -q --driverloaded=n --config="$config" "$2" "$3" $4 $5 $6 $7; }
lvm pvcreate -y $node
lvm vgcreate v-own $node
lvm lvcreate -an -Zn -Wn -l40 -ndata v-own
losetup -d $node
exec 9<&-
mke2fs -q -F -t ext4 -L image-root -U 11111111-2222-3333-4444-555555555555 -E offset=1048576 -d /root/tree \
    /root/pv $((160 * 1024))k
dd if=/root/pv of=/root/disk.raw bs=512 seek=$start conv=notrunc,sparse status=none
truncate -s 500M /root/disk.raw
"""


def test_an_image_stays_apart_from_the_machine_that_configures_it(
    machine: Rig, platform: State, tmp_path: Path
) -> None:
    vm = machine.clone(platform)
    vm.run(MAKE, timeout=120)
    vm.add_disk(Disk(path=make_disk(tmp_path / "own.img", 192 * MIB), id="own", serial="own"))
    vm.wait_until("lsblk -dno SERIAL | grep -qx own")
    own = "/dev/" + vm.output("lsblk -dno NAME,SERIAL | grep ' own$'").split()[0]
    vm.run(f"vgcreate -q v-own {own} && lvcreate -qn data -L 64M v-own && mkfs.ext4 -q /dev/v-own/data")
    vm.write_file("/root/image.json", json.dumps(DOCUMENT).encode())
    before = _state(vm)
    udev = vm.spawn("udevadm monitor --udev --property --subsystem-match=block > /root/udev.log")
    vm.wait_until("test -s /root/udev.log")

    command = "gandi-agent apply --image /root/disk.raw --source /root/image.json --swap=64M:partition"
    said = vm.output(command, timeout=120)
    assert "the system on volume v-own/data (ext4)" in said
    assert "volume v-own/data extended by" in said
    assert "swap: changed" in said
    assert _state(vm) == before
    vm.run("udevadm settle && pkill -x udevadm; true")
    assert not udev.result().stderr
    assert "11111111-2222" not in vm.read_file("/root/udev.log").decode()
    assert "changed (" not in vm.output(command, timeout=120)
    assert _state(vm) == before
    assert vm.output("gandi-agent status --format=short").endswith("nothing failed")


def _state(vm: Machine) -> str:
    """Return what the machine has of volumes, loop devices and mounts."""
    asked = (
        "dmsetup ls",
        "vgs --noheadings -o vg_uuid,vg_name,vg_size",
        "losetup --list",
        "cat /proc/mounts",
    )
    return vm.output(" && ".join((*asked, "ls -R /etc/lvm /dev/disk/by-id /dev/disk/by-uuid")))
