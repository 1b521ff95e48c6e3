"""256 disks, attached and removed in bursts for an hour: nothing is left of a burst, and the daemon's memory
is flat. And bursts of several sizes: how their cost grows with their disks.
"""

from __future__ import annotations

import json
import math
import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import labels
from tests.vm import at_rest
from tests.vm.campaign import Rounds
from tests.vm.conftest import Rig
from tests.vm.rig import MIB, Bus, Disk, Image, Machine, MachineSpec

#: The largest is all that a virtio SCSI controller takes. The first: a few more than the daemon handles at a
#: time.
WARM, SIZES = 12, (32, 64, 128, 256)
#: Rounds of an hour on two cores without KVM. One took 22 minutes with half a core.
ROUNDS = 6
#: Seconds until all of a burst are mounted, or gone, on a busy host.
BOUND = 3600
#: CPU is counted here of the units gandi-*, and of the mount units of their disks, with what has ended.
OURS = "system.slice/system-crowd.slice"
GROUPS = {"agent": OURS, "PID 1": "init.scope", "udevd": "system.slice/systemd-udevd.service"}
#: The cost is proportional to the disks to the power of this, at most: 1 is linear, 2 is a search of all
#: disks for each one and nothing else. An attach is more than linear: each decision, of which udevd causes
#: two for a new disk, reads the records of all. The limit shows if that becomes worse.
EXPONENTS = {"attach": 1.7, "remove": 1.2}
#: Bytes by which the private memory may be larger after the last burst than after the first of the largest.
#: Pages of Python's and libc's heaps are filled differently each time; an object kept for each disk would be
#: more than that after a few rounds.
FLAT = MIB
#: What is as it was after each burst; and from the second round on, what is made or opened at its first use:
#: libraries' sockets, files of the state.
ALWAYS = ("process", "threads", "children", "mounts", "folders", "units", "devices")
ONCE_USED = ("descriptors", "files", "locks", "remembered")
#: Bytes of private memory at most, at rest. 17 MiB were seen after 256 disks, 10 after 12.
MOST = 20 * MIB


@dataclass(frozen=True, slots=True)
class Burst:
    """CPU seconds that each of GROUPS has used for attaching a number of disks, and for removing them."""

    disks: int
    attached: dict[str, float]
    removed: dict[str, float]


class Crowd:
    """The guest and the files of its disks; ``rest`` is what the agent has at rest (at_rest.py)."""

    def __init__(self, vm: Machine, folder: Path) -> None:
        self.vm = vm
        made = labels.make(folder / "made", "ext4", b"made")
        self.disks = [_disk(made, folder / f"c{number}") for number in range(max(SIZES))]
        vm.write_file("/root/at_rest.py", Path(at_rest.__file__).read_bytes())
        for prefix, kind in (("gandi-", "service"), ("srv-", "mount")):
            text = f"[{kind.capitalize()}]\nSlice={Path(OURS).name}\n"
            vm.write_file(f"/run/systemd/system/{prefix}.{kind}.d/crowd.conf", text)
        # Resident: one process must bear all bursts.
        vm.run("echo CONFIG_IDLE_EXIT=0 >> /etc/default/gandi")
        vm.run("systemctl daemon-reload; systemctl restart gandi-agent")
        self.rest = self._rest()

    def burst(self, count: int) -> Burst:
        """Attach so many disks, wait until all are mounted, remove all, and wait until all are gone."""
        disks, before, begun = self.disks[:count], self.rest, time.monotonic()
        for disk in disks:
            self.vm.add_disk(disk)
        mounted = f"test $(grep -c ' /srv/c[0-9]* ext4 ' /proc/mounts) = {count}"
        self.vm.wait_until(mounted, timeout=BOUND, interval=2)
        here = self._rest()
        assert sorted(here["mounts"]) == sorted(f"/srv/{disk.id}" for disk in disks)
        attached, middle = _spent(before, here), time.monotonic()
        for disk in disks:
            self.vm.remove_disk(disk.id)
        gone = "! grep -q ' /srv/' /proc/mounts && test -z \"$(ls -A /srv)\""
        self.vm.wait_until(gone, timeout=BOUND, interval=2)
        self.rest = self._rest()
        done = Burst(count, attached, _spent(here, self.rest))
        print(f"{count} disks mounted in {middle - begun:.0f} s, gone in {time.monotonic() - middle:.0f} s")
        print(f"  CPU seconds: attached {_shown(attached)}; removed {_shown(done.removed)}")
        print(f"  private memory: mounted {here['memory'] >> 10} KiB, gone {self.rest['memory'] >> 10} KiB")
        return done

    def _rest(self) -> dict[str, Any]:
        argv = ["python3", "-I", "/root/at_rest.py", *GROUPS.values()]
        found = self.vm.wait_until(argv, timeout=BOUND, interval=1).stdout
        return dict(json.loads(found))


