"""Work in progress is shown after a second, at once if it waits, and not beyond its end."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from agent.context import context
from agent.daemon.activity import WORTH_SHOWING, UnderWay
from agent.host.host import Host


@pytest.fixture
def under_way(tmp_path: Path) -> UnderWay:
    return UnderWay(context(Host(tmp_path)))


def shown(under_way: UnderWay) -> dict[str, tuple[str, str]]:
    work = under_way.ctx.status.read()["work"]
    return {name: (entry["step"], entry["waiting"]) for name, entry in work.items()}


def test_a_stage_is_shown_at_the_step_that_lasts(under_way: UnderWay) -> None:
    woken: list[float | None] = []
    under_way.wake = lambda: woken.append(under_way.due())
    before = time.monotonic()
    under_way.at("mount", "resources", "")
    under_way.at("mount", "disks", "")
    assert len(woken) == 2
    assert all(due and due >= before + WORTH_SHOWING for due in woken)
    under_way.show(before + WORTH_SHOWING / 2)
    assert shown(under_way) == {}
    under_way.show(time.monotonic() + WORTH_SHOWING)
    assert shown(under_way) == {"mount": ("disks", "")}
    assert under_way.due() is None
    under_way.at("mount", "next", "")
    assert shown(under_way) == {"mount": ("next", "")}, "what is shown is never a step that is over"
    under_way.at("mount", "", "")
    assert shown(under_way) == {}
    assert not under_way.has("mount")


def test_all_is_shown_to_who_asks(under_way: UnderWay) -> None:
    under_way.at("mount", "disks", "")
    under_way.begin("vdb", "mount")
    under_way.show(float("inf"))
    assert shown(under_way) == {"mount": ("disks", ""), "vdb": ("mount", "")}


def test_a_wait_is_shown_at_once_and_its_end_too(under_way: UnderWay) -> None:
    under_way.at("bootstrap", "source", "")
    under_way.at("bootstrap", "source", "a medium")
    assert shown(under_way) == {"bootstrap": ("source", "a medium")}
    under_way.at("bootstrap", "source", "")
    assert shown(under_way) == {"bootstrap": ("source", "")}


def test_a_stage_that_waits_first_of_all(under_way: UnderWay) -> None:
    under_way.at("bootstrap", "source", "a medium")
    assert shown(under_way) == {"bootstrap": ("source", "a medium")}


def test_a_stage_that_was_at_no_step_ends(under_way: UnderWay) -> None:
    under_way.at("config", "", "")
    assert shown(under_way) == {}
