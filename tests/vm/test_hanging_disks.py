"""Disks that hang at a boot cost it no more than three seconds of the guest's own time, and are named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.vm.hanging import HangingDisk
from tests.vm.rig import MIB, Machine, MachineSpec, make_filesystem

if TYPE_CHECKING:
    from pathlib import Path

    from tests.vm.conftest import Rig
    from tests.vm.rig import Image

SIZE = 512 * MIB
#: What a mount reads (the journal) is not answered. What libblkid reads is: mount(8) has it look at all
#: disks to remount the root by its UUID, so one that hangs from the beginning stops any system.
HANGS = range(8 * MIB, SIZE - 8 * MIB)
#: Seconds of the guest by which ssh may come later.
LATER = 3.0
FAILED = "systemctl list-units --state=failed --no-legend --plain 'gandi-*'"
#: In place of e2fsck.
ENDLESS = "#!/bin/sh\nexec sleep infinity\n"


def _ssh(vm: Machine) -> float:
    """When ssh was started, in seconds of the guest since its kernel began."""
    vm.wait_until("systemctl is-active -q ssh.service", timeout=240)
    shown = "systemctl show -P ExecMainStartTimestampMonotonic ssh.service"
    return int(vm.output(shown)) / 1e6


@pytest.mark.long
def test_ssh_does_not_wait_for_a_disk_that_hangs(machine: Rig, image: Image, tmp_path: Path) -> None:
    """One machine with a clock that counts instructions, booted without the disk, with it hanging when it
    is mounted, and with a check of it that does not end.
    """
    path = make_filesystem(tmp_path / "data.img", SIZE, "ext4", label="data")
    vm = machine.start(image, MachineSpec(counted=True))
    vm.wait_booted(400)
    vm.reset()
    without = _ssh(vm)
    with HangingDisk(path, "data") as disk:
        disk.attach(vm)
        vm.wait_until("mountpoint -q /srv/data", timeout=60)
        vm.run("umount /srv/data; sync")
        disk.hangs = HANGS
        vm.reset()
        took = _ssh(vm) - without
        print(f"a disk that hangs: ssh {took:.2f} s later")
        assert disk.held.is_set()
        assert took < LATER, f"ssh {took:.2f} s later"
        vm.run("! mountpoint -q /srv/data")
        vm.wait_until("gandi-agent status | grep -q 'vdb: failed'", timeout=60, interval=1)
        assert "does not answer" in vm.output("gandi-agent status")
        assert vm.output(FAILED) == ""
        disk.release()
        vm.wait_until("mountpoint -q /srv/data", timeout=120)
        vm.run("umount /srv/data; sync")
        vm.write_file("/usr/sbin/e2fsck.gandi", ENDLESS, mode=0o755)
        vm.run("ln -sf e2fsck.gandi /usr/sbin/fsck.ext4 && tune2fs -c 1 -C 5 /dev/vdb && sync")
        vm.reset()
        took = _ssh(vm) - without
        print(f"a check that does not end: ssh {took:.2f} s later")
        assert took < LATER, f"a check that does not end: ssh {took:.2f} s later"
        assert "the check of vdb" in vm.output("gandi-agent status")
        assert vm.output(FAILED) == ""
