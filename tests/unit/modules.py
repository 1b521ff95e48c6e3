"""The agent's modules as syntax trees, which the tests of the whole source share: each is parsed once."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

PROJECT = Path(__file__).parents[2]
PACKAGE = PROJECT / "agent"
MODULES = tuple(sorted(PACKAGE.rglob("*.py")))


def inside(module: Path) -> str:
    """Return the path of a module in the package."""
    return str(module.relative_to(PACKAGE))


@functools.cache
def tree(module: Path) -> ast.Module:
    """Return the syntax tree of a file, which no test changes."""
    return ast.parse(module.read_text())
