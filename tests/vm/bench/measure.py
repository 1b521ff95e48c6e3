"""The figures of one boot of a guest with a clock that counts instructions, read in the guest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from statistics import median

from tests.vm.bench.contenders import SHARES, SLICE_FOLDER
from tests.vm.rig import Machine, RigError

#: Instructions in a second of the guest's clock, which is what counts them.
INSTRUCTIONS = 125e6
#: Instructions in a tick, in which /proc/stat counts (USER_HZ, 100 on every x86-64 Linux); in a microsecond.
_TICK, _MICROSECOND = INSTRUCTIONS / 100, INSTRUCTIONS / 1e6
#: Seconds of the guest from the end of the boot until the last figures are read: what is put off to then, by
#: udevd too, is part of them.
_AFTER = 10
#: Seconds of the host, which is no faster for counting: until a boot has ended, and until the machine rests.
_TIMEOUT = 900


@dataclass(frozen=True, slots=True)
class Boot:
    """One boot. Times in seconds since the kernel started, CPU in instructions, memory in bytes."""

    #: When ssh.service's program was executed, and when systemd had no more to start.
    ssh: float
    end: float
    #: Of the contender's units, with those that are gone; and of the whole machine, kernel and all.
    cpu: float
    machine_cpu: float
    #: Of the contender's units until the last of their processes has left.
    cpu_at_rest: float
    #: CPU of the parts of the machine at the moment ``ssh``: PARTS.
    shares: dict[str, float]
    #: MemAvailable once at rest, with caches emptied.
    available: int


#: The parts, in the order of the page: the contender's units, udevd, PID 1, other services, and what is on
#: no unit's account: the kernel's own work, and the initrd.
PARTS = ("own units", "udevd", "PID 1", "other services", "kernel, initrd")


def read(machine: Machine) -> Boot:
    """The figures of the boot that is under way. RigError when it did not end well.

    The machine is at rest then: no process of the contender's units is left.
    """
    state = machine.wait_booted(_TIMEOUT)
    if state != "running":
        raise RigError(f"the boot ended {state}: {machine.output('systemctl --failed --no-pager')}")
    own = f"read -r name value 2>/dev/null < {SLICE_FOLDER}/cpu.stat; echo ${{value:-0}}"
    cpu, ticks = machine.output(f"sleep {_AFTER}; {own}; read -r line < /proc/stat; echo $line").splitlines()
    machine.wait_until(
        f"! grep -qs 'populated 1' {SLICE_FOLDER}/cgroup.events", timeout=_TIMEOUT, interval=1
    )
    return Boot(
        ssh=_moment(machine, "ssh.service", "ExecMainStartTimestampMonotonic"),
        end=_moment(machine, "", "FinishTimestampMonotonic"),
        cpu=int(cpu) * _MICROSECOND,
        machine_cpu=_busy(ticks),
        cpu_at_rest=int(machine.output(own)) * _MICROSECOND,
        shares=shares(machine.read_file(SHARES).decode()),
        available=_available(machine),
    )


def middle(boots: Sequence[Boot]) -> Boot:
    """The median of each figure of an odd number of boots."""
    noted = {part: median(boot.shares[part] for boot in boots) for part in PARTS}
    names = (field.name for field in fields(Boot) if field.name != "shares")
    return Boot(shares=noted, **{name: median(getattr(boot, name) for boot in boots) for name in names})


def shares(noted: str) -> dict[str, float]:
    """The parts' instructions, from what the image noted."""
    ticks, *lines = noted.splitlines()
    used = {name: int(value) * _MICROSECOND for name, value in map(str.split, lines)}
    own, udevd = used.get("own", 0.0), used["udevd"]
    rest = _busy(ticks) - used["pid1"] - used["services"]
    return dict(zip(PARTS, (own, udevd, used["pid1"], used["services"] - own - udevd, rest), strict=True))


def _busy(line: str) -> float:
    """Instructions of all CPUs (proc_stat(5)): user, nice, system, irq and softirq."""
    ticks = line.split()[1:]
    return sum(int(ticks[index]) for index in (0, 1, 2, 5, 6)) * _TICK


def _moment(machine: Machine, unit: str, name: str) -> float:
    """A time that systemd noted, in seconds since the kernel started."""
    microseconds = int(machine.output(["systemctl", "show", "--value", f"--property={name}", *unit.split()]))
    if not microseconds:
        raise RigError(f"systemd has no {name} of {unit or 'the boot'}")
    return microseconds / 1e6


def _available(machine: Machine) -> int:
    """MemAvailable, in bytes, with caches emptied: they depend on what was read, not on what runs."""
    machine.run("sync; echo 3 > /proc/sys/vm/drop_caches")
    return int(machine.output("awk '/^MemAvailable/ {print $2}' /proc/meminfo")) * 1024
