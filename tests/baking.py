"""Commands of docs/baking.md."""

from __future__ import annotations

from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs/baking.md"


def recipe(heading: str) -> str:
    """Return the commands below a heading of the page."""
    section = PAGE.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return "\n".join(line[4:] for line in section.split("\n") if line.startswith("    "))