def _disk(made: Path, path: Path) -> Disk:
    shutil.copy(made, path)
    labels.put(path, "ext4", path.name.encode())
    labels.renew(path)
    return Disk(path=path, id=path.name, bus=Bus.SCSI, serial=path.name)


def _spent(before: dict[str, Any], after: dict[str, Any]) -> dict[str, float]:
    return {name: (after["cpu"][group] - before["cpu"][group]) / 1e6 for name, group in GROUPS.items()}


def _shown(spent: dict[str, float]) -> str:
    return ", ".join(f"{name} {seconds:.1f}" for name, seconds in spent.items())


@pytest.mark.soak
def test_256_disks_come_and_go_and_nothing_is_left(booted: Machine, tmp_path: Path, rounds: Rounds) -> None:
    crowd = Crowd(booted, tmp_path)
    crowd.burst(WARM)
    began, first = crowd.rest, dict[str, Any]()
    for _ in rounds(1, ROUNDS):
        crowd.burst(max(SIZES))
        _nothing_is_left(began, crowd.rest, *ALWAYS)
        first = first or crowd.rest
        _nothing_is_left(first, crowd.rest, *ONCE_USED)
        assert crowd.rest["memory"] <= min(first["memory"] + FLAT, MOST)
    _it_ends_well(booted)


@pytest.mark.soak
def test_the_order_of_the_cost_of_a_burst(machine: Rig, image: Image, tmp_path: Path) -> None:
    """In a guest with a clock that counts instructions: its CPU seconds do not depend on the host."""
    vm = machine.start(image, MachineSpec(counted=True))
    vm.wait_booted()
    crowd = Crowd(vm, tmp_path)
    # Before the measure: modules are loaded, and what is kept of each filesystem is there.
    crowd.burst(WARM)
    _fit([crowd.burst(count) for count in SIZES])
    _it_ends_well(vm)


def _it_ends_well(vm: Machine) -> None:
    """The daemon reports no defect, and leaves no process when it exits."""
    assert vm.output("systemctl is-system-running") == "running"
    assert "unexpected" not in vm.journal("gandi-agent")
    vm.run("echo CONFIG_IDLE_EXIT=1 >> /etc/default/gandi; systemctl reload gandi-agent")
    vm.wait_until("test $(systemctl is-active gandi-agent) = inactive", timeout=300)
    vm.run(f"! test -e /sys/fs/cgroup/{OURS} || ! grep -q . /sys/fs/cgroup/{OURS}/cgroup.procs")


def _nothing_is_left(before: dict[str, Any], after: dict[str, Any], *what: str) -> None:
    assert {name: after[name] for name in what} == {name: before[name] for name in what}


def _fit(bursts: Sequence[Burst]) -> None:
    """Print the line and the power that are nearest to the costs, by the least squares; the exponent of the
    agent's own has a limit.
    """
    sizes = [burst.disks for burst in bursts]
    for name in GROUPS:
        for what, costs in (
            ("attach", [burst.attached[name] for burst in bursts]),
            ("remove", [burst.removed[name] for burst in bursts]),
        ):
            line = statistics.linear_regression(sizes, costs)
            power = statistics.linear_regression(list(map(math.log, sizes)), list(map(math.log, costs)))
            rest = (cost - line.intercept - line.slope * n for n, cost in zip(sizes, costs, strict=True))
            print(
                f"{what}, {name}: {line.intercept:.2f} s + {line.slope * 1000:.1f} ms for each disk,"
                f" R² {statistics.correlation(sizes, costs) ** 2:.5f},"
                f" residuals {', '.join(f'{one:+.2f}' for one in rest)} s; exponent {power.slope:.2f}"
            )
            if name == "agent":
                assert power.slope <= EXPONENTS[what], f"{what}: {costs} for {sizes} disks"
