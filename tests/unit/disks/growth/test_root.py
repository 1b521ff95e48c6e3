"""Finding the root disk by its mount or by its partition's name."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.block import storage
from agent.config.model import Identity, InstanceConfig
from agent.config.settings import Settings
from agent.config.system import System as DocumentSystem
from agent.context import Context, context
from agent.disks.base.system import System
from agent.disks.decide import gather
from agent.disks.growth import root
from agent.host.host import Host
from tests.unit.sysfs import Sysfs, virtio

UDEV = {"ID_FS_USAGE": "filesystem", "ID_FS_TYPE": "ext4", "ID_FS_UUID": "1", "ID_FS_LABEL_ENC": "root"}


def system(**named: str) -> System:
    """Return a system with the same udev properties for all devices, and partition names for some."""

    def properties(name: str) -> dict[str, str]:
        return UDEV | ({"ID_PART_ENTRY_NAME": named[name]} if name in named else {})

    return System(read=lambda host, name: storage.read(host, name, properties))


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    sysfs = Sysfs(tmp_path)
    disk = virtio(sysfs, "vda", "254:0")
    sysfs.partition(disk, 1, "254:1", start=2048)
    sysfs.partition(disk, 2, "254:2", start=4096)
    mapped = sysfs.disk("virtual/block/dm-0", "253:0")
    (mapped / "slaves").mkdir()
    sysfs.link("devices/virtual/block/dm-0/slaves/vda2", disk / "vda2")
    return context(Host(tmp_path))


def mountinfo(ctx: Context, *lines: str) -> None:
    ctx.host.write("/proc/self/mountinfo", "".join(f"{line}\n" for line in lines))


@pytest.mark.parametrize(
    "line",
    [
        "27 1 254:2 / / rw - ext4 /dev/vda2 rw",
        "27 1 254:2 / / rw - ext4 /dev/root rw",
        "27 1 0:30 / / rw - btrfs /dev/vda2 rw",
    ],
)
def test_by_the_mount(line: str, ctx: Context) -> None:
    mountinfo(ctx, "1 1 0:2 / / rw - rootfs rootfs rw", line)
    found = root.find(ctx, system())
    assert isinstance(found, root.Root)
    assert (found.disk.name, found.device.name, found.mountpoint) == ("vda", "vda2", "/")
    facts = gather(ctx.host, system(), Settings(), {})
    assert facts.root_disks == {"vda"}
    assert {(f.uuid, f.label, f.mountpoint) for f in facts.filesystems} >= {("1", b"root", "/")}


def test_by_the_name_of_its_partition(ctx: Context) -> None:
    mountinfo(
        ctx, "27 1 0:30 / / rw - overlay overlay rw", "28 27 254:2 / /media/lower rw - ext4 /dev/vda2 rw"
    )
    found = root.find(ctx, system(vda2="gandiroot"))
    assert isinstance(found, root.Root)
    assert (found.device.name, found.mountpoint) == ("vda2", "/media/lower")
    assert root.find(ctx, system()) == "the root filesystem is on no block device"


def test_on_a_volume(ctx: Context) -> None:
    mountinfo(ctx, "27 1 253:0 / / rw - ext4 /dev/mapper/vg-root rw")
    assert root.find(ctx, system()) == "the root filesystem is on dm-0, a device that is not grown"
    udev = UDEV | {"ID_FS_USAGE": "raid", "ID_FS_TYPE": "LVM2_member"}
    found = root.find(ctx, System(read=lambda host, name: storage.read(host, name, lambda _name: udev)))
    assert isinstance(found, root.Root)
    assert (found.disk.name, found.device.name, found.mountpoint) == ("vda", "vda2", "/")
    assert gather(ctx.host, system(), Settings(), {}).root_disks == {"vda"}


def test_on_a_volume_of_several_devices(ctx: Context, tmp_path: Path) -> None:
    slaves = tmp_path / "sys/devices/virtual/block/dm-0/slaves"
    (slaves / "vda1").symlink_to((slaves / "vda2").resolve().parent / "vda1")
    mountinfo(ctx, "27 1 253:0 / / rw - ext4 /dev/mapper/vg-root rw")
    assert "several devices" in str(root.find(ctx, system()))


def test_a_document_that_says_not_to(ctx: Context) -> None:
    mountinfo(ctx, "27 1 254:2 / / rw - ext4 /dev/vda2 rw")
    config = InstanceConfig(Identity("nocloud", "1"), system=DocumentSystem(grow_root=False))
    ctx.state.set_instance(config.identity)
    ctx.state.store_config(config, {})
    assert ctx.config is None, "a daemon that has run no stage reads what is stored"
    assert "growpart" in str(root.find(ctx, system()))
    ctx.config = InstanceConfig(config.identity, system=DocumentSystem(locale="C"))
    assert isinstance(root.find(ctx, system()), root.Root)
