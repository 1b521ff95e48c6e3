"""What is written for each kind of NIC, to be read in golden/. Regenerate: GANDI_GOLDEN=write pytest …"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.network import RENDERERS, Renderer

from .cases import CASES

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("renderer", RENDERERS, ids=lambda r: r.NAME)
def test_the_file_is_the_golden_one(renderer: Renderer, case: str) -> None:
    link, golden = CASES[case], GOLDEN / renderer.NAME / case
    text = f"{renderer.path(link.key)}\n---\n{renderer.render(link)}"
    if os.environ.get("GANDI_GOLDEN") == "write":
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(text)
    assert text == golden.read_text()


def test_no_golden_file_is_left_over() -> None:
    there = {str(path.relative_to(GOLDEN)) for path in GOLDEN.rglob("*") if path.is_file()}
    assert there == {f"{renderer.NAME}/{case}" for renderer in RENDERERS for case in CASES}
