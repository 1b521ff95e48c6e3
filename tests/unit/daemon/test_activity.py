"""Work in progress is shown after a second, at once if it waits, and not beyond its end."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from agent.context import context
from agent.daemon.activity import WORTH_SHOWING, Activity
from agent.host.host import Host


@pytest.fixture
def activity(tmp_path: Path) -> Activity:
    return Activity(context(Host(tmp_path)))


def shown(activity: Activity) -> dict[str, tuple[str, str]]:
    work = activity.ctx.status.read()["work"]
    return {name: (entry["step"], entry["waiting"]) for name, entry in work.items()}


def test_a_stage_is_shown_at_the_step_that_lasts(activity: Activity) -> None:
    woken: list[float | None] = []
    activity.wake = lambda: woken.append(activity.next_show())
    before = time.monotonic()
    activity.set_step("mount", "resources", "")
    activity.set_step("mount", "disks", "")
    assert len(woken) == 2
    assert all(due and due >= before + WORTH_SHOWING for due in woken)
    activity.show_due(before + WORTH_SHOWING / 2)
    assert shown(activity) == {}
    activity.show_due(time.monotonic() + WORTH_SHOWING)
    assert shown(activity) == {"mount": ("disks", "")}
    assert activity.next_show() is None
    activity.set_step("mount", "next", "")
    assert shown(activity) == {"mount": ("next", "")}, "what is shown is never a step that is over"
    activity.set_step("mount", "", "")
    assert shown(activity) == {}
    assert not activity.has("mount")


def test_all_is_shown_to_who_asks(activity: Activity) -> None:
    activity.set_step("mount", "disks", "")
    activity.begin("vdb", "mount")
    activity.show_due(float("inf"))
    assert shown(activity) == {"mount": ("disks", ""), "vdb": ("mount", "")}


def test_a_wait_is_shown_at_once_and_its_end_too(activity: Activity) -> None:
    activity.set_step("bootstrap", "source", "")
    activity.set_step("bootstrap", "source", "a medium")
    assert shown(activity) == {"bootstrap": ("source", "a medium")}
    activity.set_step("bootstrap", "source", "")
    assert shown(activity) == {"bootstrap": ("source", "")}


def test_a_stage_that_waits_first_of_all(activity: Activity) -> None:
    activity.set_step("bootstrap", "source", "a medium")
    assert shown(activity) == {"bootstrap": ("source", "a medium")}


def test_a_stage_that_was_at_no_step_ends(activity: Activity) -> None:
    activity.set_step("config", "", "")
    assert shown(activity) == {}
