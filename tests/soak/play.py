"""Run one campaign with pytest, and count its results."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from tests.soak.campaigns import Campaign
from tests.vm.campaign import FIRST, ROWS, SEED, SOAK, UNTIL

PROJECT = Path(__file__).parents[2]
#: A campaign of many boots is one test: the time limit of make test does not apply to it.
_LIMIT = 24 * 60 * 60
_INTERRUPTED = 2


@dataclass(frozen=True, slots=True)
class Count:
    """A number of rounds or tests done, and their total."""

    done: int
    wanted: int

    def __str__(self) -> str:
        return str(self.done) if self.done == self.wanted else f"{self.done} of {self.wanted}"


@dataclass(frozen=True, slots=True)
class Former:
    """A soak that is to be continued: its dates, seeds, rounds and minutes, and the rows of its table."""

    dates: str
    seeds: str
    rounds: int
    minutes: int
    rows: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """The rounds and tests done, the failed tests, and the duration in minutes."""

    tests: Count
    rounds: Count | None
    fallen: tuple[str, ...]
    minutes: float
    #: The rows of the part's own table, the cells of each separated by ``|``.
    rows: tuple[str, ...] = ()


def play(
    campaign: Campaign, seed: int, minutes: float | None, folder: Path, former: Former | None = None
) -> Result:
    """Run a campaign, or what ``former`` has left of it, until it is complete, a test fails, or ``minutes``
    are over: then it ends after the round (or test) in progress. pytest's output is in ``folder``.
    """
    begun = time.monotonic()
    until = begun + minutes * 60 if minutes else None
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log").unlink(missing_ok=True)
    environment = os.environ | {SOAK: "1", "PYTHONUNBUFFERED": "1"}
    if until is not None:
        environment[UNTIL] = str(until)
    if former:
        environment |= {FIRST: str(former.rounds), ROWS: "\n".join(former.rows)}
    begin = runs = former.rounds if former and campaign.runs else 0
    result = Result(Count(0, 0), None, (), 0)
    while runs == begin or (runs < campaign.runs and not result.fallen and not _over(until)):
        result = _pytest(campaign.tests, seed + runs, until, folder, environment)
        runs += 1
    rounds = Count(runs, campaign.runs) if campaign.runs else result.rounds
    fallen = result.fallen
    if runs > 1:
        fallen = tuple(f"{name} (seed {seed + runs - 1})" for name in fallen)
    return Result(result.tests, rounds, fallen, (time.monotonic() - begun) / 60, result.rows)


def _over(until: float | None) -> bool:
    return until is not None and time.monotonic() > until


def _pytest(
    tests: tuple[str, ...], seed: int, until: float | None, folder: Path, environment: dict[str, str]
) -> Result:
    record = folder / "junit.xml"
    record.unlink(missing_ok=True)
    told = [
        "-v",
        "-s",
        "-o",
        "junit_family=xunit1",
        f"--junitxml={record}",
        f"--hypothesis-seed={seed}",
        f"--timeout={_LIMIT}",
    ]
    with (folder / "log").open("a") as log:
        rc = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *told, *tests],
            cwd=PROJECT,
            env=environment | {SEED: str(seed)},
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    return _read(record, rc, ended=_over(until))


def _read(record: Path, rc: int, *, ended: bool) -> Result:
    """Return the record's results. A pytest run that ran no test (nothing found, interrupted) counts as
    failed, unless it ``ended`` at its time limit.
    """
    root = ET.parse(record).getroot() if record.exists() else ET.Element("testsuites")
    cases = list(root.iter("testcase"))
    told = {name: _told(root, name) for name in ("collected", "rounds", "row")}
    fallen = tuple(
        f"{case.get('classname')}::{case.get('name')}"
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    )
    if rc and not fallen and not (rc == _INTERRUPTED and ended and cases):
        fallen = (f"pytest ended with {rc}",)
    rounds = [Count(*map(int, value.split(" of "))) for value in told["rounds"]]
    return Result(
        Count(len(cases), max(len(cases), *map(int, told["collected"]), 0)),
        Count(sum(r.done for r in rounds), sum(r.wanted for r in rounds)) if rounds else None,
        fallen,
        0,
        tuple(told["row"]),
    )


def _told(root: ET.Element, name: str) -> list[str]:
    return [found.get("value", "") for found in root.iter("property") if found.get("name") == name]
