"""Where the agent's CPU goes: two boots of a machine of its own, whose daemon takes notes.

The notes cost CPU themselves, so nothing here is compared with anybody: the split of a compared boot takes
from here only what its own accounts cannot tell, which is the share of the imports and of the reader.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, Self

from tests.vm.bench import guest_profile
from tests.vm.rig import GuestFile, Machine, RigError

_PLACE = "/usr/lib/rig/profile.py"
_DROP_IN = f"[Service]\nExecStart=\nExecStart=/usr/bin/python3 -I {_PLACE} daemon\n".encode()
FILES = (
    GuestFile(_PLACE, Path(guest_profile.__file__).read_bytes()),
    GuestFile("/etc/systemd/system/gandi-agent.service.d/profile.conf", _DROP_IN),
)


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the daemon's work: its own CPU, imports in it, its children's CPU, and its commands."""

    name: str
    own: float
    imports: float
    children: float
    commands: int


@dataclass(frozen=True, slots=True)
class Breakdown:
    """One boot's notes. CPU in seconds."""

    #: The daemon's process until its first line: systemd's preparations, the interpreter.
    start: float
    #: The daemon's imports.
    imports: float
    #: The reader's whole CPU, and the part of it until it was ready to read.
    reader: float
    reader_imports: float
    #: CPU and number of the records of progress (status.json), within the steps and outside.
    records: tuple[float, int]
    phases: tuple[Phase, ...]
    #: CPU and number of runs of each command.
    commands: tuple[tuple[str, float, int], ...]
    #: Modules without what they import, the dearest first: the daemon's, and the reader's.
    modules: tuple[tuple[str, float], ...]
    reader_modules: tuple[tuple[str, float], ...]

    @classmethod
    def of(cls, machine: Machine, daemon: float) -> Self:
        """From the notes of the boot that has ended, and the CPU of the daemon's own process in it.

        RigError when the daemon took no notes.
        """
        text = machine.read_file(guest_profile.NOTES).decode()
        notes = [json.loads(line) for line in text.splitlines()]
        phases = tuple(_phases(notes))
        if not phases:
            raise RigError("the daemon's notes name no step: does guest_profile.py still fit the agent?")
        ours = {note["pid"] for note in notes if note["what"] == "daemon started"}
        everyone = [note for note in notes if note["what"] == "import"]
        imports = [note for note in everyone if note["pid"] in ours]
        start, steps = _total(notes, "daemon started"), sum(phase.own for phase in phases)
        outside = sum(note["cpu"] for note in imports) - sum(phase.imports for phase in phases)
        rest = Phase("outside the steps", daemon - start - steps, outside, 0.0, 0)
        return cls(
            start=start,
            imports=sum(note["cpu"] for note in imports),
            reader=sum(note["children"] for note in notes if note["what"] == "reader"),
            reader_imports=_total(notes, "reader ready"),
            records=(_total(notes, "record"), sum(note["what"] == "record" for note in notes)),
            phases=(*phases, rest),
            commands=tuple(_commands(notes)),
            modules=_dearest(imports),
            reader_modules=_dearest([note for note in everyone if note["pid"] not in ours]),
        )


def _total(notes: list[dict[str, Any]], what: str) -> float:
    return float(sum(note["cpu"] for note in notes if note["what"] == what))


def _dearest(notes: list[dict[str, Any]]) -> tuple[tuple[str, float], ...]:
    pairs = ((note["name"], note["cpu"]) for note in notes)
    return tuple(sorted(pairs, key=itemgetter(1), reverse=True))


def _phases(notes: list[dict[str, Any]]) -> Iterator[Phase]:
    """The steps in the order of their ends; what a step does as an attempt of its own counts to the step."""
    within: dict[int, list[dict[str, Any]]] = {}
    depth: Counter[int] = Counter()
    for note in notes:
        thread = note["thread"]
        if note["what"] == "step begins":
            depth[thread] += 1
        elif note["what"] == "step":
            depth[thread] -= 1
            if not depth[thread]:
                yield _phase(note, within.pop(thread, []))
        elif depth[thread]:
            within.setdefault(thread, []).append(note)


def _phase(step: dict[str, Any], within: list[dict[str, Any]]) -> Phase:
    commands = sum(note["what"] in ("command", "reader") for note in within)
    return Phase(step["name"], step["cpu"], _total(within, "import"), step["children"], commands)


def _commands(notes: list[dict[str, Any]]) -> Iterator[tuple[str, float, int]]:
    """CPU of the children and number of runs, by command, the dearest first."""
    cpu: Counter[str] = Counter()
    runs: Counter[str] = Counter()
    for note in notes:
        if note["what"] in ("command", "reader"):
            name = note["name"] if note["what"] == "command" else f"reader {note['name']}"
            cpu[name] += note["children"]
            runs[name] += 1
    for name, seconds in cpu.most_common():
        yield name, seconds, runs[name]
