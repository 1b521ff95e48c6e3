"""``make soak``: the campaigns with their full numbers, and what they found, written to docs/soak.md.

The randomised unit tests search a hundred times longer; guests that vary what make test shows are
booted.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[1]
PAGE = PROJECT / "docs/soak.md"
CAMPAIGNS = {
    "randomised unit tests, 20,000 examples each": ("tests/unit", "-n", "2"),
    "guests that make test leaves out": ("tests/vm", "-m", "soak", "-n", "2"),
}


@dataclass(frozen=True, slots=True)
class Result:
    """One campaign: how many tests, which of them fell, and how long it took in minutes."""

    tests: int
    fallen: tuple[str, ...]
    minutes: float


def main() -> int:
    """Run every campaign, write the page; 1 when anything fell."""
    seed = sys.argv[1]
    results = {name: _run(words, seed) for name, words in CAMPAIGNS.items()}
    PAGE.write_text(_page(seed, results))
    print(PAGE.read_text())
    return int(any(result.fallen for result in results.values()))


def _run(words: tuple[str, ...], seed: str) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "junit.xml"
        begun = time.monotonic()
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                f"--junitxml={record}",
                f"--hypothesis-seed={seed}",
                *words,
            ],
            cwd=PROJECT,
            env=os.environ | {"GANDI_SOAK": "1"},
            check=False,
        )
        cases = list(ET.parse(record).iter("testcase"))
    fallen = tuple(
        f"{case.get('classname')}::{case.get('name')}"
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    )
    return Result(len(cases), fallen, (time.monotonic() - begun) / 60)


def _page(seed: str, results: dict[str, Result]) -> str:
    lines = [f"# Soak of {time.strftime('%Y-%m-%d')}", "", f"Seed {seed}.", ""]
    lines += ["| campaign | tests | fell | minutes |", "|---|---|---|---|"]
    lines += [f"| {n} | {r.tests} | {len(r.fallen)} | {r.minutes:.0f} |" for n, r in results.items()]
    lines += [f"\nFell: `{name}`" for result in results.values() for name in result.fallen]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
