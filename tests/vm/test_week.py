"""A week of a machine with events of the agent's devices and of others, in bursts with hours of rest.

The clock of the guest counts instructions and is set forward to the next timer while the guest rests
(MachineSpec.skips): the timers of the kernel, of PID 1 and of all programs run, in their order and each at
its time. Skipped is only the time in which nothing runs; bursts are not. Not shown is what depends on the
host's clock (that of the mainboard, a network with others), and three of the kernel's own timers are off
or rarer (restless.FILES). CPUs and memory are not plugged, of which a guest with such a clock takes no CPU;
their events are made by uevent files.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.vm import guest_events, weekly
from tests.vm.campaign import Rounds, dice
from tests.vm.conftest import Rig
from tests.vm.plugging import Done, Plugged
from tests.vm.rig import ImageSpec, Machine, MachineSpec, Nic, build, newest_deb, restless

#: Rounds of a week, and what each has.
ROUNDS = 100
WEEK = 7 * 24 * 3600
OURS, OTHERS = 100, 1_000
#: Seconds without work until the daemon exits (CONFIG_IDLE_EXIT), with its work before.
EXIT, LATEST = 60, 180
#: Pauses in a burst, in seconds: it still runs, it is about to exit, it has exited.
PAUSES = (0, 5, 55, 60, 65, 600)
#: Lines of the journal at most for each start of the daemon, and for each device that comes, grows or goes.
LINES_OF_START, LINES_OF_DEVICE = 8, 8
#: Bytes by which the files may differ between two rests (times have more digits), and PID 1 grow.
SLACK, SLACK_PID1 = 512, 2 << 20
#: The running daemon's descriptors and threads at most, and its private memory in bytes.
MOST_DESCRIPTORS, MOST_THREADS, MOST_MEMORY = 16, 4, 16 << 20
#: Units that others may load in a week, of their timers.
OTHER_UNITS = 12
NIC = Nic(id="week", mac="52:54:00:00:00:77", backend="user,restrict=on,net=10.9.0.0/24")
_PROGRAM = "/run/guest_events.py"
_SYSTEM = "/sys/devices/system"
_OURS = f"ls -d /sys/class/block/vda /sys/class/net/e* {_SYSTEM}/cpu/cpu0 {_SYSTEM}/memory/memory*"
_OTHERS = "ls -d /sys/class/net/lo /sys/class/block/loop* /sys/class/mem/* /sys/class/tty/* /sys/class/vc/*"


@dataclass(slots=True)
class Week:
    """The machine and what has been counted."""

    vm: Machine
    disk: Plugged
    chance: random.Random
    journal: weekly.Journal = field(init=False)
    ours: list[str] = field(init=False)
    others: list[str] = field(init=False)
    #: Events so far, and devices that came, grew or went.
    own: int = 0
    foreign: int = 0
    devices: int = 0
    began: float = 0.0

    def __post_init__(self) -> None:
        vm = self.vm
        vm.write_file(_PROGRAM, Path(guest_events.__file__).read_bytes())
        vm.run(f"truncate -s 1M {guest_events.BACKING}; modprobe loop; udevadm settle")
        self.ours = [f"{path}/uevent" for path in vm.output(_OURS).split()]
        self.others = [f"{path}/uevent" for path in vm.output(_OTHERS).split()]
        self.journal = weekly.Journal(vm)
        self.began = self.now()

    def now(self) -> float:
        """Return the seconds since the guest's boot."""
        return float(self.vm.output("cut -d' ' -f1 /proc/uptime"))

    def row(self, now: weekly.Rest, daemon: weekly.Awake) -> str:
        """Return what was counted until now, as a row of the campaign's table in docs/soak.md."""
        days = f"{(self.now() - self.began) / 86400:.2f}"
        counts = (self.own, self.foreign, self.journal.starts, self.journal.lines, len(now.files), now.bytes)
        return " | ".join((days, *(str(count) for count in counts), str(daemon.memory >> 10)))

    def make(self, words: list[str]) -> None:
        """Make these events."""
        self.vm.run(["python3", "-I", _PROGRAM], stdin=" ".join(words).encode(), timeout=3600)

    def number(self) -> int:
        """Return the number of the kernel's last event."""
        return int(self.vm.output("cat /sys/kernel/uevent_seqnum"))

    def storm(self, count: int) -> None:
        """Make events of others, and at least so many."""
        until = self.number() + count
        while (left := until - self.number()) > 0:
            # A pair of NICs is more than a dozen events.
            devices = self.chance.choices(["loop", "veth"], k=left // 50)
            words = devices + self.chance.choices(self.others, k=max(1, left // 2))
            self.chance.shuffle(words)
            self.make(words)

    def burst(self, count: int) -> tuple[int, int]:
        """Make so many events of the agent's devices, with some of others and pauses between them. Return
        how often the daemon was started by them at least and at most.
        """
        least = most = 1
        acts: list[Callable[[], object]] = [self._nic_comes, self._nic_goes]
        acts += [self.disk.next for _ in Done]
        left = count - len(acts) - 1
        while acts or left:
            if acts and (not left or self.chance.random() < 0.3):
                acts.pop(0)()
                self.own += 1
                self.devices += 1
            elif left:
                ours = min(left, self.chance.randint(1, 40))
                words = self.chance.choices(self.ours, k=ours)
                words += self.chance.choices(self.others, k=self.chance.randint(0, 40))
                self.chance.shuffle(words)
                self.make(words)
                self.own += ours
                left -= ours
            pause = self.chance.choice(PAUSES)
            if pause and (acts or left):
                self.vm.rest(pause)
                most += 1
                least += pause > LATEST
        self.disk.is_right()
        # It runs at the end, also if the host was slow meanwhile.
        self.make(self.ours[:1])
        self.own += 1
        self.vm.wait_until("systemctl is-active gandi-agent")
        return least, most + 1

    def _nic_comes(self) -> None:
        self.vm.add_nic(NIC)
        self.vm.wait_until(f"ip -o link | grep -q {NIC.mac}")

    def _nic_goes(self) -> None:
        self.vm.remove_nic(NIC.id)


@pytest.fixture
def vm(machine: Rig) -> Machine:
    """A machine after its boot, with a clock that skips the time in which it rests."""
    spec = ImageSpec(debs=(newest_deb(),), files=restless.FILES)
    booted = machine.start(build(spec), MachineSpec(skips=True))
    assert booted.wait_booted() == "running", booted.output("systemctl --failed --no-legend")
    return booted


def stays_away(week: Week) -> None:
    """Check that the daemon does not run, and was not started since the journal was last read."""
    assert week.journal.read()[1] == 0
    assert week.vm.output("systemctl is-active gandi-agent || true") == "inactive"
    assert weekly.runs(week.vm) == 0


def nothing_grew(first: weekly.Rest, now: weekly.Rest) -> None:
    """Compare two rests."""
    assert set(now.files) == set(first.files)
    assert now.bytes <= first.bytes + SLACK
    assert now.units == first.units
    assert now.all_units <= first.all_units + OTHER_UNITS
    assert now.tagged == first.tagged
    assert (now.waiting, now.dropped) == (0, first.dropped)
    assert now.descriptors <= first.descriptors + 2
    assert now.memory <= first.memory + SLACK_PID1


@pytest.mark.soak
def test_a_week_of_bursts_and_rests_leaves_nothing_behind(
    vm: Machine, tmp_path: Path, rounds: Rounds, record_property: Callable[[str, object], None]
) -> None:
    chance = dice("week")
    vm.rest(LATEST)
    week = Week(vm, Plugged(vm, tmp_path, "data"), chance)
    week.disk.attach()
    week.disk.is_right()
    week.disk.grow()
    week.disk.is_right()
    vm.rest(LATEST)
    week.journal = weekly.Journal(vm)
    first = weekly.at_rest(vm)
    rows: list[str] = []
    for number in rounds(ROUNDS, ROUNDS):
        seqnum, own = week.number(), week.own
        week.storm(OTHERS)
        stays_away(week)

        lines, devices = week.journal.lines, week.devices
        least, most = week.burst(OURS)
        daemon = weekly.awake(vm)
        week.foreign += week.number() - seqnum - (week.own - own)
        _, starts = week.journal.read()
        assert least <= starts <= most
        vm.rest(LATEST)
        week.journal.read()
        said = week.journal.lines - lines
        assert said <= LINES_OF_START * starts + LINES_OF_DEVICE * (week.devices - devices)

        left = WEEK - (week.now() - week.began)
        mean = left / (ROUNDS - number)
        vm.rest(left if number == ROUNDS - 1 else max(60.0, mean * chance.uniform(0.2, 1.8)))
        stays_away(week)
        now = weekly.at_rest(vm)
        rows.append(week.row(now, daemon))
        print(f"round {number}: {rows[-1]}, {daemon}, {now}", flush=True)
        nothing_grew(first, now)
        assert daemon.descriptors <= MOST_DESCRIPTORS
        assert daemon.threads <= MOST_THREADS
        assert daemon.memory <= MOST_MEMORY
        assert vm.output("systemctl is-system-running") == "running"
    for row in dict.fromkeys((rows[0], rows[-1])):
        record_property("row", row)
    the_end(week)
    if rounds.done == ROUNDS:
        assert week.now() - week.began >= WEEK
        assert week.own >= ROUNDS * OURS
        assert week.foreign >= ROUNDS * OTHERS


def the_end(week: Week) -> None:
    """Check the status, and that a disk is handled as on the first day."""
    vm = week.vm
    assert vm.output("systemctl show -P LastTriggerUSec gandi-jumped.timer") == ""
    status = vm.output("gandi-agent status")
    assert "daemon: at rest" in status
    assert "nothing failed" in status
    for _ in range(2 * len(Done)):
        week.disk.next()
        week.disk.is_right()
