"""Hooks, owners, formats and checks of disks: two machines with several disks each."""

from __future__ import annotations

from pathlib import Path

from tests.vm.rig import MIB, Bus, Disk, Machine, make_disk, make_filesystem, make_table, put
from tests.vm.rig.command import run

#: A hook that records how it was called.
NOTE = """#!/bin/sh
echo "{name} $* | $ACTION $DEVNAME ${{ID_SERIAL:-none}} ${{ID_FS_TYPE:-none}}" >> /root/hooks
echo "{name} speaks"
"""
HOOKS = ("post-disk-attach", "post-disk-grow", "pre-disk-detach", "post-disk-detach")


def test_hooks_are_told_and_bounded_and_never_fatal(booted: Machine, tmp_path: Path) -> None:
    for name in HOOKS:
        booted.write_file(f"/etc/gandi/hooks/{name}", NOTE.format(name=name), mode=0o755)
    tree = tmp_path / "tree"
    (tree / ".gandi").mkdir(parents=True)
    (tree / ".gandi/services").write_text("database\nsshd\nsystemd-logind\n../evil\n")
    path = make_filesystem(tmp_path / "a.img", 64 * MIB, "ext4", label="a", tree=tree)
    booted.add_disk(Disk(path=path, id="a", serial="SER-A"))
    booted.wait_until("grep -q post-disk-attach /root/hooks")
    node = booted.output("findmnt -no SOURCE /srv/a")
    record = booted.json(f"cat /run/gandi/disks/{node.removeprefix('/dev/')}.json")
    assert record["services"] == ["database.service"]
    booted.resize_disk("a", 128 * MIB)
    booted.wait_until("grep -q post-disk-grow /root/hooks")
    booted.remove_disk("a")
    booted.wait_until("grep -q post-disk-detach /root/hooks && ! test -e /srv/a")
    assert booted.output("cat /root/hooks").splitlines() == [
        f"post-disk-attach {node} ext4 /srv/a | add {node} SER-A ext4",
        f"post-disk-grow {node} /srv/a | change {node} SER-A ext4",
        f"pre-disk-detach {node} /srv/a | remove {node} none none",
        f"post-disk-detach {node} /srv/a | remove {node} none none",
    ]
    assert "post-disk-attach speaks" in booted.output("journalctl -b -t post-disk-attach -o cat")
    assert "gandi-agent.service" not in booted.output("journalctl -b -t post-disk-attach -o json")

    booted.write_file("/etc/gandi/hooks/post-disk-attach", "echo no interpreter $1 >> /root/hooks; exit 3\n")
    booted.run("chmod 755 /etc/gandi/hooks/post-disk-attach")
    booted.add_disk(Disk(path=path, id="a", serial="SER-A"))
    booted.wait_until("grep -q 'no interpreter' /root/hooks && mountpoint -q /srv/a")
    booted.wait_until("gandi-agent status | grep -q post-disk-attach", interval=1)
    booted.run("chmod 777 /etc/gandi/hooks/post-disk-attach")
    other = make_filesystem(tmp_path / "b.img", 64 * MIB, "vfat", label="B")
    booted.write_file("/etc/default/gandi", "CONFIG_MOUNT_OWNER=root:users:0775\n")
    booted.add_disk(Disk(path=other, id="b"))
    booted.wait_until(
        "mountpoint -q /srv/B && gandi-agent status | grep -q 'written by others than root'", interval=1
    )
    assert booted.output("grep -c 'no interpreter' /root/hooks") == "1"
    booted.run("touch /srv/B/file")
    assert booted.output("stat -c '%U:%G:%a' /srv/B /srv/B/file").split() == [
        "root:users:775",
        "root:users:664",
    ]


def test_what_is_new_and_blank_is_formatted_and_a_check_that_hangs_delays_nobody(
    booted: Machine, tmp_path: Path
) -> None:
    vm = booted
    vm.write_file("/etc/default/gandi", "CONFIG_DISK_FORMAT=ext4\n")
    dirty = put(make_disk(tmp_path / "dirty.img", 64 * MIB), 64 * MIB - 1, b"x")
    table = make_table(make_disk(tmp_path / "table.img", 64 * MIB), "label: gpt\nsize=20M\n")
    given = {"dirty": dirty, "table": table, "blank": make_disk(tmp_path / "blank.img", 64 * MIB)}
    for name, path in given.items():
        vm.add_disk(Disk(path=path, id=name, bus=Bus.SCSI, serial=name))
    vm.wait_until("findmnt -rno TARGET | grep -q ^/srv/")
    blank = vm.output("lsblk -dno NAME,SERIAL | grep 'blank$'").split()[0]
    assert vm.output("findmnt -rno TARGET,FSTYPE | grep ^/srv/") == f"/srv/{blank} ext4"

    # A disk wiped by hand stays so, also after udevadm trigger.
    vm.run(
        f"umount /srv/{blank} && wipefs -qa /dev/{blank} && dd if=/dev/zero of=/dev/{blank} bs=1M count=9"
    )
    vm.run("udevadm trigger --action=add --settle && udevadm trigger --settle")
    vm.run("systemctl restart gandi-agent.service gandi-mount.service")
    vm.run("udevadm settle; sleep 2; udevadm settle")
    for name in given:
        node = "/dev/" + vm.output(f"lsblk -dno NAME,SERIAL | grep ' {name}$'").split()[0]
        assert vm.output(f"blkid -p -o value -s TYPE {node} || true") == "", name
        assert vm.output(f"lsblk -no FSTYPE {node}") == "", name

    # A check that hangs: the others are mounted, and the status names what is waited for.
    vm.run("cp -L /usr/sbin/fsck.ext4 /root/e2fsck")
    slow = '#!/bin/sh\nwhile ! test -e /root/go; do sleep 0.2; done\nexec /root/e2fsck "$@"\n'
    vm.write_file("/root/slow", slow, mode=0o755)
    vm.run("mount --bind /root/slow $(realpath /usr/sbin/fsck.ext4)")
    asks = make_filesystem(tmp_path / "asks.img", 64 * MIB, "ext4", label="asks")
    run(["tune2fs", "-c", "1", "-C", "5", asks])
    vm.add_disk(Disk(path=asks, id="asks"))
    vm.wait_until("systemctl is-active -q 'gandi-fsck-*' || systemctl list-units | grep -q gandi-fsck")
    quick = make_filesystem(tmp_path / "quick.img", 64 * MIB, "ext4", label="quick")
    vm.add_disk(Disk(path=quick, id="quick"))
    vm.wait_until("mountpoint -q /srv/quick", timeout=30)
    vm.run("! mountpoint -q /srv/asks")
    assert "the check of" in vm.output("gandi-agent status")
    vm.run("touch /root/go")
    vm.wait_until("mountpoint -q /srv/asks")
    # And one that fails.
    vm.write_file("/root/slow", "#!/bin/sh\nexit 4\n", mode=0o755)
    broken = make_filesystem(tmp_path / "broken.img", 64 * MIB, "ext4", label="broken")
    run(["tune2fs", "-c", "1", "-C", "5", broken])
    vm.add_disk(Disk(path=broken, id="broken"))
    vm.wait_until("gandi-agent status | grep -q 'needs a check by hand'", interval=1)
    vm.run("! mountpoint -q /srv/broken && ! test -e /srv/broken")
