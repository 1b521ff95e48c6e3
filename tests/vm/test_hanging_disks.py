"""Disks that hang delay a boot by at most three seconds of the guest's time, and are reported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.vm import sample
from tests.vm.hanging import HangingDisk
from tests.vm.rig import MIB, Machine, MachineSpec, make_filesystem

if TYPE_CHECKING:
    from pathlib import Path

    from tests.vm.conftest import Rig
    from tests.vm.rig import Image

SIZE = 512 * MIB
#: Reads of a mount (the journal) are not answered; reads of libblkid are: mount(8) has it read all disks to
#: remount the root by its UUID, so a disk that hangs from the start would stop any system.
HANGS = range(8 * MIB, SIZE - 8 * MIB)
#: Seconds of the guest's time by which ssh may start later.
LATER = 3.0
FAILED = "systemctl list-units --state=failed --no-legend --plain 'gandi-*'"
#: The daemon has exited, and has left the mark.
SETTLED = "test -e /var/lib/gandi/settled && test $(systemctl is-active gandi-agent) = inactive"
NOTHING_NEW = "nothing new since the last boot: every stage unchanged"
#: Replaces e2fsck.
ENDLESS = "#!/bin/sh\nexec sleep infinity\n"


def _ssh(vm: Machine) -> float:
    """Return when ssh was started, in seconds of the guest's time since its kernel started."""
    vm.wait_until("systemctl is-active -q ssh.service", timeout=240)
    shown = "systemctl show -P ExecMainStartTimestampMonotonic ssh.service"
    return int(vm.output(shown)) / 1e6


@pytest.mark.long
def test_ssh_does_not_wait_for_a_disk_that_hangs(machine: Rig, image: Image, tmp_path: Path) -> None:
    """One machine with a clock that counts instructions, booted without the disk, with a disk that hangs
    when it is mounted, and with a disk for which the check does not end.
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


@pytest.mark.long
def test_nor_for_one_that_pid_1_mounts(machine: Rig, image: Image, tmp_path: Path) -> None:
    """The same in a boot with nothing new, in which no stage runs: a known disk hangs."""
    path = make_filesystem(tmp_path / "data.img", SIZE, "ext4", label="data")
    swap = sample.swap_disk(tmp_path)
    vm = machine.start(image, MachineSpec(nics=sample.SPEC.nics, counted=True), disks=[swap])
    vm.wait_booted(400)
    vm.run("echo CONFIG_IDLE_EXIT=2 >> /etc/default/gandi; systemctl kill -s HUP gandi-agent; true")
    vm.wait_until(SETTLED, timeout=120)
    vm.run("sync")
    vm.reset()
    without = _ssh(vm)
    vm.wait_until("test -e /run/gandi/asleep", timeout=120)
    with HangingDisk(path, "data") as disk:
        disk.attach(vm)
        vm.wait_until("mountpoint -q /srv/data", timeout=60)
        vm.wait_until(SETTLED, timeout=120)
        vm.run("grep -q gandi-disks.target /var/lib/gandi/settled && sync")
        disk.hangs = HANGS
        vm.reset()
        took = _ssh(vm) - without
        print(f"a known disk that hangs: ssh {took:.2f} s later")
        assert disk.held.is_set()
        assert took < LATER, f"ssh {took:.2f} s later"
        assert NOTHING_NEW in vm.output("journalctl -b -o cat -t gandi-check --no-pager")
        vm.run("! mountpoint -q /srv/data")
        vm.wait_until("gandi-agent status | grep -q 'vdc: failed'", timeout=120, interval=1)
        assert "does not answer" in vm.output("gandi-agent status")
        assert vm.output(FAILED) == ""
        # PID 1 gives up the mount, and cannot end it.
        vm.wait_until("systemctl show -P Result srv-data.mount | grep -qx timeout", timeout=400, interval=5)
        disk.release()
        vm.wait_until("gandi-agent status | grep -q 'vdc: changed'", timeout=120, interval=1)
        vm.run("mountpoint -q /srv/data")
        assert vm.output("systemctl --failed --no-legend") == ""
