"""An upgrade from version 0.1.0, which kept its records of disks in other files (older_records.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm import layouts
from tests.vm.rig import MIB, Disk, Machine, Pending, Table, newest_deb
from tests.vm.rig.command import run

#: The files as the package 0.1.0 wrote them in a guest with the same disks. They have the device numbers and
#: attachments (diskseq) of that guest, which are those of this one.
OLDER = Path(__file__).parent / "records-0.1.0"
#: The disks in the order in which they are attached, by label: mounted, detached (its partition),
#: unmounted by hand, removed while in use, and one that 0.1.0 was killed while mounting.
KEPT, GIVEN, UNMOUNTED, REMOVED, BEGUN = LABELS = ("kept", "given", "unmounted", "removed", "begun")
#: One that is attached after the upgrade.
LATER = "later"
MOUNTS = "awk '$5 ~ \"^/srv/\" { print $1, $3, $5 }' /proc/self/mountinfo | sort -k 3"
#: The state of each after the upgrade, and until the next boot.
STATES = {
    KEPT: "mounted",
    GIVEN: "released",
    UNMOUNTED: "released",
    REMOVED: "gone",
    BEGUN: "mounted",
}


@pytest.mark.long
def test_each_disk_stays_as_it_was(booted: Machine, tmp_path: Path) -> None:
    """The package is installed over one that dpkg knows as 0.1.0, while the daemon is at rest; an event
    starts the new daemon.
    """
    vm = booted
    disks, users = prepare(vm, tmp_path)
    vm.add_disk(begun := _disk(tmp_path, BEGUN))
    vm.wait_until("mountpoint -q /srv/begun")
    vm.run("umount /srv/begun && test -d /srv/begun")
    before = vm.output(MOUNTS)
    assert before.endswith(" /srv/kept")
    vm.run("systemctl stop gandi-agent && rm -r /run/gandi/disks /run/gandi/coldplug")
    for file in OLDER.iterdir():
        vm.write_file(f"/run/gandi/{file.name}", file.read_bytes(), mode=0o600)
    found = vm.output("cd /sys/block && grep -H . vd[b-z]/dev vd[b-z]/diskseq").split()
    assert found == [
        *("vdb/dev:254:16", "vdc/dev:254:32", "vdd/dev:254:48", "vdf/dev:254:80"),
        *("vdb/diskseq:2", "vdc/diskseq:3", "vdd/diskseq:4", "vdf/diskseq:6"),
    ], "a guest with other devices than those in records-0.1.0"

    vm.write_file("/root/this.deb", newest_deb().read_bytes())
    vm.run(r"sed -i '/^Package: gandi-agent$/,/^$/s/^Version: .*/Version: 0.1.0/' /var/lib/dpkg/status")
    assert "over (0.1.0)" in vm.output("dpkg -i /root/this.deb", timeout=240)
    vm.run("! systemctl is-active gandi-agent && test -e /run/gandi/disks.json")
    vm.run("udevadm trigger --settle --subsystem-match=block")
    vm.wait_until("mountpoint -q /srv/begun && ! test -e /run/gandi/disks.json")
    _is_kept(vm, before)
    assert vm.output("ls /run/gandi | grep -E '^(disks|begun|gone|once|pending)'") == "disks"

    # Other events: all are enlarged, one is new.
    for label in (KEPT, GIVEN, UNMOUNTED, BEGUN):
        vm.resize_disk(label, 160 * MIB)
    vm.add_disk(later := _disk(tmp_path, LATER))
    size = "$(df --output=size -B1M /srv/{} | tail -1) -gt 120"
    grown = f"test {size.format(KEPT)} -a {size.format(BEGUN)}"
    vm.wait_until(f"{grown} && mountpoint -q /srv/{LATER}")
    _is_kept(vm, before)

    # The last user of the removed disk ends, and the daemon is another one.
    vm.run("pkill -fx 'sleep 3602'")
    vm.run("systemctl restart gandi-agent")
    vm.wait_until("! ls /run/gandi/disks | grep @")
    _is_kept(vm, before, removed=False)
    assert not users[0].done()
    assert vm.run("gandi-agent detach kept", check=False).rc == 1

    # Released disks come back as with any record: by name, and at the next boot.
    vm.run("gandi-agent mount given && mountpoint -q /srv/given && ! mountpoint -q /srv/unmounted")
    vm.cold_boot(disks=[*disks, begun, later])
    assert vm.wait_booted() == "running"
    mounted = {row["label"] for row in vm.json("gandi-agent disks --json") if row["state"] == "mounted"}
    assert mounted == {KEPT, GIVEN, UNMOUNTED, BEGUN, LATER}


def prepare(vm: Machine, folder: Path) -> tuple[list[Disk], tuple[Pending, Pending]]:
    """Attach all disks but the last and do what their names say; return those that stay, and the users of
    two. The files in records-0.1.0 come from a guest after this.
    """
    disks = [_disk(folder, label) for label in (KEPT, GIVEN, UNMOUNTED, REMOVED)]
    for number, disk in enumerate(disks):
        vm.add_disk(disk)
        vm.wait_until(f"test -e /sys/block/vd{'bcde'[number]}")  # the next one has the next name
    vm.wait_until("test $(grep -c ' /srv/' /proc/self/mountinfo) = 4")
    users = (
        vm.spawn("exec 7>/srv/kept/file; exec sleep 3601", timeout=3600),
        vm.spawn("cd /srv/removed && exec sleep 3602", timeout=3600),
    )
    vm.wait_until("pgrep -fx 'sleep 3601' && pgrep -fx 'sleep 3602'")
    vm.run("gandi-agent detach given && umount /srv/unmounted")
    vm.remove_disk(REMOVED)
    vm.wait_until("ls /run/gandi/disks | grep -q @")  # its record
    return disks[:-1], users


def _disk(folder: Path, label: str) -> Disk:
    """Make a disk with the UUID in the records."""
    table = Table.GPT if label == GIVEN else Table.NONE
    path = layouts.with_table(folder / f"{label}.img", table, "ext4", label)
    uuid = f"00000000-0000-4000-8000-{(*LABELS, LATER).index(label) + 1:012}"
    run(["tune2fs", "-U", uuid, f"{path}?offset={MIB}" if table is Table.GPT else path])
    return Disk(path=path, id=label)


def _is_kept(vm: Machine, before: str, *, removed: bool = True) -> None:
    """Check that each disk is as it was, and that what was mounted is the same mount."""
    rows = {row["label"]: row["state"] for row in vm.json("gandi-agent disks --json")}
    states = STATES if removed else {label: STATES[label] for label in STATES if label != REMOVED}
    assert {label: rows.get(label) for label in LABELS if label in states} == states
    assert before in vm.output(MOUNTS).split("\n")
    vm.run("! test -e /srv/given && ! mountpoint -q /srv/unmounted && ! test -e /srv/removed")
