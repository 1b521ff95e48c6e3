"""64 disks at once: all mounted, none lost; twelve enlarged at once; all removed at once while two
processes use them.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.vm.checks import private_memory
from tests.vm.rig import MIB, Bus, Disk, Machine, make_filesystem

#: More than eight are enlarged: a virtio SCSI controller reports no more than that to the kernel at a time.
COUNT, ENLARGED = 64, 12
SIZE = 32 * MIB


@pytest.mark.long
def test_64_disks_come_grow_and_go_at_once(booted: Machine, tmp_path: Path) -> None:
    vm = booted
    names = [f"d{number}" for number in range(COUNT)]
    disks = [
        Disk(path=make_filesystem(tmp_path / name, SIZE, "ext4", label=name), id=name, bus=Bus.SCSI)
        for name in names
    ]
    begun = time.monotonic()
    for disk in disks:
        vm.add_disk(disk)
    attached = time.monotonic() - begun
    vm.wait_until(f"test $(grep -c ' /srv/d' /proc/mounts) = {COUNT}", timeout=240, interval=2)
    print(f"{COUNT} disks attached in {attached:.1f} s, mounted after {time.monotonic() - begun:.1f} s")
    found = vm.output("findmnt -rno TARGET | grep ^/srv/d").split()
    assert sorted(found) == sorted(f"/srv/{name}" for name in names)
    assert sorted(vm.output("ls -A /srv").split()) == sorted(names)

    begun = time.monotonic()
    for name in names[:ENLARGED]:
        vm.resize_disk(name, 3 * SIZE)
    large = " ".join(f"/srv/{name}" for name in names[:ENLARGED])
    grown = f"df --output=size -B1M {large} | awk 'NR > 1 && $1 < 80 {{ small = 1 }} END {{ exit small }}'"
    vm.wait_until(grown, timeout=120, interval=1)
    print(f"{ENLARGED} disks grown in {time.monotonic() - begun:.1f} s")

    # Not by a setting of the unit: systemd would stop it with the mount.
    vm.run("systemd-run -q --unit=sits sh -c 'cd /srv/d1 && exec sleep infinity'")
    vm.run("systemd-run -q --unit=reads sh -c 'exec tail -f /dev/null 3>/srv/d2/file'")
    vm.wait_until("test $(readlink /proc/$(systemctl show -P MainPID sits)/cwd) = /srv/d1")
    vm.wait_until("readlink /proc/$(systemctl show -P MainPID reads)/fd/3 && pgrep -x tail")
    for disk in disks:
        vm.qmp.call("device_del", id=f"{disk.id}-dev")
    vm.wait_until('! grep -q " /srv/" /proc/mounts && test -z "$(ls -A /srv)"', timeout=240, interval=2)
    assert vm.output("systemctl list-units --type=mount --no-legend 'srv-*'") == "", "no dead mount"
    assert vm.output("systemctl is-system-running") == "running"
    assert private_memory(vm) <= 16 * MIB
    status = vm.output("gandi-agent status")
    for unit, program in (("sits", "sleep"), ("reads", "tail")):
        process = vm.output(f"systemctl show -P MainPID {unit}.service")
        assert process in status, status
        assert program in status, status
