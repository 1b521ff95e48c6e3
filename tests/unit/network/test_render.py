"""The files that each renderer writes for each document: golden/MANAGER/DOCUMENT.

Regenerate: GANDI_GOLDEN=write pytest tests/unit/network/test_render.py, and read what has changed.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.network import Renderer, load
from agent.network.managers import MANAGERS, Manager

from .cases import CASES
from .readback_cases import RARE

GOLDEN = Path(__file__).parent / "golden"
RENDERERS = [load(manager.name) for manager in MANAGERS]
DOCUMENTS = CASES | RARE
#: Which managers' files for documents with rare values are golden; ``readback`` is for all.
RARELY = ("ifupdown", "networkmanager")
GOLDEN_ONES = [(r, case) for r in RENDERERS for case in (DOCUMENTS if r.NAME in RARELY else CASES)]


@pytest.mark.parametrize(("renderer", "case"), GOLDEN_ONES, ids=lambda p: getattr(p, "NAME", p))
def test_the_files_are_the_golden_ones(renderer: Renderer, case: str) -> None:
    files = [file for link in DOCUMENTS[case] for file in renderer.render(link)]
    text = "\n".join(f"--- {file.path} {file.mode:04o}\n{file.text}" for file in files)
    golden = GOLDEN / renderer.NAME / case
    if os.environ.get("GANDI_GOLDEN") == "write":
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(text)
    assert text == golden.read_text()


def test_no_golden_file_is_left_over() -> None:
    there = {str(path.relative_to(GOLDEN)) for path in GOLDEN.rglob("*") if path.is_file()}
    assert there == {f"{renderer.NAME}/{case}" for renderer, case in GOLDEN_ONES}


@pytest.mark.parametrize("case", DOCUMENTS)
@pytest.mark.parametrize("manager", MANAGERS, ids=lambda m: m.name)
def test_every_file_is_one_of_those_that_are_looked_for(manager: Manager, case: str) -> None:
    renderer = load(manager.name)
    for link in DOCUMENTS[case]:
        files = [file.path for file in renderer.render(link)]
        assert set(files) <= set(renderer.paths(link.key))
        assert any(path.startswith(manager.path_prefix) for path in files)
