"""What must not grow in a machine that runs for a week, counted at a checkpoint."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.vm.checks import private_memory
from tests.vm.rig import Machine

_CURSOR = "/run/week.cursor"
#: PID 1's word for the start of the daemon.
_STARTED = "Started gandi-agent.service"
#: Lists of names and sizes.
_FILES = "find /run/gandi /var/lib/gandi -type f -printf '%p %s\\n' | sort"
_LIST = "systemctl list-units --all --plain --no-legend --no-pager"
_UNITS = f"{_LIST} 'gandi*' '*.mount' '*.timer' | cut -d' ' -f1 | sort"
_UNITS_OF_ALL = f"{_LIST} | wc -l"
_TAGGED = "ls /run/udev/tags/gandi"
_SOCKETS = "awk '$2 == 15 {rmem += $5; drops += $9} END {print rmem + 0, drops + 0}' /proc/net/netlink"
_PID1 = "ls /proc/1/fd | wc -l; awk '/^VmRSS/ {print $2}' /proc/1/status"
_DATA, _DISK = re.compile(r"\bvd[b-d]\b"), "vdX"
_OURS = "pgrep -c -f '[/]usr/bin/gandi-agent' || true"


@dataclass(frozen=True, slots=True)
class Rest:
    """A machine at rest: nothing of the agent runs. Sizes in bytes."""

    #: Files of the agent in /run and /var/lib, with their sizes; `_DISK` for each data disk's name, which is
    #: another one if a disk comes while the last one is still mounted. A lock of each name stays.
    files: dict[str, int]
    #: Loaded units: the agent's, mounts and timers; how many of all.
    units: tuple[str, ...]
    all_units: int
    #: Number of devices with the tag in udev's database.
    tagged: int
    #: Bytes that wait in netlink sockets of uevents, and events that were dropped.
    waiting: int
    dropped: int
    #: Descriptors and memory of PID 1.
    descriptors: int
    memory: int

    @property
    def bytes(self) -> int:
        """Return the size of all files."""
        return sum(self.files.values())


@dataclass(frozen=True, slots=True)
class Awake:
    """The daemon while it runs."""

    memory: int
    descriptors: int
    threads: int


def at_rest(vm: Machine) -> Rest:
    """Count in a machine in which the daemon has exited."""
    files: dict[str, int] = {}
    for line in vm.output(_FILES).splitlines():
        path, size = line.rsplit(" ", 1)
        name = _DATA.sub(_DISK, path)
        # The second file of this name is one too many, unless it is a lock.
        files[path if name in files and "/locks/" not in path else name] = int(size)
    waiting, dropped = vm.output(_SOCKETS).split()
    descriptors, memory = vm.output(_PID1).split()
    return Rest(
        files,
        tuple(vm.output(_UNITS).split()),
        int(vm.output(_UNITS_OF_ALL)),
        len(vm.output(_TAGGED).split()),
        int(waiting),
        int(dropped),
        int(descriptors),
        int(memory) * 1024,
    )


def awake(vm: Machine) -> Awake:
    """Count in the running daemon."""
    process = f"/proc/{vm.output('systemctl show -P MainPID gandi-agent')}"
    descriptors, threads = vm.output(f"ls {process}/fd | wc -l; ls {process}/task | wc -l").split()
    return Awake(private_memory(vm), int(descriptors), int(threads))


def runs(vm: Machine) -> int:
    """Return the number of processes of the agent."""
    return int(vm.output(_OURS))


class Journal:
    """The lines of the agent's units and of PID 1 about them, each counted once."""

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        self.lines = self.starts = 0
        self.read()
        self.lines = self.starts = 0

    def read(self) -> tuple[int, int]:
        """Count the new lines, and the starts of the daemon among them; return both."""
        argv = ["journalctl", "-q", "-o", "cat", "--no-pager", f"--cursor-file={_CURSOR}", "-u", "gandi-*"]
        self._vm.run("journalctl --sync")
        found = self._vm.output(argv).splitlines()
        starts = sum(line.startswith(_STARTED) for line in found)
        self.lines += len(found)
        self.starts += starts
        return len(found), starts
