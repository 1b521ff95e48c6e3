"""Tests of the rig itself on plain Debian: what all other guest tests rely on, with the times."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.vm.conftest import Rig
from tests.vm.rig import (
    MIB,
    Bus,
    Disk,
    GuestError,
    GuestFile,
    Image,
    ImageSpec,
    Machine,
    MachineSpec,
    Network,
    Nic,
    RootFs,
    Table,
    build,
    make_disk,
    make_filesystem,
    saved,
)

#: All other guest tests use the rig, too; what only this file tests must not cost each run minutes.
pytestmark = pytest.mark.soak


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long a step took."""
    began = time.monotonic()
    yield
    print(f"{what}: {time.monotonic() - began:.2f} s")


def block_devices(machine: Machine) -> dict[str, dict[str, object]]:
    """Return the guest's disks by name, with udev's properties, once udev is idle."""
    machine.run(["udevadm", "settle", "--timeout=30"])
    columns = "NAME,SIZE,SERIAL,VENDOR,MODEL,TYPE"
    listed = machine.json(["lsblk", "--json", "--bytes", "--nodeps", "-o", columns])
    return {device["name"]: device for device in listed["blockdevices"]}


def test_power_and_cpus(machine: Rig, plain_image: Image, tmp_path: Path) -> None:
    disk = Disk(path=make_disk(tmp_path / "data.img", 32 * MIB), id="data", serial="data")
    with timed("boot to the channel"):
        guest = machine.start(plain_image, MachineSpec(max_cpus=2), disks=[disk])
    with timed("from there to the end of the boot"):
        assert guest.wait_booted() == "running"
    options = guest.output("grep ' / ' /proc/self/mounts")
    assert options.startswith("/dev/vda / ext4 rw")
    assert " ro " in guest.read_file("/proc/cmdline").decode()
    assert guest.output("cat /sys/class/dmi/id/product_uuid").lower() == guest.spec.uuid
    guest.run("echo kept > /root/mark; echo disk > /dev/vdb; sync")
    first = guest.wait_ready()
    with timed("soft reboot"):
        second = guest.reboot()
    assert second.id != first.id
    assert guest.read_file("/root/mark") == b"kept\n"
    with timed("power off and cold boot"):
        guest.cold_boot(disks=[replace(disk, path=make_disk(tmp_path / "other.img", 48 * MIB))])
    assert guest.read_file("/root/mark") == b"kept\n"
    assert block_devices(guest)["vdb"]["size"] == 48 * MIB
    assert (tmp_path / "data.img").read_bytes().startswith(b"disk\n")
    guest.add_cpu("cpu1")
    guest.wait_until("test -e /sys/devices/system/cpu/cpu1/online")
    guest.run("echo 1 > /sys/devices/system/cpu/cpu1/online")
    assert guest.output("nproc") == "2"


def test_commands(booted_plain: Machine) -> None:
    with timed("20 commands"):
        spent = [booted_plain.run(["true"]).seconds for _ in range(20)]
    print(f"of which in the guest: {sum(spent):.2f} s")
    every_byte = bytes(range(256)) * 4096
    assert booted_plain.run(["cat"], stdin=every_byte).raw == every_byte
    booted_plain.write_file("/root/new/file", every_byte, mode=0o600)
    assert booted_plain.read_file("/root/new/file") == every_byte
    assert booted_plain.output("stat -c %a /root/new/file") == "600"
    failed = booted_plain.run("echo out; echo err >&2; exit 3", check=False)
    assert (failed.rc, failed.stdout, failed.stderr) == (3, "out\n", "err\n")
    with pytest.raises(GuestError, match="exit 3"):
        booted_plain.run("exit 3")
    assert booted_plain.run(["sleep", "100"], timeout=0.5, check=False).rc is None
    with pytest.raises(GuestError, match="No such file"):
        booted_plain.read_file("/nowhere")
    slow = booted_plain.spawn("sleep 1; echo end")
    assert booted_plain.output("echo meanwhile") == "meanwhile"
    assert not slow.done()
    assert slow.result().stdout == "end\n"
    waiting = booted_plain.spawn("sleep 1; touch /run/there")
    assert booted_plain.wait_until("test -e /run/there", timeout=20).seconds > 0.5
    waiting.result().checked()
    with pytest.raises(GuestError):
        booted_plain.wait_until("test -e /run/never", timeout=1)
    assert "systemd[1]" in booted_plain.journal()


def test_a_clone_starts_at_the_saved_moment(machine: Rig, plain_image: Image, tmp_path: Path) -> None:
    data = Disk(path=make_filesystem(tmp_path / "data.img", 64 * MIB, "ext4", label="data"), id="data")

    def prepare(guest: Machine) -> None:
        guest.wait_booted()
        guest.run("mount /dev/vdb /mnt && echo saved | tee /root/mark /mnt/mark && sync")

    with timed("making the state"):
        state = saved(plain_image, f"rig-self-test-{tmp_path}", prepare, disks=[data])
    boots = set()
    for number in range(2):
        with timed("clone"):
            guest = machine.clone(state)
        assert guest.run("cat /root/mark /mnt/mark").stdout == "saved\nsaved\n", "nothing of the other clone"
        guest.run("echo spoilt | tee /root/mark /mnt/mark; sync")
        boots.add(guest.wait_ready().id)
        assert abs(int(guest.output("date +%s")) - time.time()) < 10, f"clock of clone {number}"
        guest.close()
    assert len(boots) == 1, "both went on from one boot"


