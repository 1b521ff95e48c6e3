"""The page: medians, ratios, whether the targets are met, and how it was measured. Pure text."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.vm.bench import hotplug
from tests.vm.bench.breakdown import Breakdown
from tests.vm.bench.contenders import Contender
from tests.vm.bench.hotplug import HotPlug, Way
from tests.vm.bench.measure import QUIET, Boot
from tests.vm.bench.sizes import Size
from tests.vm.rig import MIB

#: Boots of which medians are published; fewer are for trying out.
ROUNDS = 3
KINDS = ("first boot", "later boot")
#: The most that the agent may take of what cloud-init takes: delay of ssh, CPU.
TARGETS = {"first boot": (0.20, 0.30), "later boot": (0.10, 0.15)}

#: Who does the job.
PAIR = (Contender.AGENT, Contender.CLOUD_INIT)
_COLUMNS = (Contender.AGENT, Contender.EMPTY, Contender.CLOUD_INIT)
#: Seconds that an instruction takes where they are counted.
_INSTRUCTION = 8e-9
#: The last part of the page.
_METHOD = Path(__file__).with_name("method.md")

Rounds = list[dict[Contender, Boot]]


@dataclass(frozen=True, slots=True)
class Setting:
    """What was measured on."""

    date: str
    processor: str
    cores: int
    accelerator: str
    guest_memory: int  # MiB
    guest_system: str


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that was measured."""

    setting: Setting
    rounds: dict[str, Rounds]
    breakdowns: dict[str, Breakdown]
    #: Of each kind, boots of guests that count instructions.
    counted: Rounds
    sizes: dict[Contender, Size]
    #: None where only boots were measured.
    hotplug: HotPlug | None


def text(results: Results, before: str = "") -> str:
    """The whole page, in Markdown; the part on hot-plug is that of the page ``before`` where it was not
    measured.
    """
    parts = ["# What the agent costs", *_standing(results), *_setting(results)]
    for kind in KINDS:
        parts += [f"## {kind.capitalize()}", _compared(results, kind), *_verdicts(results, kind)]
        parts += [f"### Where the agent's CPU goes, {kind}", _split(results, kind)]
    parts += [_COUNTED, *_counted(results.counted)]
    parts += [_HOTPLUG, *_hotplug(results.hotplug)] if results.hotplug else [_part(before)]
    parts += ["## Size", _sizes(results), "## Notes of a profiled boot"]
    for kind in KINDS:
        parts += [
            f"### {kind.capitalize()}",
            _phases(results.breakdowns[kind]),
            _dearest(results.breakdowns[kind]),
        ]
    return "\n\n".join((*parts, _METHOD.read_text()))


# -- how far to be trusted -----------------------------------------------------------------------


def disturbed(results: Results) -> float:
    """The largest part of the host that others had during a boot, in cores."""
    boots = [boot for kind in KINDS for one in results.rounds[kind] for boot in one.values()]
    return max(boot.disturbance for boot in boots)


def _standing(results: Results) -> Iterator[str]:
    rounds, others = len(results.rounds[KINDS[0]]), disturbed(results)
    if others > QUIET:
        yield f"> **Not final:** the host was loaded: others used up to {others:.2f} cores during a boot."
    if rounds < ROUNDS:
        yield f"> **Not final:** {rounds} round(s); medians take {ROUNDS}."


def _setting(results: Results) -> Iterator[str]:
    given, rounds = results.setting, len(results.rounds[KINDS[0]])
    yield (
        f"{given.date}. Host: {given.processor}, {given.cores} cores. Guest: {given.guest_system}, 1 vCPU, "
        f"{given.guest_memory} MiB, accelerator {given.accelerator}. {rounds} round(s) "
        f"of each boot, in turn; medians, and in brackets the least and the most. Made by `make bench`."
    )


# -- the comparison ------------------------------------------------------------------------------


def delay(rounds: Rounds, who: Contender, value: Callable[[Boot], float]) -> list[float]:
    """How much more than the plain image of the same round, round by round."""
    return [value(one[who]) - value(one[Contender.PLAIN]) for one in rounds]


def _own(rounds: Rounds, who: Contender, value: Callable[[Boot], float]) -> list[float]:
    return [value(one[who]) for one in rounds]


