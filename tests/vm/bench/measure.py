"""The figures of one boot, read in the guest when it has ended, and how much else the host did meanwhile."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Self

import psutil

from tests.vm.bench.contenders import PREFIXES, SLICE_FOLDER, STAGES
from tests.vm.rig import Machine, RigError

#: proc_pid_stat(5): seconds are counted in these in /proc (USER_HZ of every x86-64 Linux).
_TICK = 0.01
#: Cores of the host that others may use during a boot, on average, before its figures count as disturbed.
QUIET = 0.15
_DAEMON = "gandi-agent.service"


@dataclass(frozen=True, slots=True)
class Boot:
    """One boot. Times in seconds since the kernel started, CPU in seconds, memory in bytes."""

    #: When ssh.service had started: it tells systemd so once it listens.
    ssh: float
    #: When systemd had no more to start.
    end: float
    #: CPU of the contender's units, with those that are gone.
    cpu: float
    #: CPU of the whole machine, kernel and all.
    machine_cpu: float
    available: int
    #: Memory charged to the contender's units.
    charged: int
    #: Parts of ``cpu``: the stage units; the daemon itself; its ended children; units that are gone.
    clients: float
    daemon: float
    children: float
    transient: float
    #: Cores of the host that were used by others, on average.
    disturbance: float


@dataclass(slots=True)
class HostLoad:
    """What the host did beside the virtual machine and this process, from now on."""

    _begun: float = field(default_factory=time.monotonic)
    _busy: float = field(default_factory=lambda: _busy())
    _own: float = field(default_factory=time.process_time)

    def others(self, machine: Machine) -> float:
        """Cores in use by others since the beginning, on average; the machine was started since then."""
        mine = psutil.Process(machine.process.pid).cpu_times()
        used = _busy() - self._busy - (time.process_time() - self._own) - mine.user - mine.system
        return max(0.0, used / (time.monotonic() - self._begun))


def _busy() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


@dataclass(frozen=True, slots=True)
class _Unit:
    cpu: float
    process: int

    @classmethod
    def parse(cls, block: str) -> tuple[str, Self]:
        values = dict(line.split("=", 1) for line in block.splitlines())
        cpu = values["CPUUsageNSec"]
        return values["Id"], cls(int(cpu) / 1e9 if cpu.isdigit() else 0.0, int(values["MainPID"]))


def read(machine: Machine, load: HostLoad) -> Boot:
    """The figures of the boot that has just ended. RigError when systemd did not end it well."""
    disturbance = load.others(machine)
    # First of all: what is asked for below costs the guest CPU.
    ticks = machine.read_file("/proc/stat").decode().split("\n", 1)[0].split()[1:]
    state = machine.wait_booted()
    if state != "running":
        raise RigError(f"the boot ended {state}: {machine.output('systemctl --failed --no-pager')}")
    cpu = _slice_cpu(machine)
    units = _units(machine)
    clients = sum(unit.cpu for name, unit in units.items() if name.removesuffix(".service") in STAGES)
    daemon, children = _process(machine, units.get(_DAEMON))
    return Boot(
        ssh=_moment(machine, "ssh.service", "ActiveEnterTimestampMonotonic"),
        end=_moment(machine, "", "FinishTimestampMonotonic"),
        cpu=cpu,
        machine_cpu=sum(int(ticks[index]) for index in (0, 1, 2, 5, 6)) * _TICK,
        available=_available(machine),
        charged=_number(machine, f"{SLICE_FOLDER}/memory.current"),
        clients=clients,
        daemon=daemon,
        children=children,
        transient=max(0.0, cpu - sum(unit.cpu for unit in units.values())),
        disturbance=disturbance,
    )


def _moment(machine: Machine, unit: str, name: str) -> float:
    """A time that systemd noted, in seconds since the kernel started."""
    microseconds = int(machine.output(["systemctl", "show", "--value", f"--property={name}", *unit.split()]))
    if not microseconds:
        raise RigError(f"systemd has no {name} of {unit or 'the boot'}")
    return microseconds / 1e6


def _slice_cpu(machine: Machine) -> float:
    """Seconds, user and system, of every process that was ever in the contender's units."""
    stat = machine.output(f"cat {SLICE_FOLDER}/cpu.stat 2>/dev/null || :")
    values = dict(line.split() for line in stat.splitlines())
    return int(values.get("usage_usec", "0")) / 1e6


def _units(machine: Machine) -> dict[str, _Unit]:
    patterns = [f"{prefix}-*.service" for prefix in PREFIXES]
    shown = machine.output(["systemctl", "show", "--property=Id,CPUUsageNSec,MainPID", *patterns])
    return dict(_Unit.parse(block) for block in shown.split("\n\n") if block.strip())


def _process(machine: Machine, unit: _Unit | None) -> tuple[float, float]:
    """CPU of the daemon itself, with what its process was before it became Python; and of its children that
    have ended (proc_pid_stat(5): utime, stime, cutime, cstime).
    """
    if unit is None or not unit.process:
        return 0.0, 0.0
    stat = machine.read_file(f"/proc/{unit.process}/stat").decode().rpartition(")")[2].split()
    own, children = (int(stat[at]) + int(stat[at + 1]) for at in (11, 13))
    return own * _TICK, children * _TICK


def _available(machine: Machine) -> int:
    """MemAvailable, in bytes, with caches emptied: they depend on what was read, not on what runs."""
    machine.run("sync; echo 3 > /proc/sys/vm/drop_caches")
    return int(machine.output("awk '/^MemAvailable/ {print $2}' /proc/meminfo")) * 1024


def _number(machine: Machine, path: str) -> int:
    return int(machine.output(f"cat {path} 2>/dev/null || echo 0"))
