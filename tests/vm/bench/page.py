"""docs/benchmarks.md: figures, ratios, targets and the method. Pure text."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from statistics import median

from tests.vm.bench import hotplug
from tests.vm.bench.contenders import Contender
from tests.vm.bench.hotplug import HotPlug, Way
from tests.vm.bench.measure import PARTS, Boot
from tests.vm.bench.sizes import Size
from tests.vm.rig import MIB


class Case(StrEnum):
    """A kind of boot."""

    FIRST = "first boot"
    KEYS = "first boot that makes SSH host keys"
    LATER = "later boot, nothing new"
    AGAIN = "later boot, same archive on a new disk"
    DISKS = "the same, and four known data disks"


#: The contenders that do the job.
PAIR = (Contender.AGENT, Contender.CLOUD_INIT)
_COLUMNS = (Contender.AGENT, Contender.EMPTY, Contender.CLOUD_INIT)
#: Allowance for the four disks that the agent mounts and cloud-init does not: 1 % each.
_DISKS = 0.04
#: Upper limits of the agent's figures as a share of cloud-init's, in the order of _MEASURES. The time of an
#: RSA key is chance: the CPU of that boot is shown and has no target.
TARGETS: dict[Case, tuple[float | None, ...]] = {
    Case.FIRST: (0.20, 0.25, None, 0.28),
    Case.KEYS: (0.15, None, None, None),
    Case.LATER: (0.08, 0.10, None, 0.25),
    Case.AGAIN: (0.12, 0.12, None, 0.25),
    Case.DISKS: (0.12 + _DISKS, 0.12 + _DISKS, None, 0.25),
}
#: Upper limit in bytes of the memory in use at rest, over the plain image's.
MEMORY_TARGET = 4 * MIB
#: The measures: name, unit, divisor to that unit, whether the plain image's value is subtracted, value.
_MEASURES: tuple[tuple[str, str, float, bool, Callable[[Boot], float]], ...] = (
    ("ssh later than plain", "s", 1, True, lambda boot: boot.ssh),
    ("CPU of own units", "M", 1e6, False, lambda boot: boot.cpu),
    ("CPU of own units until at rest", "M", 1e6, False, lambda boot: boot.cpu_at_rest),
    ("CPU of the machine over plain", "M", 1e6, True, lambda boot: boot.machine_cpu),
)
_HOTPLUG, _SIZE, _METHOD = "## Hot-plug", "## Size", Path(__file__).with_name("method.md")

Counted = dict[Case, dict[Contender, Boot]]


@dataclass(frozen=True, slots=True)
class Results:
    """All figures, and the machine that they were counted in."""

    setting: str
    counted: Counted
    sizes: dict[Contender, Size]


@dataclass(frozen=True, slots=True)
class Figure:
    """One measure of one kind of boot, in ``unit``."""

    case: Case
    name: str
    unit: str
    of: dict[Contender, float]
    #: Upper limit of ``ratio``; None if it is not compared.
    target: float | None

    @property
    def ratio(self) -> float:
        """The agent's value divided by cloud-init's."""
        return self.of[Contender.AGENT] / self.of[Contender.CLOUD_INIT]


def figures(counted: Counted) -> Iterator[Figure]:
    """Yield all figures in the order of the page."""
    for case, boots in counted.items():
        for (name, unit, one, is_over, value), target in zip(_MEASURES, TARGETS[case], strict=True):
            base = value(boots[Contender.PLAIN]) if is_over else 0.0
            of = {who: (value(boots[who]) - base) / one for who in _COLUMNS if who in boots}
            yield Figure(case, name, unit, of, target)


def shares(counted: Counted, case: Case) -> dict[Contender, dict[str, float]]:
    """Return each part's CPU when ssh started, in millions of instructions over the plain image's."""
    boots = counted[case]
    plain = boots[Contender.PLAIN].shares
    return {
        who: {part: (boots[who].shares[part] - plain[part]) / 1e6 for part in PARTS}
        for who in _COLUMNS
        if who in boots
    }


def recounted(page: str, results: Results) -> str:
    """Return the page with new figures of boots, and the part on hot-plug unchanged."""
    hot = page[page.index(f"{_HOTPLUG}\n") : page.index(f"{_SIZE}\n")].rstrip()
    parts = ["# What the agent costs", *_counted(results), hot, _SIZE, _sizes(results.sizes)]
    return "\n\n".join((*parts, _METHOD.read_text()))


def renewed(page: str, done: HotPlug) -> str:
    """Return the page with a new part on hot-plug."""
    before, after = page.partition(f"{_HOTPLUG}\n")[0], page[page.index(f"{_SIZE}\n") :]
    return before + "\n\n".join((_HOTPLUG, *_hotplug(done), after))


# -- what is counted -----------------------------------------------------------------------------


def _counted(results: Results) -> Iterator[str]:
    how = (
        "the guest's clock counts instructions, 125 million (M) are a second; no figure depends on the host"
    )
    yield f"{time.strftime('%Y-%m-%d')}. {results.setting} Counted: {how}. Made by `make bench`."
    yield "![Chart of the two tables below](benchmarks.svg)"
    yield "## Boots"
    yield compared(results.counted)
    yield "## CPU used when ssh started"
    yield parts_used({case: boots for case, boots in results.counted.items() if case is not Case.KEYS})
    yield "## Memory"
    yield from _memory(results.counted)


def compared(counted: Counted) -> str:
    """Return the first table: all figures with their targets."""
    head = ["", "", *map(str, _COLUMNS), "agent / cloud-init", "target", ""]
    return _table(head, list(map(_compared, figures(counted))))


def parts_used(counted: Counted) -> str:
    """Return the second table: the CPU used when ssh started, by part."""
    rows = [
        [str(case), str(who), *(f"{used:.0f}" for used in parts.values()), f"{sum(parts.values()):.0f}"]
        for case in counted
        for who, parts in shares(counted, case).items()
    ]
    return _table(["M instructions over plain", "", *PARTS, "all"], rows)


def _compared(figure: Figure) -> list[str]:
    shown = f".{2 if figure.unit == 's' else 0}f"
    values = [f"{figure.of[who]:{shown}} {figure.unit}" if who in figure.of else "" for who in _COLUMNS]
    if figure.case is Case.KEYS and figure.target is None:
        return [figure.case, figure.name, *values, "", "", ""]
    target = [""] * 2
    if figure.target is not None:
        target = [f"{figure.target:.0%}", _met(figure.ratio <= figure.target)]
    return [figure.case, figure.name, *values, f"{figure.ratio:.1%}", *target]


def _memory(counted: Counted) -> Iterator[str]:
    rows, most = [], 0
    for case in (Case.FIRST, Case.LATER):
        boots = counted[case]
        more = {who: boots[Contender.PLAIN].available - boots[who].available for who in _COLUMNS}
        rows.append([case, *(f"{more[who] / MIB:.1f} MiB" for who in _COLUMNS)])
        most = max(most, more[Contender.AGENT])
    yield _table(["in use over plain, at rest", *map(str, _COLUMNS)], rows)
    yield f"Target: at most {MEMORY_TARGET // MIB} MiB: {_met(most <= MEMORY_TARGET)}."


def _sizes(sizes: dict[Contender, Size]) -> str:
    rows = [
        [
            str(who),
            f"{size.all / MIB:.1f} MiB",
            f"{size.without_python / MIB:.1f} MiB",
            str(len(size.packages)),
        ]
        for who, size in sizes.items()
    ]
    return _table(["added to the image", "total", "if Python is installed already", "packages"], rows)


# -- hot-plug ------------------------------------------------------------------------------------


def _hotplug(done: HotPlug) -> Iterator[str]:
    rows = []
    for way, plugs in done.plugs.items():
        values = [[getattr(plug, name) for plug in plugs] for name in ("mounted", "grown")]
        rows.append([str(way), *map(_spread, values)])
    rounds = len(done.plugs[Way.RESIDENT])
    if rounds < hotplug.ROUNDS:
        yield f"> **Not final:** {rounds} round(s); a median needs {hotplug.ROUNDS}."
    yield f"{time.strftime('%Y-%m-%d')}, {rounds} rounds, counted as the boots are."
    yield _table(["one disk", "kernel's event to mounted", "resize event to df"], rows)
    bare = median(plug.mounted for plug in done.plugs[Way.RULE_FSCK])
    for way, target in hotplug.TARGETS.items():
        ours = median(plug.mounted for plug in done.plugs[way])
        is_met = ours <= target * bare
        why = "" if is_met else hotplug.WHY.get(way, "")
        compared = f"at most {target:.0%} of the {Way.RULE_FSCK}; {_ratio(ours, bare)}: {_met(is_met)}."
        yield f"Target, {way}: {compared}{why}"
    ways = list(done.many)
    counts = [[str(n), *(f"{done.many[way][n]:.1f} s" for way in ways)] for n in done.many[ways[0]]]
    yield _table(["disks at once, until the last is mounted", *map(str, ways)], counts)
    number, target = hotplug.MANY_TARGET
    if number in done.many[Way.RESIDENT]:
        ours, rule = (done.many[way][number] for way in (Way.RESIDENT, Way.RULE_FSCK))
        word = _met(ours <= target * rule)
        yield f"Target, {number} at once: at most {target:.0%} of the rule; {_ratio(ours, rule)}: {word}."
    online = [f"{what}, {way}: {s:.2f} s" for what, ways in done.online.items() for way, s in ways.items()]
    yield f"From the kernel's event until online, not counted: {'; '.join(online) or 'not measured'}."
    most = max(done.memory_one, done.memory_many)
    yield (
        f"Private memory (Private_Clean + Private_Dirty): {done.memory_one / MIB:.1f} MiB after one "
        f"disk, {done.memory_many / MIB:.1f} MiB after the largest number at once; target at most "
        f"{hotplug.MEMORY_TARGET // MIB} MiB: {_met(most <= hotplug.MEMORY_TARGET)}. "
        f"Processes at rest: {done.at_rest}; target none: {_met(not done.at_rest)}."
    )


# -- words ---------------------------------------------------------------------------------------


def _met(is_met: bool, /) -> str:
    return "**met**" if is_met else "**NOT met**"


def _spread(values: Sequence[float], unit: str = "s") -> str:
    return f"{median(values):.2f} {unit} [{min(values):.2f}, {max(values):.2f}]"


def _ratio(one: float, other: float) -> str:
    return f"{one / other:.0%}" if other > 0 else "no ratio"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
