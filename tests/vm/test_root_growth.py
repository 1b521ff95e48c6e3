"""XFS and btrfs roots with every partition table, made with 1.5 GB and booted with 3. tests/system grows
them on loop devices; ext4 roots with every table are in test_first_boot.py.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.vm.conftest import Rig
from tests.vm.rig import GIB, ImageSpec, MachineSpec, RootFs, Table, newest_deb

VARIANTS = [(table, root_fs) for table in Table for root_fs in (RootFs.XFS, RootFs.BTRFS)]


@pytest.mark.soak
@pytest.mark.parametrize(("table", "root_fs"), VARIANTS, ids=[f"{t}-{f}" for t, f in VARIANTS])
def test_the_root_filesystem_fills_its_disk(machine: Rig, table: Table, root_fs: RootFs) -> None:
    spec = ImageSpec(debs=(newest_deb(),), table=table, root_fs=root_fs)
    vm = machine.start(spec, replace(MachineSpec(), root_size=3 * GIB))
    assert vm.wait_booted() == "running"
    vm.wait_until("test $(df --output=size -B1M / | tail -1) -gt 2700")
    assert vm.output("gandi-agent status --format=short").endswith("nothing failed")
    if table is Table.GPT:
        # From udev's record, which is updated after the kernel has the new size.
        vm.wait_until("lsblk -rno PARTLABEL /dev/vda | grep -qx gandiroot")
        vm.run("test -e /dev/disk/by-partlabel/gandiroot")
        vm.run("sfdisk --verify /dev/vda")
    vm.reboot()
    assert vm.wait_booted() == "running"
    vm.run("test $(df --output=size -B1M / | tail -1) -gt 2700")
    assert "root disk: unchanged" in vm.output("systemctl status --no-pager -n50 gandi-postboot")
