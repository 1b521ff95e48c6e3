"""The daemon killed in every phase of its life and in the stages of a first boot: the end is right."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests import drives
from tests.vm import delivered
from tests.vm.campaign import Rounds, dice
from tests.vm.conftest import Rig
from tests.vm.plugging import Plugged
from tests.vm.rig import Machine, State

UNIT = "gandi-agent.service"
# systemd delays each restart longer (RestartSteps=); ten kills in a row are not realistic.
KILL = f"systemctl kill --kill-whom=main -s KILL {UNIT} && systemctl reset-failed {UNIT}"
#: Seconds of a start with its coldplug, of an end, and of the work of one event, in a slow guest.
START, END, WORK = 3.0, 1.0, 2.0
#: Seconds of the stages of a first boot in a slow guest.
STAGES = 15.0
IDLE = '! grep -q \'"work": {"\' /run/gandi/status.json && systemctl is-active -q gandi-agent'
#: How a phase of the daemon begins, and its seconds. In the last one it attaches, grows or detaches a disk.
PHASES = {
    "idle": ("true", 0.0),
    "starting": (f"systemctl restart --no-block {UNIT}", START),
    "ending": (f"systemctl stop --no-block {UNIT}", END),
    "working": ("", WORK),
}


@pytest.mark.soak
def test_killed_in_every_phase_nothing_is_missed(booted: Machine, tmp_path: Path, rounds: Rounds) -> None:
    chance = dice("phases")
    disk = Plugged(booted, tmp_path, "data")
    for number in rounds(4, 700):
        # Each phase once, in another order each time.
        if number % len(PHASES) == 0:
            order = chance.sample(list(PHASES), len(PHASES))
        phase = order[number % len(PHASES)]
        begin, length = PHASES[phase]
        delay = chance.uniform(0, length)

        def kill(begin: str = begin, delay: float = delay) -> None:
            if begin:
                booted.run(begin)
            time.sleep(delay)
            booted.run(KILL, check=False)

        if phase == "working":
            done = disk.next(kill)
        else:
            booted.run(f"udevadm settle; systemctl start {UNIT}")
            booted.wait_until(IDLE)
            kill()
            done = disk.next()
        print(f"round {number}: killed {delay:.2f} s in {phase}; {done}")
        disk.is_right()
    assert booted.output("systemctl --failed --no-legend") == ""
    assert "unexpected" not in booted.journal("gandi-agent")


@pytest.mark.soak
def test_killed_in_a_stage_of_a_first_boot_the_machine_is_configured(
    machine: Rig, platform: State, tmp_path: Path, rounds: Rounds
) -> None:
    """The process that runs all stages: the clients in their units take over, and nothing runs twice."""
    chance = dice("stages")
    iso = drives.make_iso(tmp_path / "drive.iso", drives.native(delivered.NATIVE), "gandi")
    for number in rounds(1, 300):
        vm, delay = machine.clone(platform), chance.uniform(0, STAGES)
        print(f"round {number}: killed {delay:.2f} s after the start of the stages")

        def kill_later(vm: Machine = vm, delay: float = delay) -> int:
            started = f"until systemctl is-active -q {UNIT}; do sleep 0.05; done"
            vm.spawn(f"timeout 60 sh -c '{started}'; sleep {delay}; {KILL}", timeout=120)
            return 0

        delivered.delivered(vm, delivered.drive(iso), meanwhile=kill_later)
        vm.wait_until("gandi-agent status", interval=1)
        delivered.named(vm, "nd1")
        assert delivered.keys(vm, "/home/admin1")
        delivered.scripted(vm)
        delivered.resolvers(vm)
        assert vm.output("systemctl --failed --no-legend") == ""
        vm.close(keep_logs=False)