@pytest.mark.parametrize("bus", [Bus.VIRTIO, Bus.SCSI, Bus.NVME])
def test_hot_plug_of_disks(booted_plain: Machine, tmp_path: Path, bus: Bus) -> None:
    name = {Bus.VIRTIO: "vdb", Bus.SCSI: "sda", Bus.NVME: "nvme0n1"}[bus]
    disk = Disk(
        path=make_disk(tmp_path / "hot.img", 64 * MIB),
        id="hot",
        bus=bus,
        serial="gandi-hot",
        vendor="gandi.ne",
        product="disk",
    )
    with timed(f"{bus}: add"):
        booted_plain.add_disk(disk)
        booted_plain.wait_until(f"test -b /dev/{name}", interval=0.02)
    seen = block_devices(booted_plain)[name]
    assert (seen["size"], seen["serial"]) == (64 * MIB, "gandi-hot")
    if bus == Bus.SCSI:
        assert (str(seen["vendor"]).strip(), str(seen["model"]).strip()) == ("gandi.ne", "disk")
    if bus != Bus.NVME:
        with timed(f"{bus}: resize"):
            booted_plain.resize_disk("hot", 96 * MIB)
            booted_plain.wait_until(f"test $(cat /sys/block/{name}/size) = {96 * 2048}", interval=0.02)
    with timed(f"{bus}: remove"):
        booted_plain.remove_disk("hot")
        booted_plain.wait_until(f"! test -e /sys/block/{name}", interval=0.02)
    booted_plain.add_disk(disk)
    booted_plain.wait_until(f"test -b /dev/{name}")


def test_hot_plug_of_nic_and_memory(booted_plain: Machine) -> None:
    booted_plain.add_nic(Nic(id="net1", mac="52:54:00:00:00:11"))
    booted_plain.wait_until("ip -o link | grep -q 52:54:00:00:00:11")
    booted_plain.set_link("net1", up=False)
    booted_plain.wait_until(
        "ip -o link | grep 52:54:00:00:00:11 | grep -q NO-CARRIER || networkctl | grep -q no-carrier"
    )
    booted_plain.remove_nic("net1")
    booted_plain.wait_until("! ip -o link | grep -q 52:54:00:00:00:11")
    before = booted_plain.output("ls -d /sys/devices/system/memory/memory* | wc -l")
    booted_plain.add_memory("dimm1", 256)
    booted_plain.wait_until(f"test $(ls -d /sys/devices/system/memory/memory* | wc -l) = {int(before) + 2}")


def test_a_partitioned_root_disk(machine: Rig) -> None:
    """A disk made to be cloned, larger than its image, with the backup GPT header left behind."""
    zeros = "00000000-0000-0000-0000-000000000000"
    spec = ImageSpec(table=Table.GPT, root_fs=RootFs.XFS, disk_guid=zeros)
    guest = machine.start(spec, MachineSpec(root_size=2048 * MIB))
    mounted = guest.json(["findmnt", "--json", "-o", "SOURCE,FSTYPE", "/"])["filesystems"][0]
    assert mounted == {"source": "/dev/vda2", "fstype": "xfs"}
    assert block_devices(guest)["vda"]["size"] == 2048 * MIB
    listed = guest.run(["sfdisk", "--json", "/dev/vda"])
    table = json.loads(listed.stdout)["partitiontable"]
    assert table["id"] == zeros
    assert table["partitions"][-1]["name"] == "gandiroot"
    assert "not on the end" in listed.stderr


@pytest.mark.parametrize(("bus", "name"), [(Bus.SCSI, "sda"), (Bus.NVME, "nvme0n1"), (Bus.SATA, "sda")])
def test_a_root_disk_on_another_bus(machine: Rig, plain_image: Image, bus: Bus, name: str) -> None:
    guest = machine.start(plain_image, MachineSpec(root_bus=bus))
    assert guest.output("findmnt -no SOURCE,FSTYPE /").split() == [f"/dev/{name}", "ext4"]
    assert guest.wait_booted() == "running"


def test_debians_own_initrd(machine: Rig, plain_image: Image) -> None:
    """It leaves its own folder in /run, and none of the rig's files."""
    guest = machine.start(plain_image, MachineSpec(debian_initrd=True))
    assert guest.wait_booted() == "running"
    assert "cryptomgr" not in guest.read_file("/proc/cmdline").decode()
    guest.run("test -d /run/initramfs && ! test -e /run/systemd/system-generators")


def test_an_unusual_image(machine: Rig) -> None:
    spec = ImageSpec(
        table=Table.MSDOS,
        root_fs=RootFs.BTRFS,
        network=Network.IFUPDOWN,
        without=("dbus",),
        commands=("useradd -m someone",),
        files=(GuestFile("/etc/motd", b"hello\n", 0o640),),
    )
    with timed("layer and image"):
        build(spec)
    guest = machine.start(spec)
    mounted = guest.json(["findmnt", "--json", "-o", "SOURCE,FSTYPE", "/"])["filesystems"][0]
    assert mounted["source"].startswith("/dev/vda1")
    assert mounted["fstype"] == "btrfs"
    assert guest.read_file("/etc/motd") == b"hello\n"
    assert guest.output("stat -c %a /etc/motd") == "640"
    assert guest.run(["dpkg", "-s", "dbus"], check=False).rc != 0
    assert guest.run("systemctl is-enabled systemd-networkd", check=False).stdout == "disabled\n"
    guest.run("id someone && command -v ifup")
