"""An unprivileged user who attacks the agent in all ways, while disks are attached, grown and detached."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests import drives
from tests.vm import rogue, sample
from tests.vm.campaign import Rounds, dice
from tests.vm.conftest import Rig
from tests.vm.delivered import drive
from tests.vm.plugging import BOUND, Done, Plugged
from tests.vm.rig import MIB, GuestFile, ImageSpec, Machine, State, booted, build, newest_deb
from tests.vm.test_drives import LOOPS_FOR_ALL

USER = "rogue"
PROGRAM = "/usr/local/lib/rogue.py"
#: The data disk is the user's own, and cron and udisks run.
SPEC = ImageSpec(
    extra=("cron", "fuse3", "polkitd", "udisks2"),
    commands=(sample.KEEPS_KEYS, f"echo CONFIG_MOUNT_OWNER={USER}:{USER}:0755 >> /etc/default/gandi"),
    files=(
        GuestFile(PROGRAM, Path(rogue.__file__).read_bytes(), mode=0o755),
        GuestFile("/etc/polkit-1/rules.d/10-loops.rules", LOOPS_FOR_ALL),
    ),
)
#: Seconds of attacks in ``make soak``. Otherwise a round is one of attach, grow, detach, and a delivery.
SOAK_SECONDS = 600
#: Lists all files with mode, owner and content, except the user's, those that the system writes, and those
#: that the agent has to write. Times are left out: a file may be written again with the same content.
CANARY = r"""
cd /; { find etc usr/local root opt srv var/lib boot home -xdev \
    ! -path 'home/rogue/*' ! -path 'srv/data/*' ! -path srv/data ! -path 'var/lib/systemd/*' \
    ! -path 'var/lib/gandi/*' ! -path 'var/lib/udisks2/*' ! -path 'var/lib/private/*' \
    -printf '%p %y %m %U:%G %l\n'
find etc usr/local root -xdev -type f ! -path etc/passwd ! -path etc/passwd- -exec sha256sum {} +
grep -v ^rogue: /etc/passwd; } | LC_ALL=C sort
"""
#: Finds the user's files where none may be. find fails on a FUSE filesystem that is closed to root.
STRAY = (
    "find / /run -xdev -user rogue ! -path '/home/rogue*' ! -path '/srv/data*' ! -path '/tmp/*'"
    " ! -path '/proc/*' ! -path '/var/tmp/*' ! -path '/var/spool/cron/*' ! -path '/var/mail/*'"
    " ! -path '/dev/shm/*' ! -path '/run/lock/*' ! -path '/run/user/*'"
    " ! -path '/var/spool/mail/*' 2>/dev/null; true"
)


class Deliveries:
    """The platform's deliveries for the user's account: another key and another file each time."""

    def __init__(self, vm: Machine, folder: Path) -> None:
        self._vm, self._folder, self.number = vm, folder, 0

    def next(self) -> None:
        self.number += 1
        document = {
            "id": "unprivileged",
            "hostname": "vm1",
            "users": [{"name": USER, "keys": [self.key]}],
            "files": [
                {"path": f"/home/{USER}/app/config", "content": f"{self.number}\n", "owner": USER},
            ],
        }
        path = drives.make_iso(self._folder / f"{self.number}.iso", drives.native(document), "gandi")
        if self.number == 1:
            self._vm.add_disk(drive(path))
        else:
            self._vm.change_medium("drive", path)

    @property
    def key(self) -> str:
        return sample.public_key(self.number % 200, f"key{self.number}@platform")


def is_right(disk: Plugged) -> None:
    """Check as Plugged.is_right, without writing root's file to the user's disk."""
    at = "/srv/data"
    right = f"! mountpoint -q {at} && ! test -e {at}"
    if disk.last is not Done.DETACH:
        least = disk.size // MIB * 8 // 10
        right = f"mountpoint -q {at} && test $(df --output=size -B1M {at} | tail -1) -gt {least}"
    disk.vm.wait_until(right, timeout=BOUND, interval=0.5)


#: The administrator's commands at that time, and the stages that they start again.
QUESTIONS = ("gandi-agent disks", "gandi-agent status", "gandi-agent plan", "gandi-agent resources")
STAGES = ("gandi-bootstrap", "gandi-mount", "gandi-config")


def bounded(vm: Machine, line: str) -> None:
    """Run a command as root; check that it ends in time and without an exception, with any exit status."""
    done = vm.run(line, timeout=60, check=False)
    assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr


def state() -> State:
    """Return the state of the machine after a boot without a medium."""
    return booted(build(replace(SPEC, debs=(newest_deb(),))), sample.SPEC)


def is_unharmed(vm: Machine, before: str) -> None:
    """Check that none of the user's programs was run as root, and none but their own files was written."""
    assert not vm.run(f"cat {rogue.MARK}", check=False).stdout
    after = vm.output(CANARY)
    changed = set(before.split("\n")) ^ set(after.split("\n"))
    assert not changed, "\n".join(sorted(changed))
    assert vm.output(STRAY) == ""
    journal = vm.journal("gandi-agent")
    assert "unexpected" not in journal
    assert "Traceback" not in journal


def still_works(vm: Machine, disk: Plugged, deliveries: Deliveries) -> None:
    """Check that, after the attacks, deliveries are applied and the disk is handled."""
    vm.run(f"umount -q -l -- $(findmnt -rno TARGET -t fuse | grep {USER}) || true")
    vm.run(
        f"cd /home/{USER} && rm -rf .ssh app .ssh-link app-link; systemctl restart gandi-bootstrap || true"
    )
    deliveries.next()
    home = f"/home/{USER}"
    vm.wait_until(f"grep -q key{deliveries.number}@ {home}/.ssh/authorized_keys", timeout=60)
    assert vm.output(f"stat -c '%U %a' {home}/.ssh {home}/.ssh/authorized_keys") == "rogue 700\nrogue 600"
    for _ in range(3):
        disk.next()
        is_right(disk)


@pytest.mark.long
def test_an_unprivileged_user_stops_nothing_and_writes_nothing(
    machine: Rig, tmp_path: Path, rounds: Rounds
) -> None:
    chance = dice("unprivileged")
    vm = machine.clone(state())
    disk, deliveries = Plugged(vm, tmp_path, "data"), Deliveries(vm, tmp_path)
    deliveries.next()
    vm.wait_until(f"grep -q key1@ /home/{USER}/.ssh/authorized_keys", timeout=60)
    vm.run(f"echo {USER}:rogue-password | chpasswd; systemctl restart {' '.join(STAGES)}")
    before = vm.output(CANARY)
    tries = vm.spawn(
        f"exec runuser -u {USER} -- env -C /home/{USER} HOME=/home/{USER} python3 -sE {PROGRAM}"
        f" {chance.getrandbits(32)} /srv/data",
        timeout=2 * SOAK_SECONDS,
    )
    until = time.monotonic() + SOAK_SECONDS
    for number in rounds(3, 10_000):
        if time.monotonic() > until:
            break
        for done in (disk.next(), disk.next(), disk.next()):
            print(f"round {number}: {done}")
            is_right(disk)
            bounded(vm, chance.choice(QUESTIONS))
        deliveries.next()
        # The step that finds a link in place of the user's folder fails and reports it: not a failure here.
        bounded(vm, f"systemctl restart {chance.choice(STAGES)}")
    vm.run(f"pkill -TERM -u {USER} -f {PROGRAM}")
    print(tries.result().stdout)
    vm.run(f"crontab -r -u {USER}; pkill -KILL -u {USER}; true")
    is_unharmed(vm, before)
    still_works(vm, disk, deliveries)
    is_unharmed(vm, before)
