"""The administrator's work in a real guest: disks detached and mounted again by the agent's verbs, disks
changed by hand, and disks removed while they are in use.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.vm import sample
from tests.vm.campaign import Rounds, dice
from tests.vm.rig import GIB, MIB, Disk, Machine, make_disk, make_filesystem

HOOK = '#!/bin/sh\necho "$0 $* $ACTION $DEVNAME" >> /root/hooks\n'
#: A service that uses the disk and declares it (RequiresMountsFor=).
SERVICE = """[Unit]
RequiresMountsFor=/srv/data
[Service]
ExecStart=/bin/sh -c 'exec sleep 1000 > /srv/data/log'
"""


def attach(vm: Machine, tmp_path: Path, name: str = "data", fs: str = "ext4") -> None:
    path = make_filesystem(tmp_path / f"{name}.img", 512 * MIB, fs, label=name)
    vm.add_disk(Disk(path=path, id=name))
    vm.wait_until(f"mountpoint -q /srv/{name}")


def released(vm: Machine, name: str = "data") -> None:
    """Check that it is not mounted, and that neither an event nor a restarted daemon mounts it."""
    vm.run("udevadm trigger --settle --subsystem-match=block; systemctl reload-or-restart gandi-agent")
    vm.wait_until("gandi-agent disks | grep -q 'released by the administrator'", interval=1)
    vm.run("udevadm trigger --settle --subsystem-match=block; systemctl restart gandi-agent")
    vm.run("udevadm settle; sleep 2")
    vm.run(f"! mountpoint -q /srv/{name} && ! test -e /srv/{name}")


def test_a_disk_is_given_up_and_taken_back(booted: Machine, tmp_path: Path) -> None:
    vm = booted
    for hook in ("pre-disk-detach", "post-disk-detach"):
        vm.write_file(f"/etc/gandi/hooks/{hook}", HOOK, mode=0o755)
    attach(vm, tmp_path)
    holder = vm.spawn("cd /srv/data && exec sleep 300", timeout=300)
    vm.wait_until("pgrep -x sleep")
    refused = vm.run("gandi-agent detach data", check=False)
    assert refused.rc == 1
    assert f"sleep ({vm.output('pgrep -x sleep')}): /srv/data" in refused.stdout
    vm.run("mountpoint -q /srv/data; pkill -x sleep")
    holder.result()
    vm.run("rm -f /root/hooks")
    vm.run("gandi-agent detach /srv/data")
    node = vm.output("gandi-agent disks | awk '/released/ { print \"/dev/\" $1 }'")
    lines = vm.read_file("/root/hooks").decode().splitlines()
    assert [line.split()[1:] for line in lines] == [[node, "/srv/data", "remove", node]] * 2
    assert [Path(line.split()[0]).name for line in lines] == ["pre-disk-detach", "post-disk-detach"]
    released(vm)
    for back in (
        "gandi-agent mount data",
        f"udevadm trigger --action=add --name-match={node}",
        "systemctl restart gandi-mount",
    ):
        vm.run(back)
        vm.wait_until("mountpoint -q /srv/data")
        vm.run(f"gandi-agent detach {node}")
    # Without the daemon.
    vm.run("systemctl stop gandi-agent.socket gandi-agent-uevent.socket gandi-agent")
    vm.run("gandi-agent mount data && mountpoint -q /srv/data && gandi-agent detach data")
    vm.run("! mountpoint -q /srv/data; systemctl start gandi-agent.socket gandi-agent")
    vm.remove_disk("data")
    vm.wait_until(f"! test -e {node}")
    vm.add_disk(Disk(path=tmp_path / "data.img", id="again"))
    vm.wait_until("mountpoint -q /srv/data")
    assert vm.output("systemctl is-system-running") == "running"


def test_services_of_a_disk_are_stopped_and_started_again_when_it_stays(
    booted: Machine, tmp_path: Path
) -> None:
    vm = booted
    attach(vm, tmp_path)
    start, needs = "[Service]\nExecStart=/bin/sh -c '", "[Unit]\nRequiresMountsFor=/srv/data/x\n"
    for name, text in {
        "user": SERVICE,
        "other": f"{start}exec sleep 1000'\n",
        "idle": f"{needs}{start}exec sleep 1000'\n",
        # As with cron: a user's job comes from a login session, but is in cron's control group.
        "jobs": f"{needs}{start}echo 0 >/proc/self/loginuid; exec sleep 1000 >/srv/data/job'\n",
        "writer": f"{start}exec sleep 1000 >/srv/data/writer'\n",
    }.items():
        vm.write_file(f"/etc/systemd/system/{name}.service", text)
    named = ("user", "other", "idle", "jobs", "writer", "ssh", "../evil", "systemd-journald")
    vm.write_file("/srv/data/.gandi/services", "".join(f"{name}\n" for name in named))
    vm.run("systemctl daemon-reload; systemctl start user other")
    # While a service that requires it runs, PID 1 keeps the mount's unit, which must not be in the way.
    vm.run(
        "systemctl stop user && systemctl start idle && gandi-agent detach data && systemctl is-active idle"
    )
    vm.run("gandi-agent mount data && mountpoint -q /srv/data && systemctl start user idle")
    holder = vm.spawn("exec sleep 333 < /srv/data/log", timeout=400)
    vm.wait_until("pgrep -fx 'sleep 333'")
    refused = vm.run("gandi-agent detach data", check=False)
    assert refused.rc == 1
    assert "user.service: stopped" in refused.stdout
    assert not re.search("other|idle", refused.stdout)
    vm.run("systemctl is-active user other idle && pkill -fx 'sleep 333'")
    holder.result()
    # One that uses the disk without declaring it, and one that declares it and uses it for a user.
    for name in ("writer", "jobs"):
        vm.run(f"systemctl stop idle; systemctl start {name}")
        refused = vm.run("gandi-agent detach data", check=False)
        assert refused.rc == 1, name
        assert f"{name}.service" not in refused.stdout
        vm.run(f"systemctl is-active {name} && systemctl stop {name}")
    vm.run(
        "gandi-agent detach data && systemctl is-active other systemd-journald && ! systemctl is-active user"
    )
    vm.run("! mountpoint -q /srv/data")


def test_umount_mkfs_and_mount_elsewhere_are_never_interfered_with(
    booted: Machine, tmp_path: Path, rounds: Rounds
) -> None:
    """udev emits a change event each time a program closes a disk that it opened for writing."""
    vm, chance = booted, dice("administrator")
    attach(vm, tmp_path)
    node = vm.output("findmnt -no SOURCE /srv/data")
    vm.run("mkdir /mnt/elsewhere")
    for number in rounds(10, 50):
        delays = [f"sleep {chance.choice((0, 0, 0.05, 0.2, 0.7, 1.5)):g}" for _ in range(5)]
        way = chance.choice(("mkfs", "mkfs", "check", "table"))
        work = {
            "mkfs": [f"mkfs.{chance.choice(('ext4 -F', 'ext4 -F', 'vfat -I --mbr=n'))} {node}"],
            "check": [f"mkfs.ext4 -qF {node}", f"e2fsck -fp {node}", f"tune2fs -L round{number} {node}"],
            "table": [
                f"wipefs -a {node}",
                f"echo 'label: gpt\n,100M\n,100M' | sfdisk {node}",
                f"udevadm settle; mkfs.ext4 -qF {node}2",
                f"udevadm settle; wipefs -a {node}2 {node}",
                f"udevadm settle; mkfs.ext4 -qF {node}",
            ],
        }[way]
        steps = [f"umount {node}", *work, f"mount {node} /mnt/elsewhere", f"umount {node}"]
        spread = [step for index, step in enumerate(steps) for step in (step, delays[index % len(delays)])]
        done = vm.run("set -ex\n" + "\n".join(spread), check=False, timeout=120)
        assert done.rc == 0, f"round {number} ({way}): {done.stderr}"
        assert "busy" not in done.stderr.lower()
        vm.run(
            "udevadm settle; ! grep ' /srv/' /proc/mounts && "
            "gandi-agent disks | grep -q 'released by the administrator'"
        )
        if number % 2:
            vm.run(f"gandi-agent mount {node}")
        else:
            vm.run(f"udevadm trigger --action=add --name-match={node}")
        vm.wait_until(f"grep -q '^{node} /srv/' /proc/mounts", interval=0.5)


@pytest.mark.parametrize("fs", ["ext4"])
def test_disks_taken_from_under_somebody(booted: Machine, tmp_path: Path, fs: str) -> None:
    """No mount and no mountpoint remain, processes that use the disk are named; lost swap is critical. The
    mounts that the administrator made elsewhere end as the agent's own do.
    """
    vm = booted
    for name in ("one", "two", "three"):
        attach(vm, tmp_path, name, fs)
    vm.add_disk(Disk(path=make_disk(tmp_path / "swap.img", GIB), id="swap"))
    vm.run("echo x > /srv/two/file")
    node = vm.output("findmnt -no SOURCE /srv/three")
    vm.run(
        f"mkdir -p /mnt/mine /mnt/sub /srv/three/sub; umount {node} && mount {node} /mnt/mine && "
        "mount --bind /mnt/mine/sub /mnt/sub"
    )
    holders = [
        vm.spawn("cd /srv/one && exec sleep 1001", timeout=900),
        vm.spawn("exec sleep 1002 < /srv/two/file", timeout=900),
        vm.spawn("cd /mnt/sub && exec sleep 1003", timeout=900),
    ]
    vm.wait_until("pgrep -fx 'sleep 1001' && pgrep -fx 'sleep 1002' && pgrep -fx 'sleep 1003'")
    blank = vm.output("lsblk -dnbo NAME,SIZE | awk '$2 == 1073741824 { print $1 }'")
    vm.run(f"mkswap /dev/{blank} && swapon /dev/{blank}")
    for name in ("one", "two", "three", "swap"):
        vm.remove_disk(name)
    vm.wait_until('! findmnt -rno TARGET | grep -E "^/(srv|mnt)/" && test -z "$(ls -A /srv)"')
    vm.wait_until("journalctl -b -t gandi-agent | grep -q 'gone, was mounted at /mnt/mine; /mnt/sub$'")
    used = {
        at: vm.output(f"pgrep -fx 'sleep {number}'")
        for number, at in ((1001, "/srv/one"), (1002, "/srv/two"), (1003, "/mnt/mine"))
    }
    for at, pid in used.items():
        vm.wait_until(f"grep -q 'while in use at {at}: .*sleep ({pid})' {sample.STATUS}")
    status, disks = vm.run("gandi-agent status", check=False).stdout, vm.output("gandi-agent disks")
    for at, pid in used.items():
        assert re.search(rf"while in use at {at}: .*sleep \({pid}\)", status), status
        assert re.search(rf"gone .*{at} .*sleep \({pid}\)", disks), disks
    assert "CRITICAL: removed while it was in use as swap" in status
    assert [row["state"] for row in vm.json("gandi-agent disks --json")].count("gone") == 3
    vm.run("systemctl restart gandi-agent && udevadm settle")
    vm.wait_until("test \"$( (gandi-agent status || true) | grep -c 'while in use at')\" = 3", interval=1)
    assert vm.output("gandi-agent resources | awk '{ print $1 }' | sort -u").split() == [
        "CPU",
        "KIND",
        "NIC",
        "disk",
        "memory",
    ]
    vm.run("pkill sleep")
    for holder in holders:
        holder.result()
    vm.wait_until("! gandi-agent disks | grep gone", interval=1)
    assert not vm.output("pgrep -af 'gandi-(grow|fsck|umount)' || true"), "no stuck process of the agent"