def _compared(results: Results, kind: str) -> str:
    rounds = results.rounds[kind]
    ends = {f"plain image, {name}": _own(rounds, Contender.PLAIN, value) for name, value in _TIMES}
    lines = [[name, _spread(values), "", "", "", ""] for name, values in ends.items()]
    for name, unit, over, value in _ROWS:
        agent, empty, other = (over(rounds, who, value) for who in _COLUMNS)
        spreads = [_spread(values, unit) for values in (agent, empty, other)]
        ratios = [_ratio(median(values), median(other)) for values in (agent, empty)]
        lines.append([name, *spreads, *ratios])
    return _table(["", *map(str, _COLUMNS), "agent's ratio", "empty units' ratio"], lines)


_TIMES: tuple[tuple[str, Callable[[Boot], float]], ...] = (
    ("ssh answers", lambda boot: boot.ssh),
    ("end of the boot", lambda boot: boot.end),
)
_ROWS: tuple[tuple[str, str, Callable[..., list[float]], Callable[[Boot], float]], ...] = (
    ("ssh later than plain", "s", delay, lambda boot: boot.ssh),
    ("end of boot later than plain", "s", delay, lambda boot: boot.end),
    ("CPU of its units", "s", _own, lambda boot: boot.cpu),
    ("CPU of the whole machine over plain", "s", delay, lambda boot: boot.machine_cpu),
    ("less memory available than plain", "MiB", delay, lambda boot: -boot.available / MIB),
    ("memory charged to its units", "MiB", _own, lambda boot: boot.charged / MIB),
)


_COUNTED = "## Counted in instructions"


def recounted(page: str, counted: Rounds) -> str:
    """The page with another part on instructions."""
    return _with_part(page, _COUNTED, (_COUNTED, *_counted(counted)), before=_HOTPLUG)


def _counted(counted: Rounds) -> Iterator[str]:
    yield f"{time.strftime('%Y-%m-%d')}, one boot of each."
    rows = []
    for kind, boots in zip(KINDS, counted, strict=True):
        for name, _unit, over, value in _ROWS:
            if "CPU" in name:
                (agent,), (empty,), (other,) = (over([boots], who, value) for who in _COLUMNS)
                figures = [f"{seconds / _INSTRUCTION / 1e6:.0f}" for seconds in (agent, empty, other)]
                rows.append([f"{kind}: {name}", *figures, _ratio(agent, other), _ratio(empty, other)])
    head = ["millions of instructions", *map(str, _COLUMNS), "agent's ratio", "empty units' ratio"]
    yield _table(head, rows)


def _verdicts(results: Results, kind: str) -> Iterator[str]:
    rounds = results.rounds[kind]
    ssh, cpu = TARGETS[kind]
    checks = (
        ("delay of ssh", ssh, [median(delay(rounds, who, lambda boot: boot.ssh)) for who in PAIR]),
        ("CPU", cpu, [median(_own(rounds, who, lambda boot: boot.cpu)) for who in PAIR]),
    )
    for name, target, (agent, other) in checks:
        word = _met(agent <= target * other)
        yield f"Target, {name}: at most {target:.0%} of cloud-init's; {_ratio(agent, other)}: {word}."


def _split(results: Results, kind: str) -> str:
    boots, profile = [one[Contender.AGENT] for one in results.rounds[kind]], results.breakdowns[kind]
    total, clients, children, transient = (
        median(getattr(boot, name) for boot in boots) for name in ("cpu", "clients", "children", "transient")
    )
    imports = profile.start + profile.imports + profile.reader_imports
    tools = max(0.0, children - profile.reader) + transient
    rows = {
        "clients: the four stage units": clients,
        "imports: processes until they can work": imports,
        "tools: commands, and units of their own": tools,
        "own work of the daemon and the reader": total - clients - imports - tools,
        "all": total,
    }
    return _table(["", "CPU"], [[name, f"{seconds:.2f} s"] for name, seconds in rows.items()])


def _sizes(results: Results) -> str:
    rows = [
        [
            str(who),
            f"{size.all / MIB:.1f} MiB",
            f"{size.without_python / MIB:.1f} MiB",
            str(len(size.packages)),
        ]
        for who, size in results.sizes.items()
    ]
    return _table(["added to the image", "in all", "where Python is there already", "packages"], rows)


# -- hot-plug ------------------------------------------------------------------------------------

_HOTPLUG = "## Hot-plug"


def _part(page: str) -> str:
    rest = page.partition(f"{_HOTPLUG}\n")[2]
    return f"{_HOTPLUG}\n{rest.partition(chr(10) + '## ')[0]}".rstrip()


def renewed(page: str, done: HotPlug) -> str:
    """The page with another part on hot-plug."""
    return _with_part(page, _HOTPLUG, (_HOTPLUG, *_hotplug(done)), before="## Size")


