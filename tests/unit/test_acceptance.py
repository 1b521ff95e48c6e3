"""tests/ACCEPTANCE.md and SECURITY.md name tests and make targets that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.unit.modules import PROJECT

TEXT = (PROJECT / "tests/ACCEPTANCE.md").read_text()
SECURITY = (PROJECT / "SECURITY.md").read_text()
TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT + SECURITY)))
ROWS = [line for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith("| promise")]


def _functions(file: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)}


def test_every_test_that_is_named_exists() -> None:
    assert len(TESTS) > 800
    files = {file for file, _ in TESTS}
    there = {file: _functions(PROJECT / file) for file in files if (PROJECT / file).exists()}
    assert not [f"{file}::{test}" for file, test in TESTS if test not in there.get(file, ())]
    assert not [test for _, test in TESTS if not test.startswith("test_")]


def test_a_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"`make ([\w-]+)`", TEXT + SECURITY))
    rules = set(re.findall(r"^([\w-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    assert targets
    assert targets <= rules


def test_every_promise_is_shown_by_something() -> None:
    assert len(ROWS) > 30
    for row in ROWS:
        shown = row.rstrip(" |").rpartition(" | ")[2]
        assert "::" in shown or "`make " in shown or shown.startswith("no test: "), row


def test_every_boundary_and_every_known_fault_has_a_test() -> None:
    _, boundaries, faults = re.split(r"^## (?:Boundaries|Faults).*$", SECURITY, flags=re.MULTILINE)
    for part, least in ((boundaries, 10), (faults, 9)):
        rows = [line for line in part.split("\n") if line.startswith("| ")][1:]
        assert len(rows) >= least
        for row in rows:
            assert re.search(r"`tests/[\w/]+\.py::\w+`", row.rstrip(" |").rpartition(" | ")[2]), row
