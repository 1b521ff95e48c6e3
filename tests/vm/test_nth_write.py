"""From the nth write of a first boot, an attach or a growth on, writes fail: what failed is named, nothing
that was delivered is lost, and once the fault is over the machine is as delivered.

A disk answers with EIO by QEMU's blkdebug, which counts the writes (`Devices.break_disk`). A filesystem
without room has k blocks and inodes left when the work begins. n and k are chosen over what the same work
takes without a fault, which is measured first, in this run.

Rejected: dm-flakey and dm-error change by time or by place on the disk, and a table that is loaded by a
program of the guest cannot be at a write; ENOSPC from a disk (werror=enospc) stops the machine, and ext4
makes EIO of it, so that only a filesystem gives it to a program; a single write that fails and later ones
that succeed, as the kernel tells no one of a block that it wrote back on its own, and the test would be of
ext4; a quota, which a first boot of Debian does not have.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from tests.vm import sample
from tests.vm.campaign import Rounds, dice
from tests.vm.conftest import Rig
from tests.vm.delivered import STAGES, delivered
from tests.vm.outcome import ends_right, is_named, is_set_up, no_defect, nothing_left
from tests.vm.plugging import Plugged
from tests.vm.rig import MIB, Disk, GuestError, Machine, State, make_disk, put
from tests.vm.rig.qemu import ROOT_ID
from tests.vm.rig.slots import Slot
from tests.vm.trouble import TROUBLES, WRITES, Trouble

#: Bytes of which no program makes anything, on a disk of its own, and a file of the data disk.
FOREIGN, KEPT = bytes(range(1, 256)) * 256, bytes(range(256)) * 4096
EIO = "Input/output error|Read-only file system"
#: What the channel says of a program that the kernel could not read.
NOT_STARTED = f"OSError: [Errno {errno.EIO}]"
#: Seconds in which the machine answers, whatever has failed.
ANSWERS = 30
AGAIN, LOOK = f"systemctl restart {STAGES}", "udevadm trigger --settle"
SPACES = {trouble.name: trouble for trouble in TROUBLES if trouble.place}
#: Those of a filesystem in memory that is put over a part of the root, and is not there at the next boot.
VOLATILE = {name for name, trouble in SPACES.items() if trouble.before != "true"}
#: Commands that print what is in use of what each of them takes away: blocks of 4 KiB, or inodes. The
#: journal is left out: it takes thousands of blocks at a time, and does without.
USED = {
    "full disk": "du -xcs -B4k --exclude=/var/log /etc /home /root /srv /var | tail -1 | cut -f1",
    "no inodes": "df --output=iused / | tail -1",
    "full run": "df --output=used -B4k /run | tail -1",
    "full var": "du -xs -B4k --exclude=/var/log /var | cut -f1",
}


class Phase(StrEnum):
    """The work during which the fault begins."""

    FIRST_BOOT = "first boot"
    ATTACH = "attach"
    GROW = "growth"


@dataclass(frozen=True)
class Fault:
    """Where, and after how many writes, blocks or inodes. ``boots``: it is over at the next boot, else while
    the machine runs.
    """

    where: str
    after: int
    boots: bool

    @property
    def room(self) -> Trouble | None:
        """Return the condition of a filesystem; None for one of a disk."""
        return SPACES[self.where].leaving(self.after) if self.where in SPACES else None

    def __str__(self) -> str:
        unit = "files" if self.where in SPACES else "writes"
        return f"{self.where} after {self.after} {unit}, over {'at a boot' if self.boots else 'at once'}"


class Work:
    """A machine with the disks of a round."""

    def __init__(self, vm: Machine, folder: Path) -> None:
        self.vm = vm
        (tree := folder / "tree").mkdir(parents=True)
        (tree / "kept").write_bytes(KEPT)
        self.data = Plugged(vm, folder, "data", tree=tree)
        (folder / "media").mkdir()
        self.swap = sample.swap_disk(folder / "media", script=sample.SHORT_SCRIPT)
        self.foreign = Disk(path=put(make_disk(folder / "foreign", 16 * MIB), 0, FOREIGN), id="foreign")

    def prepare(self, phase: Phase, fault: Fault | None) -> None:
        """Bring the machine to the moment before the work."""
        if fault and fault.room:
            self.vm.run(fault.room.before)
        self.vm.add_disk(self.foreign)
        if phase is Phase.GROW:
            self.data.attach()
            self.data.is_right()
        self.vm.run("sync")

    def do(self, phase: Phase, fault: Fault | None) -> None:
        """Do the work; the fault begins with it."""

        def begin() -> int:
            if fault and fault.room:
                fault.room.begin(self.vm)
            elif fault and (fault.where == ROOT_ID or phase is Phase.GROW):
                self.vm.break_disk(fault.where, WRITES, after=fault.after)
            if phase is Phase.GROW:
                self.data.grow()
            else:
                self.data.attach(**_failing(fault, self.data.label))
            return 2

        if phase is Phase.FIRST_BOOT:
            delivered(self.vm, self.swap, meanwhile=begin, **_failing(fault, self.swap.id))
        else:
            begin()

    def end(self, phase: Phase, fault: Fault) -> None:
        """End the fault, and bring about the next run: a boot, or what an administrator does."""
        vm = self.vm
        swap = (self.swap,) if phase is Phase.FIRST_BOOT else ()
        if fault.where == ROOT_ID:
            # No shutdown could write any more.
            vm.cut_power()
        elif fault.room:
            fault.room.end(vm)
        else:
            vm.mend_disk(fault.where)
        if fault.boots:
            vm.cold_boot(disks=[*self.data.plugged, *swap, self.foreign])
            return
        if fault.where == self.data.label:
            # The kernel gives up a filesystem that it could not write.
            at = f"/srv/{self.data.label}"
            vm.run(f"{LOOK}; ! mountpoint -q {at} || umount {at}; gandi-agent mount {self.data.label}")
        vm.run(f"{LOOK}; {AGAIN if phase is Phase.FIRST_BOOT else 'true'}", timeout=120)

    def is_right(self, phase: Phase, *, booted: bool) -> None:
        """Check that the machine is as delivered."""
        if booted:
            assert self.vm.wait_booted() == "running", self.vm.output("systemctl --failed --no-legend")
        self.data.is_right()
        assert self.vm.read_file(f"/srv/{self.data.label}/kept") == KEPT
        if phase is Phase.FIRST_BOOT:
            (ends_right if booted else is_set_up)(self.vm)
        nothing_left(self.vm)
        no_defect(self.vm)
        assert self.foreign.path.read_bytes().rstrip(b"\0") == FOREIGN


def _failing(fault: Fault | None, id: str) -> dict[str, Any]:
    """Return the arguments that have a disk fail, if the fault is its own."""
    return {"fails": WRITES, "after": fault.after} if fault and fault.where == id else {}


@pytest.mark.soak
def test_from_any_write_on_what_fails_is_named_and_nothing_is_lost(
    machine: Rig, platform: State, tmp_path: Path, rounds: Rounds
) -> None:
    chance = dice("nth write")
    usual: dict[Phase, dict[str, int]] = {}
    reached = 0
    (slot,) = machine.slots(1)
    for number in rounds(1, 200):
        phase = chance.choice(list(Phase))
        if phase not in usual:
            usual[phase] = _measured(platform, tmp_path / phase.name, phase, slot.lend())
            print(f"{phase}: {usual[phase]}")
        where = chance.choice([where for where, most in usual[phase].items() if most])
        boots = where == ROOT_ID or (where not in VOLATILE and chance.random() < 0.5)
        fault = Fault(where, chance.randrange(usual[phase][where]), boots)
        print(f"round {number}: {phase}, {fault} of {usual[phase][where]}")
        with platform.clone(f"nth-write-{number}", slot=slot.lend()) as vm:
            work = Work(vm, tmp_path / f"{number}")
            work.prepare(phase, fault)
            begun = vm.output("date +%s")
            work.do(phase, fault)
            vm.channel.ask("ping", timeout=ANSWERS)
            _is_reported(vm, phase, fault, begun, work.data.right)
            if not fault.room:
                reached += (failed := vm.writes(where)[1]) > 0
                print(f"  {failed} writes failed")
            work.end(phase, fault)
            work.is_right(phase, booted=fault.boots)
    print(f"a disk's fault was reached in {reached} rounds")


def _is_reported(vm: Machine, phase: Phase, fault: Fault, begun: str, right: str) -> None:
    """Check that programs start, and that what failed is named, unless it all went well. A kernel that could
    not write its root's inodes may not be able to read a program any more, whatever the agent does.
    """
    if phase is Phase.FIRST_BOOT:
        right += " && gandi-agent status >/dev/null"
    # With a full /run udevd passes no event on, and says so.
    udevd = "systemd-udevd.service" if fault.where == "full run" else ""
    try:
        assert vm.output("echo up", timeout=ANSWERS) == "up"
        is_named(vm, fault.room.words if fault.room else EIO, begun, unless=right, also=udevd)
        no_defect(vm)
    except GuestError as error:
        if fault.where != ROOT_ID or NOT_STARTED not in str(error):
            raise
        print("  the guest can start no program")


def _measured(platform: State, folder: Path, phase: Phase, slot: Slot) -> dict[str, int]:
    """Do the work without a fault. Return what it takes of each place: writes, or blocks or inodes."""
    with platform.clone(f"nth-write-{phase.name}", slot=slot) as vm:
        work = Work(vm, folder)
        work.prepare(phase, None)
        there = [ROOT_ID, *([work.data.label] if phase is Phase.GROW else [])]
        before = {disk: vm.writes(disk)[0] for disk in there}
        used = _used(vm)
        work.do(phase, None)
        work.is_right(phase, booted=False)
        vm.run("sync")
        disks = [ROOT_ID, work.data.label, *([work.swap.id] if phase is Phase.FIRST_BOOT else [])]
        took = {disk: vm.writes(disk)[0] - before.get(disk, 0) for disk in disks}
        now = _used(vm)
        # One more: a file that replaces another is there beside it.
        return took | {name: max(now[name] - used[name], 0) + 1 for name in SPACES}


def _used(vm: Machine) -> dict[str, int]:
    """Return the blocks (4 KiB) or inodes in use, by condition."""
    words = vm.output(" ; ".join(USED.values())).split()
    return dict(zip(USED, map(int, words), strict=True))
