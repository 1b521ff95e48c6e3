"""docs/soak.md: one row for each campaign that was run, which stays until that campaign is run again."""

from __future__ import annotations

from tests.soak.campaigns import CAMPAIGNS
from tests.soak.play import Result

_HEAD = """# Soak

What `make soak` found. Each row is the last run of that part: `make soak ONLY=NAME` runs one and renews its
row; with `MINUTES=` it ends after the round (or test) in progress, and `SEED=` plays a row again as far as a
guest's timing allows. `37 of 100` is a part that its bound ended, or a test that fell.

| part | what | date | seed | rounds | tests | fell | minutes |
|---|---|---|---|---|---|---|---|
"""
#: Cells that a row brings of itself; the others are what CAMPAIGNS says now.
_OWN = 2


def renewed(page: str, name: str, found: tuple[str, ...]) -> str:
    """The page with this campaign's row made anew, and every other row as it was."""
    rows = _rows(page) | {name: found}
    table = [
        "| " + " | ".join((f"`{part}`", campaign.what, *rows[part])) + " |\n"
        for part, campaign in CAMPAIGNS.items()
        if part in rows
    ]
    missing = [f"- `{part}`: {campaign.what}\n" for part, campaign in CAMPAIGNS.items() if part not in rows]
    return _HEAD + "".join(table) + ("\nNot run yet:\n\n" + "".join(missing) if missing else "")


def cells(result: Result, date: str, seed: int) -> tuple[str, ...]:
    """What a row says of a run."""
    fell = ", ".join(f"`{name.replace('|', '/')}`" for name in result.fallen)
    return (
        date,
        str(seed),
        str(result.rounds or "-"),
        str(result.tests),
        f"{len(result.fallen)}: {fell}" if fell else "0",
        f"{result.minutes:.0f}",
    )


def _rows(page: str) -> dict[str, tuple[str, ...]]:
    lines = [line.strip("| \n").split(" | ") for line in page.splitlines() if line.startswith("| `")]
    return {line[0].strip("`"): tuple(line[_OWN:]) for line in lines}
