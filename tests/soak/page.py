"""docs/soak.md: one row for each campaign, kept until that campaign is run again."""

from __future__ import annotations

from tests.soak.campaigns import CAMPAIGNS
from tests.soak.play import Former, Result

_HEAD = """# Soak

Results of `make soak`. Each row is the last run of that part. `make soak ONLY=NAME` runs one and updates its
row; with `MINUTES=` it ends after the round (or test) in progress, and `SEED=` repeats a run as far as a
guest's timing allows. `37 of 100` in a cell: the time limit or a failed test ended the part. `MORE=1` goes
on there, with another seed, if no test failed and the rounds are apart from each other: such a row has the
date and the seed of each run, and the minutes of all.

| part | test | date | seed | rounds | tests | failed | minutes |
|---|---|---|---|---|---|---|---|
"""
#: Number of cells that are taken from CAMPAIGNS, not from the page.
_OWN = 2


def renewed(page: str, name: str, found: tuple[str, ...], own: tuple[str, ...] = ()) -> str:
    """Return the page with ``found`` as the row of campaign ``name``, ``own`` as the rows of its own table,
    and all others unchanged.
    """
    tables = _tables(page) | ({name: list(own)} if own else {})
    rows = _rows(page) | {name: found}
    table = [
        "| " + " | ".join((f"`{part}`", campaign.what, *rows[part])) + " |\n"
        for part, campaign in CAMPAIGNS.items()
        if part in rows
    ]
    missing = [f"- `{part}`: {campaign.what}\n" for part, campaign in CAMPAIGNS.items() if part not in rows]
    return "".join(
        (
            _HEAD,
            *table,
            "\nNot run yet:\n\n" if missing else "",
            *missing,
            *(_own_table(part, tables[part]) for part in CAMPAIGNS if part in tables and part in rows),
        )
    )


def _own_table(part: str, rows: list[str]) -> str:
    columns = CAMPAIGNS[part].columns
    head = (" | ".join(columns), "|".join("---" for _ in columns))
    return f"\n## {part}\n\n| {head[0]} |\n|{head[1]}|\n" + "".join(f"| {row} |\n" for row in rows)


def _tables(page: str) -> dict[str, list[str]]:
    """Return the rows of each part's own table."""
    sections = (section.split("\n") for section in page.split("\n## ")[1:])
    return {
        section[0]: [line.strip("| ") for line in section if line.startswith("| ")][1:]
        for section in sections
    }


def former(page: str, name: str) -> Former | None:
    """Return the run of the part that can be continued, None if there is none: without a failed test, and
    with rounds that were not played. The rounds of several tests have one number, which no test could use.
    """
    if CAMPAIGNS[name].whole or (row := _rows(page).get(name)) is None:
        return None
    date, seed, rounds, tests, fell, minutes = row
    done, _, wanted = rounds.partition(" of ")
    if not wanted or fell != "0" or not (tests == "1" or CAMPAIGNS[name].runs):
        return None
    return Former(date, seed, int(done), int(minutes), tuple(_tables(page).get(name, ())))


def cells(result: Result, date: str, seed: int, former: Former | None = None) -> tuple[str, ...]:
    """Return the cells of a row that describe a run, and the one that it has continued."""
    fell = ", ".join(f"`{name.replace('|', '/')}`" for name in result.fallen)
    dates = former.dates.split(", ") if former else []
    return (
        ", ".join(dates if date in dates else [*dates, date]),
        f"{former.seeds}, {seed}" if former else str(seed),
        str(result.rounds or "-"),
        str(result.tests),
        f"{len(result.fallen)}: {fell}" if fell else "0",
        f"{result.minutes + (former.minutes if former else 0):.0f}",
    )


def _rows(page: str) -> dict[str, tuple[str, ...]]:
    main = page.partition("\n## ")[0]
    lines = [line.strip("| \n").split(" | ") for line in main.splitlines() if line.startswith("| `")]
    return {line[0].strip("`"): tuple(line[_OWN:]) for line in lines}
