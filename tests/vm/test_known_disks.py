"""Data disks that PID 1 mounts in a boot with nothing new, and how the daemon handles their units."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.vm.rig import MIB, Disk, Machine, make_filesystem

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 300 * MIB
UNITS = "/etc/systemd/system"
#: Replaces gandi-check, which has its own tests: what that does when nothing is new.
CHECK = f"""[Unit]
DefaultDependencies=no
After=local-fs.target systemd-udevd.service systemd-udev-trigger.service
Before=gandi-bootstrap.service gandi-mount.service gandi-config.service gandi-postboot.service basic.target
ConditionPathExists={UNITS}/settled
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=udevadm settle --timeout=60
ExecStart=/bin/sh -c 'mkdir -p /run/gandi; >/run/gandi/settled'
ExecStart=systemctl --no-block start gandi-disks.target
[Install]
WantedBy=multi-user.target
"""
#: Replaces the limit, which test_hanging_disks shows: on a slow host three mounts may take longer.
NO_HURRY = "[Unit]\nJobTimeoutSec=300s\n"
SKIPPED = "[Unit]\nConditionPathExists=!/run/gandi/settled\n"
#: An administrator's service that needs a disk, however late it appears.
NEEDS = """[Unit]
RequiresMountsFor=/srv/a
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'findmnt -no OPTIONS /srv/a >/run/seen'
[Install]
WantedBy=multi-user.target
"""
#: For each of its arguments, which are added to the settings in turn: prints how many disks are left to
#: PID 1, and how many units there are.
LEAVE = f"""
import sys
from pathlib import Path
sys.path.insert(0, "/usr/lib/gandi-agent")
from agent.context import context
from agent.host.host import Host
from agent.disks import known_mounts
for more in sys.argv[1:]:
    with open("/etc/default/gandi", "a") as settings:
        settings.write(more)
    uuids = known_mounts.write_units(context(Host()))
    print(len(uuids), sum("gandi-agent" in unit.read_text() for unit in Path("{UNITS}").glob("*.mount")))
"""


def _leave(vm: Machine, *settings: str) -> list[str]:
    """Leave the disks to PID 1, as the daemon does when a boot is complete, with each of these settings in
    turn; return the numbers of disks and units.
    """
    return vm.output(["python3", "-c", LEAVE, *(settings or ("",))]).splitlines()


def _left(vm: Machine) -> list[str]:
    return vm.output(f"cd {UNITS}; grep -l gandi-agent *.mount; true").split()


def _mounted(vm: Machine) -> set[str]:
    return set(vm.output("findmnt -rno TARGET | grep ^/srv/; true").split())


def test_pid_1_mounts_what_is_known_and_the_daemon_what_is_not(booted: Machine, tmp_path: Path) -> None:
    vm = booted
    disks = [
        Disk(path=make_filesystem(tmp_path / f"{name}.img", SIZE, "ext4", label=name), id=name, serial=name)
        for name in "abc"
    ]
    for disk in disks:
        vm.add_disk(disk)
    vm.wait_until("test $(findmnt -rno TARGET | grep -c ^/srv/) = 3")
    vm.write_file(f"{UNITS}/gandi-check.service", CHECK)
    vm.write_file(f"{UNITS}/needs.service", NEEDS)
    for unit in ("gandi-bootstrap", "gandi-mount", "gandi-config", "gandi-postboot", "gandi-agent"):
        vm.write_file(f"{UNITS}/{unit}.service.d/skipped.conf", SKIPPED)
    vm.write_file(f"{UNITS}/gandi-disks.target.d/no-hurry.conf", NO_HURRY)
    vm.run("systemctl --no-reload enable gandi-check needs")
    vm.run("rm /etc/systemd/system/multi-user.target.wants/gandi-agent.service; true")
    assert _leave(vm) == ["3 3"]
    assert _left(vm) == ["srv-a.mount", "srv-b.mount", "srv-c.mount"]

    # With nothing new, PID 1 mounts them before the services start.
    vm.run(f"touch {UNITS}/settled")
    vm.cold_boot(disks=disks)
    vm.wait_booted()
    assert _mounted(vm) == {"/srv/a", "/srv/b", "/srv/c"}
    assert vm.output("systemctl is-active gandi-disks.target srv-a.mount needs").split() == ["active"] * 3
    assert {"nosuid", "nodev", "noatime"} <= set(vm.read_file("/run/seen").decode().strip().split(","))
    vm.run("! test -e /run/gandi/status.json")  # no stage has run
    shown = vm.output("systemctl show -P LazyUnmount -P FragmentPath srv-a.mount").split()
    assert shown == ["yes", f"{UNITS}/srv-a.mount"]

    # The daemon is started, takes them over, and detaches one and mounts it again.
    vm.run(f"rm {UNITS}/settled /run/gandi/settled && systemctl start gandi-agent")
    vm.run("udevadm trigger --subsystem-match=block --settle")
    vm.wait_until("grep -qr srv/a /run/gandi/disks && grep -qr srv/c /run/gandi/disks", timeout=60)
    vm.run("gandi-agent detach /srv/c")
    assert "/srv/c" not in _mounted(vm)
    vm.run("gandi-agent mount c")
    assert _mounted(vm) == {"/srv/a", "/srv/b", "/srv/c"}
    assert _left(vm) == ["srv-a.mount", "srv-b.mount"]
    assert _leave(vm) == ["3 3"]

    # A boot that differs from the last one: other options, a new filesystem on a disk, a disk less.
    vm.run("echo 'CONFIG_MOUNT_PARAMS=rw,nosuid,nodev,noatime,noexec' >> /etc/default/gandi")
    device = vm.output("findmnt -no SOURCE /srv/b")
    vm.run("gandi-agent detach /srv/b && gandi-agent detach /srv/c")
    vm.run(f"mkfs.xfs -qf -L b {device}")
    vm.cold_boot(disks=disks[:2])
    assert vm.wait_booted() == "running", vm.output("systemctl --failed --no-legend")
    assert _mounted(vm) == {"/srv/a", "/srv/b"}
    assert vm.output("findmnt -rno FSTYPE /srv/a /srv/b; findmnt -rno FSTYPE /srv/b").split()[-1] == "xfs"
    assert "noexec" in vm.output("findmnt -rno OPTIONS /srv/a")
    assert "noexec" in vm.read_file("/run/seen").decode(), "it was there before the service"
    assert _leave(vm) == ["2 2"]
    assert _left(vm) == ["srv-a.mount", "srv-b.mount"], "that of the disk that has gone has gone"
    assert "Options=rw,nosuid,nodev,noatime,noexec\n" in vm.read_file(f"{UNITS}/srv-a.mount").decode()

    # Other modes have no such units, and clean leaves none in an image.
    settings = ("MOUNT_MODE=autofs", "MOUNT_MODE=direct", "ALLOW_MOUNT=0", "ALLOW_MOUNT=1")
    assert _leave(vm, *(f"CONFIG_{one}\n" for one in settings)) == ["0 0", "2 2", "0 0", "2 2"]
    vm.run("gandi-agent clean")
    assert _left(vm) == []
