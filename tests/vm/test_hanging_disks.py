"""Disks that hang delay a boot by at most three seconds of the guest's time, and are reported."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.vm import sample
from tests.vm.hanging import HangingDisk
from tests.vm.rig import MIB, Disk, Machine, make_filesystem
from tests.vm.rig.command import run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.vm.conftest import Rig
    from tests.vm.rig import State

SIZE = 512 * MIB
#: Reads of a mount (the journal) are not answered; reads of libblkid are: mount(8) has it read all disks to
#: remount the root by its UUID, so a disk that hangs from the start would stop any system.
HANGS = range(8 * MIB, SIZE - 8 * MIB)
#: Seconds of the guest's time by which ssh may start later.
LATER = 3.0
FAILED = "systemctl list-units --state=failed --no-legend --plain 'gandi-*'"
#: The daemon has exited, and has left the mark.
MARK = "/var/lib/gandi/settled"
SETTLED = f"test -e {MARK} && test $(systemctl is-active gandi-agent) = inactive"
NOTHING_NEW = "nothing new since the last boot: every stage unchanged"
#: PID 1 gives a mount up after three times this, instead of the unit's 90 s. No boot compares this
#: file with the last boot's.
SHORT = "/usr/lib/systemd/system/srv-data.mount.d/short.conf", "[Mount]\nTimeoutSec=10s\n"
#: The look after ssh comes while PID 1 is giving it up, not before.
LATE = (
    "/usr/lib/systemd/system/gandi-watch.service.d/late.conf",
    "[Service]\nExecStartPre=/bin/sh -c 'until systemctl is-active srv-data.mount | grep -qx deactivating;"
    " do sleep 0.5; done'\n",
)
#: The next boot is one with all stages, and the disk is none that PID 1 mounts.
UNITS = "/etc/systemd/system/srv-data.mount /etc/systemd/system/gandi-disks.target.wants/srv-data.mount"
FORGET = (
    "systemctl stop gandi-agent-uevent.socket gandi-agent.socket gandi-agent; "
    f"umount /srv/data && rm -f {MARK} {UNITS} {SHORT[0]} {LATE[0]} && sync"
)
#: Replaces e2fsck, for a disk that is not the one that hangs.
ENDLESS = """#!/bin/sh
test "$(blkid -p -o value -s LABEL "$2")" = checked && exec sleep infinity
exec /usr/sbin/e2fsck "$@"
"""
#: Names of the two disks at the last boot: the disk that hangs is on the last port.
CHECKED, HUNG = "vdc", "vdd"


def _ssh(vm: Machine) -> float:
    """Return when ssh was started, in seconds of the guest's time since its kernel started."""
    # Each question takes this guest as long as half a second of its boot.
    vm.wait_until("systemctl is-active -q ssh.service", timeout=240, interval=3)
    shown = "systemctl show -P ExecMainStartTimestampMonotonic ssh.service"
    return int(vm.output(shown)) / 1e6


@pytest.mark.long
def test_ssh_does_not_wait_for_a_disk_that_hangs(machine: Rig, set_up: State, tmp_path: Path) -> None:
    """One machine with a clock that counts instructions, at its later boots: without the disk; with nothing
    new, in which no stage runs and PID 1 mounts the disk, which hangs; with a disk that hangs when the stage
    mounts it and one for which the check does not end: the two together take no longer than one.
    """
    path = make_filesystem(tmp_path / "data.img", SIZE, "ext4", label="data")
    vm = machine.boot_again(set_up, replace(sample.SPEC, counted=True))
    without = _ssh(vm)
    vm.write_file(*SHORT)
    vm.wait_booted(400)
    vm.run("echo CONFIG_IDLE_EXIT=2 >> /etc/default/gandi; systemctl kill -s HUP gandi-agent; true")
    vm.wait_until(SETTLED, timeout=120)
    vm.run("sync")
    vm.reset()
    settled = _ssh(vm)
    vm.wait_until("test -e /run/gandi/asleep", timeout=120)
    with HangingDisk(path, "data") as disk:
        disk.attach(vm)
        vm.wait_until("mountpoint -q /srv/data", timeout=60)
        vm.wait_until(SETTLED, timeout=120)
        vm.write_file(*LATE)
        vm.run(f"grep -q gandi-disks.target {MARK} && sync")
        _one_that_pid_1_mounts(vm, disk, settled)
        vm.run(FORGET)
        vm.add_disk(Disk(path=_to_be_checked(tmp_path), id="checked"))
        _two_of_the_stage(vm, disk, without)


def _to_be_checked(folder: Path) -> Path:
    """Make a disk of which the filesystem is due for a check."""
    path = make_filesystem(folder / "checked.img", 64 * MIB, "ext4", label="checked")
    run(["tune2fs", "-c", "1", "-C", "5", path])
    return path


def _one_that_pid_1_mounts(vm: Machine, disk: HangingDisk, without: float) -> None:
    """A known disk hangs in a boot with nothing new."""
    took = _hangs(vm, disk) - without
    print(f"a known disk that hangs: ssh {took:.2f} s later")
    assert took < LATER, f"ssh {took:.2f} s later"
    assert NOTHING_NEW in vm.output("journalctl -b -o cat -t gandi-check --no-pager")
    _is_reported(vm, "vdc")
    started = vm.output("journalctl -b -o cat -t gandi-watch --no-pager")
    assert "starting the daemon: srv-data.mount: deactivating" in started
    # PID 1 gives up the mount, and cannot end it.
    vm.wait_until("systemctl show -P Result srv-data.mount | grep -qx timeout", timeout=400, interval=2)
    disk.release()
    vm.wait_until("mountpoint -q /srv/data", timeout=120, interval=1)
    vm.wait_until(f"! grep -q 'does not answer' {sample.STATUS}", timeout=120, interval=1)
    assert "vdc: changed" in vm.output("gandi-agent status")
    assert vm.output("systemctl --failed --no-legend") == ""


def _two_of_the_stage(vm: Machine, disk: HangingDisk, without: float) -> None:
    """One disk hangs when the stage mounts it, and the check of the other does not end."""
    vm.write_file("/usr/sbin/e2fsck.gandi", ENDLESS, mode=0o755)
    vm.run("ln -sf e2fsck.gandi /usr/sbin/fsck.ext4 && sync")
    took = _hangs(vm, disk) - without
    print(f"a disk that hangs and a check that does not end: ssh {took:.2f} s later")
    assert took < LATER, f"ssh {took:.2f} s later"
    vm.run(f"test -e {sample.STATUS} && ! mountpoint -q /srv/checked")
    _is_reported(vm, HUNG)
    assert f"the check of {CHECKED}" in vm.output("gandi-agent status")
    disk.release()
    vm.wait_until("mountpoint -q /srv/data", timeout=120)


def _hangs(vm: Machine, disk: HangingDisk) -> float:
    """Boot with the disk that hangs; return when ssh was started."""
    disk.hangs = HANGS
    vm.reset()
    started = _ssh(vm)
    assert disk.held.is_set()
    vm.run("! mountpoint -q /srv/data")
    return started


def _is_reported(vm: Machine, name: str) -> None:
    vm.wait_until(f"grep -q 'does not answer' {sample.STATUS}", timeout=120, interval=1)
    status = vm.output("gandi-agent status")
    assert f"{name}: failed" in status
    assert "does not answer" in status
    assert vm.output(FAILED) == ""
