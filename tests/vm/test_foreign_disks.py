"""Users' disks with a valid archive at 512 KiB, or with a backup at one of the two offsets that has
gandi/config among its members: beside a true swap disk they are not read, not formatted, and, unless they
are data disks, not changed by a bit.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

from tests import media
from tests.vm import sample
from tests.vm.conftest import Rig
from tests.vm.delivered import delivered
from tests.vm.rig import MIB, Disk, Machine, State, make_disk, make_table, put
from tests.vm.rig.command import run
from tests.vm.rig.rootdisk import loop_device

EVIL = media.make_archive({"vm_hostname": "evil", "vif": [], "vm_conf": {"run": "touch /evil"}})
#: mkfs options with which 512 KiB of the device is a data block: no room reserved, few inodes.
MKFS = {
    "ext4": ["mkfs.ext4", "-q", "-b", "4096", "-O", "^resize_inode", "-N", "512", "-L", "ext4"],
    "xfs": ["mkfs.xfs", "-q", "-L", "xfs"],
}
NOTES = "home/user/notes"
BLOCK, CHUNK, MOST = 4096, 256, 256  # bytes of a copy, copies per write, writes at most


def _users_file(folder: Path, kind: str) -> Path:
    """Make a filesystem with a user's file that has an archive at every 4 KiB, and grow the file until one
    is at 512 KiB of the device.
    """
    image = make_disk(folder / f"{kind}.img", 320 * MIB)
    run([*MKFS[kind], image])
    mountpoint = folder / "mnt"
    mountpoint.mkdir(exist_ok=True)
    with loop_device(image) as device:
        run(["mount", device, mountpoint])
        try:
            with (mountpoint / "mine").open("wb") as file:
                for _ in range(MOST):
                    file.write(EVIL[:BLOCK] * CHUNK)
                    file.flush()
                    os.fsync(file.fileno())
                    run(["blockdev", "--flushbufs", device])
                    if _carries(image):
                        break
        finally:
            run(["umount", mountpoint])
    assert _carries(image), "a file's block lies at 512 KiB"
    return image


def _carries(image: Path) -> bool:
    with image.open("rb") as disk:
        disk.seek(media.OFFSET)
        return disk.read(BLOCK) == EVIL[:BLOCK]


def _gpt(folder: Path) -> Path:
    """Make a GPT disk with the archive before its first partition."""
    image = make_disk(folder / "gpt.img", 64 * MIB)
    make_table(image, "label: gpt\nstart=2048, size=65536, name=raw-data\n")
    put(image, 2 * MIB, b"somebody's own format")
    return put(image, media.OFFSET, EVIL)


def _lvm(folder: Path) -> Path:
    """Make a physical volume of LVM with the archive between its metadata and its first extent."""
    image = make_disk(folder / "lvm.img", 64 * MIB)
    with loop_device(image) as device:
        run(["pvcreate", "-q", "--metadatasize", "128k", "--dataalignment", "1m", device])
    return put(image, media.OFFSET, EVIL)


def _md(folder: Path) -> Path:
    """Make a member of an md array with its metadata at the end."""
    image = make_disk(folder / "md.img", 64 * MIB)
    put(image, *media.md_superblock(64 * MIB))
    return put(image, media.OFFSET, EVIL)


def _backup(folder: Path, offset: int) -> Path:
    """Make a raw disk with a user's tar archive on it, and nothing that libblkid knows."""
    image = make_disk(folder / f"backup-{offset}.img", 64 * MIB)
    config = EVIL[: 2 * media.SECTOR]
    assert not any(EVIL[len(config) :]), "the whole member"
    return put(image, offset, config + media.FOREIGN[NOTES] + bytes(1024))


def test_only_the_swap_disk_is_searched_and_formatted(machine: Rig, platform: State, tmp_path: Path) -> None:
    data = [_users_file(tmp_path, kind) for kind in MKFS]
    others = [make(tmp_path) for make in (_gpt, _lvm, _md)]
    assert all(_carries(path) for path in (*data, *others))
    backups = [_backup(tmp_path, offset) for offset in (media.OFFSET, 0)]
    before = {path: _digest(path) for path in (*others, *backups)}
    disks = [Disk(path=path, id=path.stem) for path in (*data, *others, *backups)]
    # The last on the bus: each of the others is looked at before it.
    swap = replace(sample.swap_disk(tmp_path, script=sample.SHORT_SCRIPT), serial="platform")
    vm = delivered(machine.clone(platform), *disks, swap)
    assert vm.output("systemctl --failed --no-legend") == "", vm.output("gandi-agent status || true")
    assert vm.output("cat /etc/hostname") == "vm1"
    _only_one_is_swap(vm)
    mounted = vm.output("findmnt -rno TARGET | grep ^/srv/ | sort").split()
    assert mounted == ["/srv/ext4", "/srv/xfs"], "data disks are data disks"
    for name in mounted:
        vm.run(f"head -c {BLOCK} {name}/mine | grep -aq gandi/config")
    vm.run("! test -e /evil")
    status = vm.output("gandi-agent status")
    told = [line for line in status.splitlines() if f"({NOTES} in it): neither applied nor changed" in line]
    assert len(told) == len(backups), status
    shown = vm.output("gandi-agent disks")
    assert "LVM" in shown, shown
    vm.power_off()
    for path in before:
        assert _digest(path) == before[path], f"{path.stem} was written to"
    assert all(_carries(path) for path in (*data, *others))
    for path in data:
        assert run(["blkid", "-p", "-o", "value", "-s", "TYPE", path]).strip() == path.stem


def _only_one_is_swap(vm: Machine) -> None:
    (swap,) = vm.output("swapon --noheadings --show=NAME").split()
    ours = vm.output("lsblk -dnpo NAME,SERIAL | grep ' platform$'").split()[0]
    assert swap == ours, "the disk of the platform, last on the bus"
    kinds = vm.output("blkid -o value -s TYPE").split()
    assert kinds.count("swap") == 1


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
