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
    for layout in layouts:
        options = set(vm.output(f"findmnt -no OPTIONS /srv/{layout.name}").split(","))
        wanted = {"rw", "nosuid", "nodev", "noatime"}
        assert wanted | ({"dmask=0022", "fmask=0133"} if layout.fs == "vfat" else set()) <= options
        vm.run(f"echo {layout.name} > /srv/{layout.name}/mine && sync -f /srv/{layout.name}")

    growing = [layout for layout in layouts if layout.grows]
    ids = {layout: vm.output(f"findmnt -no ID /srv/{layout.name}") for layout in layouts}
    for layout in growing:
        vm.resize_disk(layout.name, layout.larger)
    for layout in growing:
        enough = layout.larger * 0.85 // MIB
        size = f"$(df --output=size -B1M /srv/{layout.name} | tail -1)"
        vm.wait_until(f"test {size} -ge {enough:.0f}", timeout=120)
    assert {layout: vm.output(f"findmnt -no ID /srv/{layout.name}") for layout in layouts} == ids
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
    for layout in layouts:
        assert vm.output(f"cat /srv/{layout.name}/mine") == layout.name
    assert vm.output("systemctl is-system-running") == "running"
    assert vm.output("gandi-agent status --format=short").endswith("nothing failed")


def _all_mounted(vm: Machine, layouts: list[Layout]) -> None:
    vm.wait_until(f"test $(findmnt -rno TARGET | grep -c ^/srv/) = {len(layouts)}", timeout=120)
    found = vm.output("findmnt -rno TARGET,FSTYPE | grep ^/srv/").splitlines()
    assert sorted(found) == sorted(f"/srv/{layout.name} {layout.fs}" for layout in layouts)


def _take_away(vm: Machine, layouts: list[Layout]) -> None:
    for layout in layouts:
        vm.remove_disk(layout.name)
    vm.wait_until('! findmnt -rno TARGET | grep -q ^/srv/ && test -z "$(ls -A /srv)"', timeout=120)
    left = vm.output("lsblk -dno NAME").split()
    assert not [name for name in left if name.startswith(("sd", "nvme"))], left
