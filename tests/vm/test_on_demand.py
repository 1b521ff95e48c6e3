"""A daemon that exits when it is idle, and misses no event."""

from __future__ import annotations

import time
from pathlib import Path

from tests.vm.campaign import Rounds, dice
from tests.vm.plugging import Plugged
from tests.vm.rig import Machine

AWAY = "test $(systemctl is-active gandi-agent) = inactive"
#: Seconds from the first event to the end of the daemon's coldplug, in a slow guest.
START = 3.0


def leaves_after(vm: Machine, seconds: int) -> None:
    """Set the idle time, and have the daemon read it."""
    vm.run(f"echo CONFIG_IDLE_EXIT={seconds} >> /etc/default/gandi; udevadm trigger --name-match=/dev/vda")


def test_it_leaves_and_is_brought_back_by_what_is_ours_alone(booted: Machine, tmp_path: Path) -> None:
    leaves_after(booted, 2)
    booted.wait_until(AWAY)
    booted.run("! pgrep -f [/]usr/bin/gandi-agent")
    assert "daemon: at rest" in booted.output("gandi-agent status")
    said = booted.run("systemctl status gandi-agent", check=False).stdout
    assert "● gandi-agent-uevent.socket" in said.partition("TriggeredBy:")[2]
    assert booted.run("systemctl reload gandi-agent", check=False).rc == 1, "there is nothing to reload"

    life = booted.output("systemctl show -P InvocationID gandi-agent")
    told = int(booted.output("cat /sys/kernel/uevent_seqnum"))
    booted.run("for i in $(seq 60); do ip link add a$i type veth peer name b$i; done", timeout=200)
    booted.run("for i in $(seq 60); do ip link del a$i; done; udevadm settle", timeout=200)
    assert int(booted.output("cat /sys/kernel/uevent_seqnum")) >= told + 500
    assert booted.output("systemctl show -P InvocationID gandi-agent") == life
    booted.run(AWAY)

    disk = Plugged(booted, tmp_path, "data")
    disk.attach()
    disk.is_right()
    assert booted.output("systemctl show -P InvocationID gandi-agent") != life
    booted.wait_until(AWAY)
    booted.run("mountpoint -q /srv/data")
    booted.run("systemctl restart gandi-config")
    assert "running the stage here" not in booted.journal("gandi-config")
    booted.run("systemctl stop gandi-agent-uevent.socket gandi-agent.socket gandi-agent")
    booted.run("udevadm trigger --name-match=/dev/vda --settle")
    booted.run(AWAY)
    assert booted.output("systemctl is-system-running") == "running"


def test_nothing_is_missed_while_it_is_away_starts_or_leaves(
    booted: Machine, tmp_path: Path, rounds: Rounds
) -> None:
    chance = dice("on demand")
    leaves_after(booted, 1)
    disk = Plugged(booted, tmp_path, "data")
    for number in rounds(10, 500):
        moment = chance.choice(["away", "starting", "leaving"])
        if moment != "leaving":
            booted.wait_until(AWAY)
        if moment == "starting":
            booted.run("udevadm trigger --name-match=/dev/vda")
            time.sleep(chance.uniform(0, START))
        elif moment == "leaving":
            time.sleep(chance.uniform(0, START))
        done = disk.next()
        print(f"round {number}: {done} while {moment}")
        disk.is_right()
    assert booted.output("systemctl is-system-running") == "running"
