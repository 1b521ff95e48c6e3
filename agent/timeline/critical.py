"""The critical path to ssh: the unit that each unit waited for last. Pure functions.

The method is that of systemd-analyze(1), critical-chain: of the units in After=, the one that was ready
last. Unlike there, a unit that a condition skipped is on the path as well, since what is ordered after it
waited for the check; a unit that was restarted has the times of its first start; and each second before the
goal belongs to one part, so that the parts add up.
"""

from __future__ import annotations

from agent.lib.records import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agent.timeline.recorded import Manager, Unit

#: Units of which the first to be active lets users in. With a socket, the service starts at the first
#: connection.
GOALS = ("ssh.service", "sshd.service", "ssh.socket", "sshd.socket")
KERNEL, INITRD, SYSTEMD = "kernel", "initrd", "systemd"


@dataclass(frozen=True, slots=True)
class Part:
    """A span of time. ``waited`` is the time between it and the part before, which no unit on the path used:
    PID 1 had other work, or waited for a processor.
    """

    name: str
    begin: float
    end: float
    waited: float = 0.0
    note: str = ""
    inner: tuple[Part, ...] = ()

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.end - self.begin


def goal(units: Mapping[str, Unit]) -> Unit | None:
    """Return the unit by which ssh was reachable first; None if it is not."""
    found = [units[name] for name in GOALS if name in units and units[name].begin and units[name].end]
    return min(found, key=lambda unit: unit.end, default=None)


def candidates(units: Mapping[str, Unit]) -> frozenset[str]:
    """Return the names of all units that can be on the path: the goals, and what they are ordered after."""
    found, waiting = set[str](), [name for name in GOALS if name in units]
    while waiting:
        if (name := waiting.pop()) not in found:
            found.add(name)
            waiting += [before for before in units[name].after if before in units]
    return frozenset(found)


def devices(units: Mapping[str, Unit]) -> list[str]:
    """Return the names of devices that units are ordered after and that have none here: of a device's names
    (its links below /dev) systemctl(1) lists one, and shows the others only by name.
    """
    names = {name for unit in units.values() for name in unit.after if name.endswith(".device")}
    return sorted(names - units.keys())


def chain(units: Mapping[str, Unit], last: Unit, since: float) -> list[Unit]:
    """Return the units on the path to ``last``, in their order; none that was ready before ``since``."""
    path = [last]
    while True:
        begun = path[-1].start
        before = [
            unit
            for name in path[-1].after
            if (unit := units.get(name)) and since < unit.settled <= begun and unit not in path
        ]
        if not before:
            return path[::-1]
        path.append(max(before, key=lambda unit: (unit.settled, unit.start)))


def boot(manager: Manager) -> Iterator[Part]:
    """Yield the parts of the boot before the first unit."""
    yield Part(KERNEL, 0.0, manager.initrd or manager.userspace)
    if manager.initrd:
        yield Part(INITRD, manager.initrd, manager.userspace)
    yield Part(SYSTEMD, manager.userspace, max(manager.loaded, manager.userspace))


def path(manager: Manager, units: Mapping[str, Unit]) -> tuple[Part, ...]:
    """Return the parts from the kernel's start to ssh; none if one of the two is not recorded."""
    last = goal(units)
    if last is None or not manager.userspace:
        return ()
    found = list(boot(manager))
    for unit in chain(units, last, manager.userspace):
        begin = max(unit.start, found[-1].end)
        note = "" if unit.begin else "skipped"
        found.append(Part(unit.name, begin, max(unit.settled, begin), begin - found[-1].end, note))
    return tuple(found)


def total(parts: Sequence[Part]) -> float:
    """Return the seconds of all parts, with what was waited before them."""
    return sum(part.seconds + part.waited for part in parts)
