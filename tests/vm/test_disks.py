"""Disks attached, grown and detached while the machine runs, and those present when it boots."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm.documents import NO_MEDIUM
from tests.vm.rig import GIB, MIB, Bus, Disk, Machine, make_disk, make_filesystem, make_table
from tests.vm.rig.command import run


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


def test_a_logical_partition_grows_with_its_extended_one(booted: Machine, tmp_path: Path) -> None:
    path, start = make_disk(tmp_path / "data.img", 512 * MIB), 128 * MIB
    inner = make_filesystem(tmp_path / "inner.img", 512 * MIB - start, "ext4", label="data")
    parts = f"start=2048, size=65536, type=82\nstart=131072, type=5\nstart={start // 512}, type=83\n"
    make_table(path, f"label: dos\n{parts}")
    run(["dd", f"if={inner}", f"of={path}", "bs=1M", f"seek={start // MIB}", "conv=notrunc,sparse"])
    booted.add_disk(Disk(path=path, id="data"))
    booted.wait_until("mountpoint -q /srv/data")
    assert booted.output("findmnt -no SOURCE /srv/data").endswith("5")
    booted.resize_disk("data", GIB)
    booted.wait_until("test $(df --output=size -B1M /srv/data | tail -1) -gt 800")
    disk = booted.output("lsblk -rno PKNAME $(findmnt -no SOURCE /srv/data)")
    assert "No errors" in booted.output(f"sfdisk --verify /dev/{disk} 2>&1")
    assert booted.output("gandi-agent status --format=short").endswith("nothing failed")


#: Label -> folder below /srv. The last disk has no label: its folder has the device's name.
HOSTILE = {
    "../../etc": "_._.._etc",
    "two\nlines": "two_lines",
    ".hidden": "_hidden",
    "a b": "a_b",
    "": "vd?",
}


def test_a_hostile_label_is_a_safe_name_and_no_label_the_devices(booted: Machine, tmp_path: Path) -> None:
    for number, label in enumerate(HOSTILE):
        path = make_filesystem(tmp_path / f"{number}.img", 64 * MIB, "ext4", label=label)
        booted.add_disk(Disk(path=path, id=f"data{number}"))
    booted.wait_until(f"test $(findmnt -rno TARGET | grep -c ^/srv/) = {len(HOSTILE)}")
    expected = HOSTILE | {"": booted.output("findmnt -rno TARGET | grep ^/srv/vd").removeprefix("/srv/")}
    device = booted.output(f"findmnt -rno SOURCE /srv/{expected['']}")
    assert device == f"/dev/{expected['']}"
    found = booted.output("findmnt -rno TARGET | grep ^/srv/").splitlines()
    assert sorted(found) == sorted(f"/srv/{name}" for name in expected.values())
    assert sorted(booted.output("ls -A /srv").splitlines()) == sorted(expected.values())
    # A folder can have this name, but a unit cannot: its name takes four characters for each of these bytes.
    long = "é-" * 80
    path = make_filesystem(tmp_path / "long.img", 128 * MIB, "btrfs", label=long)
    booted.add_disk(Disk(path=path, id="long"))
    booted.wait_until(f"mountpoint -q '/srv/{long}'")
    booted.remove_disk("long")
    booted.wait_until(f"! test -e '/srv/{long}'")


def test_the_same_label_twice_is_stable_in_any_order(booted: Machine, tmp_path: Path) -> None:
    """Names stay with filesystems. Data disks are mounted before the services of basic.target start, and
    unmounted after they have stopped: a database writes for a while when it is stopped, and a lazy unmount
    would remove the folder under it.
    """
    disks = [
        Disk(path=make_filesystem(tmp_path / f"{n}.img", 64 * MIB, "ext4", label="data"), id=f"data{n}")
        for n in range(2)
    ]
    for disk, name in zip(disks, ("data", "data_2"), strict=True):
        booted.add_disk(disk)
        booted.wait_until(f"mountpoint -q /srv/{name}")
    first = _mounts(booted)
    ends = "sleep 2; mountpoint -q /srv/data && touch /srv/data/ended"
    booted.run(f"systemd-run --unit=database -p 'ExecStop=/bin/sh -c \"{ends}\"' sleep infinity")
    booted.run(NO_MEDIUM)
    booted.cold_boot(disks=disks[::-1])
    assert booted.wait_booted() == "running"
    assert _mounts(booted) == first
    booted.run("test -e /srv/data/ended")
    assert _microseconds(booted, "gandi-mount.service") <= _microseconds(booted, "basic.target")


def test_what_udev_has_missed_is_mounted(booted: Machine, tmp_path: Path) -> None:
    """The disk gets a filesystem without an event: udev's record of it is blank, and is renewed."""
    known = "udevadm info -q property /dev/vdb | sed -n s/^ID_FS_TYPE=//p"
    path = make_disk(tmp_path / "missed.img", 64 * MIB)
    booted.add_disk(Disk(path=path, id="missed"))
    booted.wait_until("test -e /run/gandi/disks/vdb.json", timeout=60)
    run(["mkfs.ext4", "-qF", "-L", "missed", path])
    booted.run("blockdev --flushbufs /dev/vdb")
    assert booted.output(known) == ""
    booted.run("systemctl restart gandi-agent")
    booted.wait_until("mountpoint -q /srv/missed", timeout=60)
    assert booted.output(known) == "ext4"


def _mounts(vm: Machine) -> dict[str, str]:
    lines = vm.output("findmnt -rno TARGET,UUID | grep ^/srv/").splitlines()
    return dict(line.split() for line in lines)


def _microseconds(vm: Machine, unit: str) -> int:
    return int(vm.output(f"systemctl show -P ActiveEnterTimestampMonotonic {unit}"))