def _with_part(page: str, title: str, parts: tuple[str, ...], *, before: str) -> str:
    """The page with ``parts`` in the place of the part of that title; of none, before another one."""
    start, _, rest = page.partition(f"{title}\n")
    if not rest:
        start, _, rest = page.partition(f"{before}\n")
        rest = f"\n{before}\n{rest}"
    after = rest[rest.index("\n## ") + 1 :]
    return start + "\n\n".join((*parts, after))


def _hotplug(done: HotPlug) -> Iterator[str]:
    rows = []
    for way, plugs in done.plugs.items():
        values = [[getattr(plug, name) for plug in plugs] for name in ("attached", "mounted", "grown")]
        rows.append([str(way), *map(_spread, values)])
    rounds = len(done.plugs[Way.RESIDENT])
    if done.disturbance > QUIET:
        yield f"> **Not final:** the host was loaded: others used {done.disturbance:.2f} cores."
    if rounds < hotplug.ROUNDS:
        yield f"> **Not final:** {rounds} round(s); medians take {hotplug.ROUNDS}."
    yield f"{time.strftime('%Y-%m-%d')}, {rounds} rounds."
    yield _table(["one disk", "attach to mounted", "kernel's event to mounted", "resize event to df"], rows)
    bare = median(plug.mounted for plug in done.plugs[Way.RULE_FSCK])
    for way, target in hotplug.TARGETS.items():
        ours = median(plug.mounted for plug in done.plugs[way])
        word = _met(ours <= target * bare)
        yield f"Target, {way}: at most {target:.0%} of the {Way.RULE_FSCK}; {_ratio(ours, bare)}: {word}."
    ways = list(done.many)
    counts = [[str(n), *(f"{done.many[way][n]:.1f} s" for way in ways)] for n in done.many[ways[0]]]
    yield _table(["disks at once, until the last is mounted", *map(str, ways)], counts)
    online = [f"{what}, {way}: {s:.2f} s" for what, ways in done.online.items() for way, s in ways.items()]
    yield f"From the kernel's event until online: {'; '.join(online) or 'not measured'}."
    most = max(done.memory_one, done.memory_many)
    yield (
        f"Private memory (Private_Clean + Private_Dirty): {done.memory_one / MIB:.1f} MiB after one "
        f"disk, {done.memory_many / MIB:.1f} MiB after the largest number at once; target at most "
        f"{hotplug.MEMORY_TARGET // MIB} MiB: {_met(most <= hotplug.MEMORY_TARGET)}. "
        f"At rest: {done.at_rest} processes."
    )


def _met(is_met: bool, /) -> str:
    return "**met**" if is_met else "**NOT met**"


# -- the profile ---------------------------------------------------------------------------------


def _phases(profile: Breakdown) -> str:
    rows = [["the daemon's process, until its first line", f"{profile.start:.2f}", "", "", ""]]
    rows += [
        [
            phase.name,
            f"{phase.own:.2f}",
            f"{phase.imports:.2f}",
            f"{phase.children:.2f}",
            str(phase.commands),
        ]
        for phase in profile.phases
    ]
    rows.append(["the reader, until it could read", f"{profile.reader_imports:.2f}", "", "", ""])
    return _table(["phase (CPU in s)", "daemon", "of it imports", "children", "commands"], rows)


def _dearest(profile: Breakdown, count: int = 10) -> str:
    commands = [f"{name} {cpu:.2f} in {runs}" for name, cpu, runs in profile.commands[:count]]
    ours, readers = (
        [f"{name} {cpu:.3f}" for name, cpu in modules[:count]]
        for modules in (profile.modules, profile.reader_modules)
    )
    spent, number = profile.records
    by_reader = f"Dearest of the reader's {len(profile.reader_modules)} imports (s)"
    return (
        f"Dearest commands (s, runs): {', '.join(commands) or 'none'}.\n\n"
        f"Dearest of the daemon's {len(profile.modules)} imports (s): {', '.join(ours)}.\n\n"
        f"{by_reader}: {', '.join(readers) or 'none'}.\n\n"
        f"Records of progress: {spent:.2f} s in {number}."
    )


# -- words ---------------------------------------------------------------------------------------


def _spread(values: Sequence[float], unit: str = "s") -> str:
    return f"{median(values):.2f} {unit} [{min(values):.2f}, {max(values):.2f}]"


def _ratio(one: float, other: float) -> str:
    return f"{one / other:.0%}" if other > 0 else "no ratio"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
