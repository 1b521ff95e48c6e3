"""The records of a boot, read from text: systemd's times of units, journal entries. No effects.

All times are seconds of CLOCK_MONOTONIC, which begins with the kernel.
"""

from __future__ import annotations

from agent.lib.canonical_json import parsed_object
from agent.lib.records import dataclass, field, replace
from agent.lib.text import lines, number, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

#: Properties of the manager and of each unit, as systemctl(1) shows them (org.freedesktop.systemd1(5)).
_MANAGER = ("InitRD", "Userspace", "UnitsLoadFinish", "Finish")
_UNIT = ("InactiveExit", "ActiveEnter", "InactiveEnter", "Condition")
_SUFFIX = "TimestampMonotonic"
#: A journal entry's time: the end of its field's name.
_CLOCK = "MONOTONIC_TIMESTAMP"
MANAGER_PROPERTIES = tuple(f"{name}{_SUFFIX}" for name in _MANAGER)
UNIT_PROPERTIES = ("Id", "After", "What", "Where", *(f"{name}{_SUFFIX}" for name in _UNIT))
#: Identifiers of PID 1's messages about a unit (sd-messages.h).
STARTING = "7d4958e842da4a758f6c1cdc7b36dcc5"
STARTED = "39f53479d3a045ac8e11786248231fbf"
ENDED = "7ad2d189f7e94e70a38c781354912448"
FAILED = "d9b373ed55a64feb8242e02dbe79a49c"
#: Seconds for which the kernel's own time of a message is taken: journald starts late in a boot. The clock
#: of those times and CLOCK_MONOTONIC drift apart in days; later, journald may be late by _LATE at most.
_AGREE, _LATE = 600.0, 0.5


@dataclass(frozen=True, slots=True)
class Manager:
    """PID 1's own times; 0 for a part that this boot did not have."""

    initrd: float = 0.0
    userspace: float = 0.0
    #: All units are loaded: the first job can begin.
    loaded: float = 0.0
    #: The boot has ended; 0 while it has not.
    finished: float = 0.0


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit's last start. ``begin`` and ``end`` are 0 for one that was not started, or has not ended to."""

    name: str
    begin: float = 0.0
    end: float = 0.0
    #: When its conditions were checked.
    checked: float = 0.0
    after: tuple[str, ...] = ()
    what: str = ""
    where: str = ""

    @property
    def start(self) -> float:
        """When its job began; for a unit that was skipped by a condition, when that was checked."""
        return self.begin or self.checked

    @property
    def settled(self) -> float:
        """When units that are ordered after it could go on; 0 if that has not come."""
        return self.end if self.begin else self.checked


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the journal."""

    at: float
    message: str
    text: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str) -> str:
        """Return a field's value, "" without the field."""
        return self.fields.get(name, "")


def manager(shown: str) -> Manager:
    """Return the times in the output of ``systemctl show``."""
    found = _properties(shown)
    return Manager(*(_seconds(found.get(name, "")) for name in MANAGER_PROPERTIES))


def units(shown: str) -> dict[str, Unit]:
    """Return the units in the output of ``systemctl show '*'``, by name."""
    found = (_unit(_properties(block)) for block in shown.split("\n\n"))
    return {unit.name: unit for unit in found if unit.name}


def _unit(shown: Mapping[str, str]) -> Unit:
    begin, active, inactive, checked = (_seconds(shown.get(f"{name}{_SUFFIX}", "")) for name in _UNIT)
    # A oneshot without RemainAfterExit is never active; a unit that failed is inactive again.
    end = next((moment for moment in (active, inactive) if moment >= begin), 0.0)
    return Unit(
        shown.get("Id", ""),
        begin,
        end,
        checked,
        tuple(words(shown.get("After", ""))),
        shown.get("What", ""),
        shown.get("Where", ""),
    )


def first_start(unit: Unit, found: Sequence[Entry]) -> Unit:
    """Return the unit with the times of its first start in this boot, if the journal has an earlier one: a
    restart replaces the times that systemd keeps.
    """
    started = next((entry.at for entry in found if _is_about(entry, STARTED, "Started", unit)), 0.0)
    if not started or (unit.begin and started >= unit.begin):
        return unit
    starts = (entry.at for entry in found if _is_about(entry, STARTING, "Starting", unit))
    begun = next(starts, started)
    return replace(unit, begin=min(begun, started), end=started)


def _is_about(entry: Entry, message: str, verb: str, unit: Unit) -> bool:
    """Return whether it is that entry of PID 1 about the unit. One about journald is in the kernel's log,
    without fields.
    """
    if entry.message:
        return entry.message == message and entry.get("UNIT") == unit.name
    return entry.text.startswith(f"{verb} {unit.name} - ")


def entries(output: str) -> list[Entry]:
    """Return the entries in the output of ``journalctl --output=json``; a damaged line is left out."""
    return [_entry(found) for line in lines(output) if (found := parsed_object(line)) is not None]


def _entry(entry: Mapping[str, Any]) -> Entry:
    # A field with several values or with undecodable bytes is a list, a large one null: none has a use here.
    fields = {name: value for name, value in entry.items() if isinstance(value, str)}
    received, source = (_seconds(fields.get(name, "")) for name in (f"__{_CLOCK}", f"_SOURCE_{_CLOCK}"))
    is_its = received < _AGREE or 0 < received - source < _LATE
    at = source if source and is_its else received
    return Entry(at, fields.get("MESSAGE_ID", ""), fields.get("MESSAGE", ""), fields)


def _properties(shown: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in lines(shown) if "=" in line)


def _seconds(text: str) -> float:
    """Return microseconds as seconds; 0 for anything else, and for systemd's "infinity" (2⁶⁴-1)."""
    value = number(text) or 0
    return value / 1e6 if value < 1 << 63 else 0.0
