"""The search with coverage: eight hours in a soak, a minute for each target in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.fuzz import engine
from tests.fuzz.engine import Found
from tests.fuzz.targets import TARGETS
from tests.vm.campaign import Rounds, dice, former_rows

#: Rounds of the whole search, and the seconds of each: eight hours. They must be this many runs at least.
ROUNDS, SECONDS = 480, 60
RUNS = 10_000_000


@pytest.mark.soak
def test_no_bytes_break_a_reader(rounds: Rounds, record_property: Callable[[str, object], None]) -> None:
    """A target with a finding is searched no more; the others are."""
    chance, found = dice("fuzz"), _former()
    names = list(TARGETS)
    chance.shuffle(names)
    for number in rounds(1, ROUNDS):
        names = [name for name in names if not any(one.finding for one in found.get(name, ()))]
        if not names:
            break
        name = names[number % len(names)]
        one = engine.search(name, SECONDS, chance.getrandbits(31), engine.WORK)
        found.setdefault(name, []).append(one)
        print(f"{name}: {one}", flush=True)
    for row in _rows(found):
        record_property("row", " | ".join(row))
    findings = [one.finding for every in found.values() for one in every if one.finding]
    assert findings == []
    assert rounds.done < ROUNDS or _runs(found) >= RUNS


def _former() -> dict[str, list[Found]]:
    """Return what the search that this one continues has found, by the rows of its table."""
    rows = [row.split(" | ") for row in former_rows()]
    return {
        name: [Found(int(runs), int(edges), int(inputs), float(seconds))]
        for name, runs, edges, inputs, seconds, _ in rows
        if name in TARGETS
    }


def _rows(found: dict[str, list[Found]]) -> Iterator[tuple[str, ...]]:
    """Yield a row of docs/soak.md for each target that was searched, and one for all."""
    for name, every in sorted(found.items()):
        yield _row(name, every, max(one.edges for one in every), max(one.inputs for one in every))
    whole = [one for every in found.values() for one in every]
    name, runs, *_, seconds, findings = _row("all", whole, 0, 0)
    yield name, f"{runs} of {RUNS}", "-", "-", f"{seconds} of {ROUNDS * SECONDS}", findings


def _row(name: str, every: list[Found], edges: int, inputs: int) -> tuple[str, ...]:
    seconds, findings = sum(one.seconds for one in every), sum(bool(one.finding) for one in every)
    return (
        name,
        str(sum(one.runs for one in every)),
        str(edges),
        str(inputs),
        f"{seconds:.0f}",
        str(findings),
    )


def _runs(found: dict[str, list[Found]]) -> int:
    return sum(one.runs for every in found.values() for one in every)
