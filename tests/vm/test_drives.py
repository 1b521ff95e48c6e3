"""Drives that disagree, appear late, change while the machine runs, or are read by another tool."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests import drives
from tests.vm import sample
from tests.vm.conftest import Rig
from tests.vm.delivered import (
    NETPLAN,
    SCRIPT,
    UUID,
    boot,
    delivered,
    drive,
    keys,
    leases,
    named,
    scripted,
)
from tests.vm.rig import MIB, Bus, Disk, Image, ImageSpec, State, build, make_filesystem, newest_deb


def test_two_drives_that_disagree(machine: Rig, platform: State, tmp_path: Path) -> None:
    """Neither is applied; once one is removed, the other is applied, without a boot."""
    one = drive(drives.make_iso(tmp_path / "1.iso", drives.openstack(UUID), "config-2"), id="one")
    content = drives.nocloud("nc-1", user_data=SCRIPT)
    two = drive(drives.make_vfat(tmp_path / "2.img", content, "cidata"), id="two", bus=Bus.SCSI)
    vm = delivered(machine.clone(platform), one, two)
    leases(vm)
    (failed,) = [item for item in sample.items(vm, "bootstrap") if item["outcome"] == "failed"]
    assert "/dev/sr0" in failed["detail"]
    assert "/dev/sda" in failed["detail"]
    assert "CONFIG_DATASOURCE" in failed["hint"]
    assert vm.output("gandi-agent status | sed -n 2p") == "instance: none yet"
    vm.remove_disk("one")
    vm.run("udevadm trigger --subsystem-match=block")
    vm.wait_until("hostname | grep -qx nc1", interval=0.5)
    scripted(vm)


def test_a_drive_that_comes_late_and_changes(machine: Rig, platform: State, tmp_path: Path) -> None:
    """On one machine: no drive, a late one, a changed one, another machine's, a loop device so labelled."""
    vm = machine.clone(platform)
    leases(vm)
    assert "no medium, nothing stored" in vm.output("gandi-agent status")

    def iso(number: int, **what: Any) -> Path:
        content = drives.nocloud(**({"id": "nc-1", "keys": (sample.KEY,), "user_data": SCRIPT} | what))
        return drives.make_iso(tmp_path / f"{number}.iso", content, "cidata")

    # Made on the machine: never read, and reported.
    vm.write_file("/root/evil.iso", iso(0, hostname="evil").read_bytes())
    vm.run("losetup --find /root/evil.iso")
    vm.wait_until(
        "journalctl -b -t gandi-agent | grep -q 'labelled cidata, but a virtual device'", interval=1
    )
    status = vm.output("gandi-agent status")
    assert re.search("loop0.*never read", status), status
    assert "\ninstance: none yet\n" in status
    vm.run("test $(hostname) != evil")

    vm.add_disk(drive(iso(1)))
    vm.wait_until("hostname | grep -qx nc1", interval=0.5)
    scripted(vm)
    assert keys(vm) == [sample.KEY]

    vm.change_medium("drive", iso(2, hostname="nc2", network=NETPLAN, keys=(sample.OTHER_KEY,)))
    vm.wait_until("hostname | grep -qx nc2", interval=0.5)
    vm.wait_until("ip -br addr | grep -q 192.168.1.5/24", interval=0.5)
    assert keys(vm) == [sample.OTHER_KEY]
    assert sample.order(vm) == ["user data"]

    vm.change_medium("drive", iso(3, id="nc-other", hostname="nc3"))
    vm.wait_until(f"grep -q 'waits for a boot' {sample.STATUS}", interval=0.5)
    assert "waits for a boot" in vm.output("gandi-agent status")
    vm.run("hostname | grep -qx nc2")

    vm.run("echo CONFIG_RELOAD=0 >> /etc/default/gandi")
    vm.change_medium("drive", iso(4, hostname="nc4", network=NETPLAN))
    vm.wait_until(f"grep -q CONFIG_RELOAD=0 {sample.STATUS}", interval=0.5)
    vm.run("hostname | grep -qx nc2")
    # The next boot.
    vm.run("systemctl restart gandi-bootstrap")
    named(vm, "nc4")


