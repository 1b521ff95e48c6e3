"""Each target with its kept inputs, and with mutations of them; no coverage guides these."""

from __future__ import annotations

import itertools

import pytest

from tests.fuzz.mutations import mutated
from tests.fuzz.targets import CORPUS, TARGETS, kept
from tests.vm.campaign import dice

#: Seeds of each target that are run as they are; tests/unit/reader reads the whole of tests/corpus.
SEEDS = 30


@pytest.mark.parametrize("name", TARGETS)
def test_a_reader_keeps_its_promises(name: str) -> None:
    target, chance = TARGETS[name], dice(f"fuzz {name}")
    files, seeds = kept(target), list(target.seeds())
    assert seeds
    whole = [*files, *chance.sample(seeds, min(len(seeds), SEEDS))]
    for data in (*whole, *itertools.islice(mutated(chance, target, files + seeds), target.short)):
        try:
            target.check(data)
        except Exception as error:
            pytest.fail(f"{type(error).__name__}: {error}; the input: {data!r}")


def test_every_kept_input_is_a_targets_and_small() -> None:
    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} <= {*TARGETS}
    assert sum(path.stat().st_size for path in files) < 300_000
    for path in files:
        assert path.stat().st_size <= TARGETS[path.parent.name].largest
