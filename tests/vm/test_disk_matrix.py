"""Every bus, partition table and filesystem: attached, written to, resized, removed, attached again. All
disks at once in one machine.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.vm.conftest import Rig
from tests.vm.layouts import Layout, every, pairwise
from tests.vm.rig import MIB, Image, Machine, MachineSpec, Table, state


def test_disks_of_every_kind_come_grow_go_and_come_again(booted: Machine, tmp_path: Path) -> None:
    _come_grow_go_and_come_again(booted, pairwise(), tmp_path)


@pytest.mark.soak
def test_each_kind_of_bus_table_and_filesystem(machine: Rig, image: Image, tmp_path: Path) -> None:
    vm = machine.clone(state.booted(image, MachineSpec(root_ports=28, memory=768)))
    _come_grow_go_and_come_again(vm, every(), tmp_path)


def _come_grow_go_and_come_again(vm: Machine, layouts: list[Layout], tmp_path: Path) -> None:
    disks = {layout: layout.make(tmp_path) for layout in layouts}
    for disk in disks.values():
        vm.add_disk(disk)
    _all_mounted(vm, layouts)
    in_force = _mounts(vm, "TARGET,OPTIONS")
    for layout in layouts:
        wanted = {"rw", "nosuid", "nodev", "noatime"}
        wanted |= {"dmask=0022", "fmask=0133"} if layout.fs == "vfat" else set()
        assert wanted <= set(in_force[layout.name].split(","))
    names = " ".join(layout.name for layout in layouts)
    vm.run(f"for n in {names}; do echo $n > /srv/$n/mine && sync -f /srv/$n || exit; done")

    growing = [layout for layout in layouts if layout.grows]
    ids = _mounts(vm, "TARGET,ID")
    for layout in growing:
        vm.resize_disk(layout.name, layout.larger)
    enough = [
        f"test $(df --output=size -B1M /srv/{layout.name} | tail -1) -ge {layout.larger * 0.85 // MIB:.0f}"
        for layout in growing
    ]
    vm.wait_until(" && ".join(enough), timeout=240)
    assert _mounts(vm, "TARGET,ID") == ids
    for layout in growing:
        if layout.table is not Table.NONE:
            source = f"$(findmnt -no SOURCE /srv/{layout.name})"
            vm.wait_until(f"test -e /dev/disk/by-partuuid/$(blkid -p -s PART_ENTRY_UUID -o value {source})")
        if layout.table is Table.GPT:
            name = vm.output(f"lsblk -no PKNAME $(findmnt -no SOURCE /srv/{layout.name})")
            assert "No errors" in vm.output(f"sfdisk --verify /dev/{name} 2>&1"), "the backup header too"

    _take_away(vm, layouts)
    again = list(disks)
    random.Random(len(again)).shuffle(again)
    for layout in again:
        vm.add_disk(disks[layout])
    _all_mounted(vm, layouts)
    assert vm.output(f"cd /srv; for n in {names}; do cat $n/mine; done").split() == names.split()
    assert vm.output("systemctl is-system-running") == "running"
    assert vm.output("gandi-agent status --format=short").endswith("nothing failed")


def _all_mounted(vm: Machine, layouts: list[Layout]) -> None:
    vm.wait_until(f"test $(findmnt -rno TARGET | grep -c ^/srv/) = {len(layouts)}", timeout=120)
    assert _mounts(vm, "TARGET,FSTYPE") == {layout.name: layout.fs for layout in layouts}


def _mounts(vm: Machine, columns: str) -> dict[str, str]:
    """Return a column of findmnt(8) for each disk; the first is TARGET."""
    lines = vm.output(f"findmnt -rno {columns} | grep ^/srv/").splitlines()
    return {name.removeprefix("/srv/"): value for name, value in map(str.split, lines)}


def _take_away(vm: Machine, layouts: list[Layout]) -> None:
    for layout in layouts:
        vm.remove_disk(layout.name)
    vm.wait_until('! findmnt -rno TARGET | grep -q ^/srv/ && test -z "$(ls -A /srv)"', timeout=120)
    left = vm.output("lsblk -dno NAME").split()
    assert not [name for name in left if name.startswith(("sd", "nvme"))], left
