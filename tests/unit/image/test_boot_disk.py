"""A disk that this machine uses, in whatever way, gets no boot loader."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.host.host import Host
from agent.image import boot_disk
from agent.lib.errors import ConfigError
from tests.unit.sysfs import Sysfs, virtio

ROOT = "36 1 253:1 / / rw - ext4 /dev/vda1 rw\n"
IMAGE = "40 36 254:17 / /mnt rw - ext4 /dev/vdb1 rw\n"
SWAPS = "Filename Type Size Used Priority\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The machine's own disk vda, and vdb with an image: its partitions 1 and 2; dm-0 is on both disks."""
    sysfs = Sysfs(tmp_path)
    own = virtio(sysfs, "vda", "253:0", "04.0")
    sysfs.partition(own, 1, "253:1", 2048)
    disk = virtio(sysfs)
    for number in (1, 2):
        sysfs.partition(disk, number, f"254:{16 + number}", 2048 * number)
    volume = sysfs.disk("virtual/block/dm-0", "252:0")
    (volume / "slaves").mkdir()
    (volume / "slaves/vdb2").mkdir()
    return tmp_path


def refused(root: Path, mountinfo: str, *, swaps: str = SWAPS, held: str = "") -> ConfigError:
    for name, text in (("proc/self/mountinfo", mountinfo), ("proc/swaps", swaps)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    if held:
        ((root / f"sys/class/block/{held}").resolve() / "holders/dm-0").mkdir()
    with pytest.raises(ConfigError) as caught:
        boot_disk.find(Host(root), "/mnt")
    return caught.value


@pytest.mark.parametrize(
    ("mountinfo", "swaps", "held", "said"),
    [
        (ROOT, SWAPS, "", "/mnt: no partition of a disk is mounted there"),
        ("40 36 0:50 / /mnt rw - tmpfs tmpfs rw\n", SWAPS, "", "/mnt: no partition of a disk"),
        ("40 36 252:0 / /mnt rw - ext4 /dev/dm-0 rw\n", SWAPS, "", "/mnt: no partition of a disk"),
        (
            f"{ROOT}40 36 253:1 / /mnt rw - ext4 /dev/vda1 rw\n",
            SWAPS,
            "",
            "/dev/vda: is mounted at / too: a disk that is in use gets no boot loader",
        ),
        (
            f"{ROOT}{IMAGE}41 40 254:18 / /mnt/boot/efi rw - vfat /dev/vdb2 rw\n",
            SWAPS,
            "",
            "/dev/vdb: is mounted at /mnt/boot/efi too",
        ),
        (IMAGE, f"{SWAPS}/dev/vdb2 partition 1 0 -2\n", "", "/dev/vdb2 is swap of this machine"),
        (IMAGE, SWAPS, "vdb2", "/dev/vdb: vdb2 is part of a volume of this machine"),
    ],
)
def test_a_disk_in_use_is_refused(root: Path, mountinfo: str, swaps: str, held: str, said: str) -> None:
    assert said in refused(root, mountinfo, swaps=swaps, held=held).message


def test_the_running_machine_is_no_image(root: Path) -> None:
    with pytest.raises(ConfigError, match="/: no image, but this machine: nothing was changed"):
        boot_disk.find(Host(root), "/")
