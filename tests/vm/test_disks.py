"""Disks that come, grow and go while the machine runs, and those that are there when it boots."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm.conftest import Rig
from tests.vm.rig import GIB, MIB, Bus, Disk, Image, Machine, make_filesystem


@pytest.mark.parametrize("bus", [Bus.VIRTIO, Bus.SCSI])
def test_a_disk_comes_grows_and_goes(booted: Machine, tmp_path: Path, bus: Bus) -> None:
    path = make_filesystem(tmp_path / "data.img", GIB, "ext4", label="data")
    booted.add_disk(Disk(path=path, id="data", bus=bus))
    booted.wait_until("mountpoint -q /srv/data")
    options = booted.output("findmnt -no OPTIONS /srv/data").split(",")
    assert {"rw", "nosuid", "nodev", "noatime"} <= set(options)
    mounted = booted.output("findmnt -no ID /srv/data")
    booted.resize_disk("data", 2 * GIB)
    booted.wait_until("test $(df --output=size -B1M /srv/data | tail -1) -gt 1900")
    assert booted.output("findmnt -no ID /srv/data") == mounted, "grown without a remount"
    booted.remove_disk("data")
    booted.wait_until("! mountpoint -q /srv/data && ! test -e /srv/data")
    assert booted.output("systemctl is-system-running") == "running"


@pytest.mark.parametrize("fs", ["xfs", "btrfs"])
def test_other_filesystems_grow_online(booted: Machine, tmp_path: Path, fs: str) -> None:
    path = make_filesystem(tmp_path / "data.img", 512 * MIB, fs, label="data")
    booted.add_disk(Disk(path=path, id="data"))
    booted.wait_until("mountpoint -q /srv/data")
    booted.resize_disk("data", GIB)
    booted.wait_until("test $(df --output=size -B1M /srv/data | tail -1) -gt 900")


@pytest.mark.parametrize(
    ("label", "name"),
    [("../../etc", "_._.._etc"), ("two\nlines", "two_lines"), (".hidden", "_hidden"), ("a b", "a_b")],
)
def test_a_hostile_label_is_a_safe_name(booted: Machine, tmp_path: Path, label: str, name: str) -> None:
    path = make_filesystem(tmp_path / "data.img", 64 * MIB, "ext4", label=label)
    booted.add_disk(Disk(path=path, id="data"))
    booted.wait_until("findmnt -rno TARGET | grep -q ^/srv/")
    assert booted.output("findmnt -rno TARGET | grep ^/srv/") == f"/srv/{name}"
    assert booted.output("ls -A /srv") == name


def test_a_disk_without_a_label_has_its_devices_name(booted: Machine, tmp_path: Path) -> None:
    booted.add_disk(Disk(path=make_filesystem(tmp_path / "data.img", 64 * MIB, "ext4"), id="data"))
    booted.wait_until("findmnt -rno TARGET | grep -q ^/srv/")
    device = booted.output("findmnt -rno SOURCE,TARGET | grep ' /srv/'").split()
    assert device[1] == device[0].replace("/dev", "/srv")


def test_the_same_label_twice_is_stable_in_any_order(machine: Rig, image: Image, tmp_path: Path) -> None:
    """Data disks of a boot are mounted before the services of basic.target; names stay with filesystems."""
    disks = [
        Disk(path=make_filesystem(tmp_path / f"{n}.img", 64 * MIB, "ext4", label="data"), id=f"data{n}")
        for n in range(2)
    ]
    vm = machine.start(image, disks=disks)
    assert vm.wait_booted() == "running"
    first = _mounts(vm)
    assert sorted(first) == ["/srv/data", "/srv/data_2"]
    assert _microseconds(vm, "gandi-mount.service") <= _microseconds(vm, "basic.target")
    vm.cold_boot(disks=disks[::-1])
    assert vm.wait_booted() == "running"
    assert _mounts(vm) == first


def test_a_shutdown_takes_a_data_disk_away_after_the_services(
    machine: Rig, image: Image, tmp_path: Path
) -> None:
    """A database that ends writes for a while; a lazy unmount would take the folder from under it."""
    path = make_filesystem(tmp_path / "data.img", 64 * MIB, "ext4", label="data")
    vm = machine.start(image, disks=[Disk(path=path, id="data")])
    assert vm.wait_booted() == "running"
    ends = "sleep 2; mountpoint -q /srv/data && touch /srv/data/ended"
    vm.run(f"systemd-run --unit=database -p 'ExecStop=/bin/sh -c \"{ends}\"' sleep infinity")
    vm.reboot()
    assert vm.wait_booted() == "running"
    vm.run("test -e /srv/data/ended")


def _mounts(vm: Machine) -> dict[str, str]:
    lines = vm.output("findmnt -rno TARGET,UUID | grep ^/srv/").splitlines()
    return dict(line.split() for line in lines)


def _microseconds(vm: Machine, unit: str) -> int:
    return int(vm.output(f"systemctl show -P ActiveEnterTimestampMonotonic {unit}"))
