"""The first line of ``status``."""

from __future__ import annotations

from typing import Any

import pytest

from agent.reporting import verdict
from agent.stages import Stage
from tests.unit.cli.test_status_text import RUNNING, WORK, facts

NEW = {
    "step": "source",
    "outcome": "changed",
    "seconds": 0.5,
    "items": [{"name": "source", "outcome": "changed", "detail": "/dev/vdz, a new instance"}],
}
SAME = NEW | {"items": [{"name": "source", "outcome": "unchanged", "detail": "/dev/vdz, as stored"}]}
USERS = {
    "step": "users",
    "outcome": "failed",
    "seconds": 0.1,
    "items": [{"name": "user:root", "outcome": "changed"}, {"name": "user:daemon", "outcome": "failed"}],
}
SYSCTL = USERS | {"step": "sysctl", "items": [{"name": "sysctl", "outcome": "failed"}]}


def ended(*steps: dict[str, Any], uptime: float = 9.8) -> dict[str, Any]:
    failed = any(step["outcome"] == "failed" for step in steps)
    return {
        "state": "failed" if failed else "done",
        "seconds": 1.0,
        "uptime": uptime,
        "steps": list(steps),
    }


def boot(**stages: dict[str, Any]) -> dict[str, Any]:
    return dict.fromkeys(map(str, Stage), ended()) | {"mount": ended(uptime=4.0)} | stages


def device(outcome: str) -> dict[str, Any]:
    return {"outcome": outcome, "items": [{"name": "vdb1", "outcome": outcome}]}


VDC = {"devices": {"vdc": device("failed"), "vdb": device("changed")}}
FAILED_UNIT = {"gandi-mount.service": {"ActiveState": "failed", "Result": "timeout"}}


@pytest.mark.parametrize(
    ("stages", "more", "line"),
    [
        (
            boot(bootstrap=ended(NEW)),
            {"data_disks": 2},
            "ready: first boot took 9.8 s, 2 data disks mounted, nothing failed",
        ),
        (
            boot(bootstrap=ended(SAME)),
            {"data_disks": 1},
            "ready: boot took 9.8 s, 1 data disk mounted, nothing failed",
        ),
        (
            {},
            {"settled": True},
            "ready: nothing was new at this boot, no data disk mounted, nothing failed",
        ),
        ({"config": ended()}, {"settled": True}, "ready: no data disk mounted, nothing failed"),
        (
            boot(bootstrap=ended(NEW)),
            {"document": VDC},
            "ready: first boot took 9.8 s, no data disk mounted, 1 device failed: vdc",
        ),
        (
            boot(bootstrap=ended(NEW, USERS)),
            {},
            "failed: first boot took 9.8 s, no data disk mounted, 1 step failed: users (user:daemon)",
        ),
        (
            boot(bootstrap=ended(NEW, USERS), config=ended(SYSCTL)),
            {"document": VDC},
            "failed: first boot took 9.8 s, no data disk mounted,"
            " 2 steps failed: users (user:daemon), sysctl; 1 device failed: vdc",
        ),
        (
            {name: entry for name, entry in boot().items() if name != "mount"},
            {"units": FAILED_UNIT},
            "failed: no data disk mounted, 1 stage failed: mount (timeout)",
        ),
        ({}, {}, "starting: stage bootstrap has not begun"),
        (
            {"bootstrap": ended(NEW, USERS), "mount": RUNNING},
            {"document": {"work": {"mount": WORK}}},
            "starting: stage mount, step disks waits for vdb, since 12 s,"
            " 1 step failed: users (user:daemon)",
        ),
        (
            {"bootstrap": RUNNING},
            {"document": {"work": {"bootstrap": WORK | {"waiting": ""}}}},
            "starting: stage bootstrap, step disks runs, since 12 s",
        ),
        ({"bootstrap": RUNNING}, {}, "starting: stage bootstrap runs"),
        (
            {"bootstrap": RUNNING},
            {"alive": frozenset()},
            "starting: stage bootstrap was interrupted: its process has died",
        ),
    ],
)
def test_one_line_says_how_the_machine_is(stages: dict[str, Any], more: dict[str, Any], line: str) -> None:
    assert verdict.verdict(facts(stages, **more)) == line


def test_many_names_are_counted() -> None:
    items = [{"name": f"user:u{number}", "outcome": "failed"} for number in range(9)]
    said = verdict.verdict(facts(boot(bootstrap=ended(USERS | {"items": items}))))
    assert said.endswith("1 step failed: users (user:u0, user:u1, user:u2 and 6 more)")
