"""Hot-plug: the time from the kernel's event until the disk can be used, with a resident agent, an agent
that the event starts, and a bare udev rule that mounts, in one guest with a clock that counts instructions.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from tests.vm.bench.contenders import SLICE_FOLDER
from tests.vm.checks import private_memory
from tests.vm.rig import MIB, Bus, Disk, Machine, MachineSpec, RigError, make_filesystem
from tests.vm.rig.channel import Pending

_WATCH = Path(__file__).with_name("guest_watch.py")
#: Attaches of one disk by each way, in turn; numbers of disks that are attached at once.
ROUNDS = 3
MANY = (1, 16, 64)
_UNITS = "gandi-agent-uevent.socket gandi-agent.socket gandi-agent.service"
_SIZE, _GROWN = 64 * MIB, 128 * MIB
#: Minimum size in bytes of a grown filesystem.
_ENOUGH = _GROWN * 8 // 10
_RULES = "/run/udev/rules.d/99-bench.rules"
_RULE = (
    'SUBSYSTEM=="block", ACTION=="add", ENV{{ID_FS_USAGE}}=="filesystem", KERNEL!="vda*", '
    'RUN+="/usr/bin/systemd-mount --no-block --collect{} $devnode /srv/%k"\n'
    'SUBSYSTEM=="block", ACTION=="change", ENV{{RESIZE}}=="1", '
    'RUN+="/usr/bin/systemd-run --no-block --collect /usr/sbin/resize2fs $devnode"\n'
)


class Way(StrEnum):
    """The program that mounts and grows."""

    RESIDENT = "agent, resident"
    WOKEN = "agent, started by the event"
    RULE = "bare rule, --fsck=no"
    RULE_FSCK = "bare rule, with fsck"


#: Upper limits as a share of the bare rule's time (RULE_FSCK), from the kernel's event to mounted.
TARGETS = {Way.RESIDENT: 0.6, Way.WOKEN: 1.2}
#: The reason for a missed target.
WHY = {
    Way.WOKEN: " The rule starts a program of systemd; the agent starts an interpreter in its sandbox."
    " The parts of that time: docs/decisions/hotplug.md."
}
#: Number of disks at once, and the upper limit as a share of the bare rule's time.
MANY_TARGET = (64, 0.8)
#: The machine for CPUs and memory, with a kernel that leaves both offline.
#: Not counted: QEMU ends with "Bad icount read" on a machine that may get a second CPU.
RESOURCES = MachineSpec(max_cpus=2, cmdline=("memhp_default_state=offline",), debian_initrd=True)
#: Upper limit of the daemon's private memory in bytes.
MEMORY_TARGET = 16 * MIB


@dataclass(frozen=True, slots=True)
class Plug:
    """Times of one disk in seconds, from the kernel's event until it is mounted, and from the resize event
    until its filesystem has grown.
    """

    mounted: float
    grown: float


@dataclass(slots=True)
class HotPlug:
    """All measurements."""

    plugs: dict[Way, list[Plug]] = field(default_factory=dict)
    #: Disks at once -> seconds from the first event of the kernel until the last is mounted.
    many: dict[Way, dict[int, float]] = field(default_factory=dict)
    #: Bytes, Private_Clean and Private_Dirty: after one disk, and after the largest number of disks at once.
    memory_one: int = 0
    memory_many: int = 0
    #: Number of the agent's processes at rest.
    at_rest: int = 0
    #: Seconds from the kernel's first event until a CPU, or a module of memory, is online, by each way.
    online: dict[str, dict[Way, float]] = field(default_factory=dict)


def measure(machine: Machine, folder: Path, say: Callable[[str], None]) -> HotPlug:
    """Measure everything on a booted machine."""
    rounds = int(os.environ.get("BENCH_PLUGS", str(ROUNDS)))
    machine.write_file("/root/watch.py", _WATCH.read_bytes())
    most = int(os.environ.get("BENCH_DISKS", str(max(MANY))))
    done, path = HotPlug(), make_filesystem(folder / "one.img", _SIZE, "ext4", label="one")
    content = path.read_bytes()
    for number in range(rounds):
        for way in Way:
            path.write_bytes(content)
            _become(machine, way)
            plug = _one(machine, way, path)
            done.plugs.setdefault(way, []).append(plug)
            times = f"mounted {plug.mounted:.2f} s, grown {plug.grown:.2f} s"
            say(f"hot-plug {number + 1}/{rounds} {way}: {times}")
            if way is Way.RESIDENT:
                done.memory_one = max(done.memory_one, private_memory(machine))
    for way in (Way.RESIDENT, Way.RULE_FSCK):
        _become(machine, way)
        for count in (number for number in MANY if number <= most):
            seconds = _many(machine, list(_disks(folder, count)))
            done.many.setdefault(way, {})[count] = seconds
            say(f"hot-plug {count} at once, {way}: {seconds:.1f} s")
            if way is Way.RESIDENT:
                done.memory_many = private_memory(machine)
            _take_away(machine, count)
    _become(machine, Way.WOKEN)
    done.at_rest = len(machine.output(f"find {SLICE_FOLDER} -name cgroup.procs -exec cat {{}} +").split())
    return done


def measure_online(machine: Machine, done: HotPlug, say: Callable[[str], None]) -> None:
    """Add a CPU or a memory module to a booted machine that was started as ``RESOURCES``."""
    machine.write_file("/root/watch.py", _WATCH.read_bytes())
    for number, way in enumerate((Way.RESIDENT, Way.WOKEN)):
        _become(machine, way)
        watching = _watch(machine, "online memory 2")
        machine.add_memory(f"memory{number}", 256)
        _note(done, "256 MiB of memory", way, watching, say)
        _settle(machine, way)
    watching = _watch(machine, "online cpu 1")
    machine.add_cpu("cpu1")
    _note(done, "a CPU", Way.WOKEN, watching, say)


def _note(done: HotPlug, what: str, way: Way, watching: Pending, say: Callable[[str], None]) -> None:
    seen = _result(watching.result().checked().stdout)
    done.online.setdefault(what, {})[way] = seen["last"] - seen["told"][0]
    say(f"hot-plug {what}, {way}: {done.online[what][way]:.2f} s")


def _become(machine: Machine, way: Way) -> None:
    """Set the guest up so that only ``way`` mounts and grows disks."""
    machine.run(f"systemctl stop {_UNITS}; mkdir -p {Path(_RULES).parent}; rm -f {_RULES}")
    if way in (Way.RULE, Way.RULE_FSCK):
        machine.write_file(_RULES, _RULE.format(" --fsck=no" if way is Way.RULE else ""))
    machine.run("udevadm control --reload; udevadm settle")
    if way in (Way.RESIDENT, Way.WOKEN):
        rest = 0 if way is Way.RESIDENT else 1
        machine.run(f"echo CONFIG_IDLE_EXIT={rest} >> /etc/default/gandi")
        machine.run("systemctl start gandi-agent.service")
        _settle(machine, way)


def _settle(machine: Machine, way: Way) -> None:
    """Wait until the agent is idle (resident) or has exited (started by the event)."""
    if way is Way.WOKEN:
        machine.wait_until("test $(systemctl is-active gandi-agent) = inactive")
    elif way is Way.RESIDENT:
        machine.wait_until("test $(ls /proc/$(systemctl show -P MainPID gandi-agent)/task | wc -l) = 1")
    machine.run("udevadm settle")


def _one(machine: Machine, way: Way, path: Path) -> Plug:
    disk = Disk(path=path, id="one")
    watching = _watch(machine, "mounted 1")
    machine.add_disk(disk)
    seen = _result(watching.result().checked().stdout)
    at = machine.output("findmnt -rno TARGET | grep ^/srv/")
    _settle(machine, way)
    watching = _watch(machine, f"grown {at} {_ENOUGH}")
    machine.resize_disk("one", _GROWN)
    larger = _result(watching.result().checked().stdout)
    _settle(machine, way)
    machine.remove_disk("one")
    machine.run(f"umount {at} 2>/dev/null", check=False)
    machine.wait_until(f"! mountpoint -q {at}")
    _settle(machine, way)
    return Plug(seen["last"] - seen["told"][0], larger["last"] - larger["told"][0])


def _many(machine: Machine, disks: list[Disk]) -> float:
    """Return the seconds from the first event until all are mounted. Raise RigError if one is lost."""
    watching = _watch(machine, f"mounted {len(disks)}")
    for disk in disks:
        machine.add_disk(disk)
    seen = _result(watching.result().checked().stdout)
    if seen["done"] != len(disks):
        raise RigError(f"{seen['done']} of {len(disks)} disks were mounted")
    return float(seen["last"] - seen["told"][0])


def _take_away(machine: Machine, count: int) -> None:
    for number in range(count):
        machine.remove_disk(f"many{number}")
    machine.run("findmnt -rno TARGET | grep ^/srv/ | xargs -r umount 2>/dev/null", check=False)
    machine.wait_until("! findmnt -rno TARGET | grep -q ^/srv/", timeout=300)
    machine.run("udevadm settle", timeout=200)


def _disks(folder: Path, count: int) -> Iterator[Disk]:
    for number in range(count):
        path = folder / f"many{number}.img"
        if not path.exists():
            make_filesystem(path, 16 * MIB, "ext4", label=f"many{number}")
        yield Disk(path=path, id=f"many{number}", bus=Bus.SCSI, vendor="gandi.ne", serial=f"many{number}")


def _watch(machine: Machine, what: str) -> Pending:
    machine.run("rm -f /run/watching")
    watching = machine.spawn(f"python3 -I /root/watch.py {what} | tee /run/watching", timeout=1000)
    machine.wait_until("grep -q ready /run/watching", interval=0.05)
    return watching


def _result(output: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found