def test_a_drive_eight_seconds_after_power_on(machine: Rig, platform_image: Image, tmp_path: Path) -> None:
    """At any stage of the boot."""
    vm = machine.start(platform_image, sample.SPEC, wait=False)
    time.sleep(8)
    content = drives.nocloud("nc-1", user_data=SCRIPT)
    vm.add_disk(drive(drives.make_iso(tmp_path / "1.iso", content, "cidata"), bus=Bus.VIRTIO))
    vm.wait_ready()
    vm.wait_booted()
    vm.wait_until("hostname | grep -qx nc1")
    scripted(vm)


@pytest.mark.long
def test_cloud_init_in_the_image(machine: Rig, tmp_path: Path) -> None:
    """cloud-init configures the machine, the agent only its disks. It looks for its drive before any module
    is loaded; that of a disk is in the initrd.
    """
    image = build(ImageSpec(debs=(newest_deb(),), extra=("cloud-init",)))
    user_data = b"#cloud-config\nruncmd:\n  - echo by cloud-init >> /root/order\n"
    content = drives.nocloud("nc-1", "ci1", user_data=user_data, network=NETPLAN, keys=(sample.KEY,))
    iso = drives.make_iso(tmp_path / "d.iso", content, "cidata")
    vm = machine.start(image, sample.SPEC, disks=[drive(iso, bus=Bus.VIRTIO)])
    vm.wait_booted()
    named(vm, "ci1")
    vm.wait_until("test -s /root/order")
    assert sample.order(vm) == ["by cloud-init"]
    assert "left to cloud-init" in vm.output("gandi-agent status || true")
    assert vm.output("gandi-agent status | sed -n 2p") == "instance: none yet"
    assert vm.output("find /etc/systemd/network -name '*gandi*'") == ""
    data = make_filesystem(tmp_path / "data.img", 64 * MIB, "ext4", label="data")
    vm.add_disk(Disk(path=data, id="data"))
    vm.wait_until("mountpoint -q /srv/data", timeout=30)


#: The right of a user who is logged in on a desktop (org.freedesktop.udisks2.loop-setup, allow_active).
LOOPS_FOR_ALL = b"""polkit.addRule(function(action, subject) {
  if (action.id == "org.freedesktop.udisks2.loop-setup") return polkit.Result.YES;
});
"""


@pytest.mark.soak
def test_a_loop_device_that_a_user_makes_through_udisks(machine: Rig, tmp_path: Path) -> None:
    """A user without root's rights gives it a drive's label; it is not read, and that is reported."""
    vm = boot(machine, build(ImageSpec(debs=(newest_deb(),), extra=("python3-yaml", "udisks2", "polkitd"))))
    leases(vm)
    content = drives.nocloud("nc-1", "evil", keys=(sample.KEY,), user_data=SCRIPT)
    vm.write_file(
        "/var/tmp/evil.iso", drives.make_iso(tmp_path / "evil.iso", content, "cidata").read_bytes()
    )
    vm.write_file("/etc/polkit-1/rules.d/10-loops.rules", LOOPS_FOR_ALL)
    vm.run("chown nobody /var/tmp/evil.iso && chmod 644 /etc/polkit-1/rules.d/10-loops.rules")
    vm.run("systemctl restart polkit udisks2")
    vm.run("runuser -u nobody -- udisksctl loop-setup --no-user-interaction --file /var/tmp/evil.iso")
    vm.wait_until("gandi-agent status | grep -q 'loop0.*never read'")
    vm.run("test $(hostname) != evil")
    assert vm.output("gandi-agent status | sed -n 2p") == "instance: none yet"
