"""The daemon killed, the machine reset, udev restarted, events lost: the end state is always correct."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.vm.campaign import Rounds, dice
from tests.vm.documents import NO_MEDIUM
from tests.vm.plugging import Plugged
from tests.vm.rig import Bus, Machine

#: Seconds in which most of the work of one event is done, in a slow guest.
WORK = 2.0
SERVICE = "gandi-agent.service"
OVERFLOW = "9725e2d22dc343289f8db85b1f2d9f5b"


def test_killed_at_any_moment_the_end_is_right(booted: Machine, tmp_path: Path, rounds: Rounds) -> None:
    chance = dice("kills")
    disk = Plugged(booted, tmp_path, "data")
    for number in rounds(10, 100):
        delay = chance.uniform(0, WORK)

        def kill(delay: float = delay) -> None:
            time.sleep(delay)
            # systemd delays each restart longer (RestartSteps=); ten kills in a row are not realistic.
            booted.run(
                f"systemctl kill --kill-whom=main -s KILL {SERVICE}; systemctl reset-failed {SERVICE}"
            )

        print(f"round {number}: killed {delay:.2f} s after {disk.next(kill)}")
        disk.is_right()
    assert booted.output("systemctl is-system-running") == "running"
    assert "unexpected" not in booted.journal("gandi-agent")


@pytest.mark.long
def test_reset_at_any_moment_the_end_is_right(booted: Machine, tmp_path: Path, rounds: Rounds) -> None:
    """Each round costs a boot, as far as the stage that mounts; what follows it in a boot runs
    beside the next round. So each has six disks: two are attached, two grown, two detached, each at its
    own moment before the reset. By a power cut: emulated, the same process boots slower each time.
    """
    booted.run(f"{NO_MEDIUM}; sync")
    chance = dice("resets")
    labels = ("one", "two", "three", "four", "five", "six")
    disks = [Plugged(booted, tmp_path, label, bus=Bus.SCSI) for label in labels]
    for step in range(2):
        moved = [disk for number, disk in enumerate(disks) if number % 3 > step]
        for disk in moved:
            disk.next()
        for disk in moved:
            disk.is_right()
    for number in rounds(2, 100):
        moments = sorted((chance.uniform(0, WORK) for _ in disks), reverse=True)
        order = chance.sample(disks, len(disks))
        for disk, moment, later in zip(order, moments, (*moments[1:], 0), strict=True):
            print(f"round {number}: reset {moment:.2f} s after {disk.next()} of {disk.label}")
            time.sleep(moment - later)
        booted.cut_power()
        booted.cold_boot(disks=[one for disk in disks for one in disk.plugged])
        booted.wait_until("systemctl is-active gandi-mount", timeout=180, interval=1)
        for disk in disks:
            disk.is_right()
        assert booted.output("systemctl --failed --no-legend") == ""
    assert booted.wait_booted() == "running"


def test_udev_restarted_and_events_lost_everything_is_found(booted: Machine, tmp_path: Path) -> None:
    """A buffer for a few events, and no daemon that reads them."""
    disks = [Plugged(booted, tmp_path, name) for name in ("one", "two", "three")]
    disks[0].attach()
    # Events that udevd handles, or has in its queue, when it is stopped are lost without a notice.
    booted.wait_until("test -b /dev/vdb")
    booted.run("udevadm settle; systemctl restart systemd-udevd")
    disks[1].attach()
    for disk in disks[:2]:
        disk.is_right()

    booted.write_file(
        "/etc/systemd/system/gandi-agent-uevent.socket.d/small.conf", "[Socket]\nReceiveBuffer=4K\n"
    )
    booted.run("systemctl daemon-reload; systemctl stop gandi-agent gandi-agent-uevent.socket")
    booted.run("systemctl start gandi-agent")
    booted.run("systemctl kill --kill-whom=main -s STOP gandi-agent")
    booted.run("for i in $(seq 10); do udevadm trigger --name-match=/dev/vda --settle; done")
    disks[0].grow()
    disks[2].attach()
    booted.run("udevadm settle")
    booted.run("systemctl kill --kill-whom=main -s CONT gandi-agent")
    for disk in disks:
        disk.is_right()
    booted.wait_until(f"journalctl -b -q MESSAGE_ID={OVERFLOW} | grep -q 'were lost'")
    booted.run("systemctl kill --kill-whom=main -s STOP gandi-agent")
    booted.run("for i in $(seq 10); do udevadm trigger --name-match=/dev/vda --settle; done")
    for disk in disks:
        disk.detach()
    booted.run("systemctl kill --kill-whom=main -s CONT gandi-agent")
    for disk in disks:
        disk.is_right()
    assert booted.output("systemctl is-system-running") == "running"
