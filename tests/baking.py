"""Commands of docs/baking.md, and the files that they write."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs/baking.md"


def recipe(heading: str) -> str:
    """Return the commands below a heading of the page."""
    section = PAGE.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return "\n".join(line[4:] for line in section.split("\n") if line.startswith("    "))


def written(heading: str) -> dict[str, str]:
    """Return the files that the commands of a recipe write, by name."""
    found = re.findall(r"^cat > (\S+) <<'END'\n(.*?)^END$", recipe(heading), re.MULTILINE | re.DOTALL)
    return dict(found)
