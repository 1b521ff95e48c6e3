"""``python -m tests.soak SEED [--minutes N] [--more] [NAME…]``: run all campaigns, or the named ones."""

from __future__ import annotations

import argparse
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from tests.soak import page
from tests.soak.campaigns import CAMPAIGNS
from tests.soak.play import PROJECT, Former, Result, play

PAGE = PROJECT / "docs/soak.md"
LOGS = PROJECT / "build/soak"
#: Guests at a time, for two cores.
GUESTS = 2
_WRITING = threading.Lock()


def main() -> int:
    """Return 1 when a test failed, 2 when a name is not known, else 0."""
    parser = argparse.ArgumentParser(prog="make soak")
    parser.add_argument("seed", type=int)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--more", action="store_true", help="go on where the last run has ended")
    asked = parser.parse_args()
    if unknown := [name for name in asked.names if name not in CAMPAIGNS]:
        if asked.names != ["list"]:
            print(f"no part of the soak is named {', '.join(unknown)}; there are:", file=sys.stderr)
        for name, campaign in CAMPAIGNS.items():
            print(f"{name:14} {campaign.what}")
        return 0 if asked.names == ["list"] else 2
    names = asked.names or list(CAMPAIGNS)
    text = PAGE.read_text() if asked.more else ""
    former = {name: found for name in names if (found := page.former(text, name))}
    if asked.more and (missing := [name for name in names if name not in former]):
        print(f"no run that can be continued: {', '.join(missing)}", file=sys.stderr)
        return 2

    def one(name: str) -> Result:
        return _one(name, asked.seed, asked.minutes, former.get(name))

    # A campaign of many runs keeps all cores busy by itself.
    results = [one(name) for name in names if CAMPAIGNS[name].runs]
    with ThreadPoolExecutor(GUESTS) as guests:
        results += guests.map(one, [name for name in names if not CAMPAIGNS[name].runs])
    print(PAGE.read_text())
    return int(any(result.fallen for result in results))


def _one(name: str, seed: int, minutes: float | None, former: Former | None) -> Result:
    print(f"{name}: seed {seed}, log {LOGS / name / 'log'}", flush=True)
    date = time.strftime("%Y-%m-%d")
    result = play(CAMPAIGNS[name], seed, minutes, LOGS / name, former)
    row = page.cells(result, date, seed, former)
    with _WRITING:
        PAGE.write_text(page.renewed(PAGE.read_text() if PAGE.exists() else "", name, row, result.rows))
    print(f"{name}: {result.tests} tests, rounds: {result.rounds or '-'}, fell: {row[4]}", flush=True)
    return result


if __name__ == "__main__":
    sys.exit(main())
