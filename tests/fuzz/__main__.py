"""``python -m tests.fuzz``: run or search one target."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.fuzz import engine


def main() -> int:
    """Return 1 when an input is a finding, else 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("target", nargs="?", help="without one: print the targets")
    parser.add_argument("files", nargs="*", type=Path, help="inputs to run it with")
    parser.add_argument("--search", type=float, metavar="SECONDS", help="search with atheris")
    parser.add_argument(
        "--minimise", type=Path, metavar="FOLDER", help="renew the kept corpus from FOLDER too"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, default=engine.WORK, help="where what is found is kept")
    parser.add_argument("--engine", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.engine:
        engine.become(asked.target, asked.engine[0], asked.engine[1:])
    from tests.fuzz.targets import TARGETS

    if asked.target is None:
        print("\n".join(TARGETS))
        return 0
    target = TARGETS[asked.target]
    for file in asked.files:
        target.check(file.read_bytes())
    if asked.search:
        found = engine.search(target.name, asked.search, asked.seed, asked.work)
        print(found)
        return int(bool(found.finding))
    if asked.minimise:
        engine.minimise(target, asked.minimise)
    return 0


if __name__ == "__main__":
    sys.exit(main())
