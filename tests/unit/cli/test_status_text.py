"""The text of ``status``."""

from __future__ import annotations

from typing import Any

import pytest

from agent.cli.status_text import render, unfinished
from agent.reporting.verdict import Facts, exit_status, stage_state
from agent.stages import Stage

DONE = {"state": "done", "seconds": 1.5, "steps": []}
FAILED = {
    "state": "failed",
    "seconds": 2.0,
    "steps": [
        {
            "step": "source",
            "outcome": "changed",
            "seconds": 0.5,
            "items": [{"name": "swap", "outcome": "changed"}],
        },
        {
            "step": "users",
            "outcome": "failed",
            "seconds": 0.1,
            "items": [
                {"name": "root", "outcome": "unchanged"},
                {"name": "key", "outcome": "kept", "detail": "changed by admin"},
                {"name": "bob", "outcome": "failed", "detail": "bad name", "hint": "use letters"},
            ],
        },
    ],
}
RUNNING = {"state": "running", "since": 90, "pid": 7, "started": 1, "steps": []}
WORK = {"step": "disks", "waiting": "vdb", "since": 88, "pid": 7, "started": 1}


def facts(stages: dict[str, Any], **more: Any) -> Facts:
    document = {"stages": stages, "devices": {}, "work": {}, "notes": {}} | more.pop("document", {})
    return Facts(document, daemon="running (process 1)", now=100, **({"alive": frozenset({(7, 1)})} | more))


def test_all_done_is_short() -> None:
    view = facts(dict.fromkeys(map(str, Stage), DONE), instance="gandi 1234")
    assert exit_status(view) == 0
    assert render(view) == [
        "instance: gandi 1234",
        "daemon: running (process 1)",
        "",
        *(f"{stage}: done (nothing to do) [1.50 s]" for stage in Stage),
    ]


def test_a_failure_shows_its_items_with_their_remedy_and_not_the_plain_ones() -> None:
    view = facts(dict.fromkeys(map(str, Stage), DONE) | {"bootstrap": FAILED})
    assert exit_status(view) == 1
    text = "\n".join(render(view))
    assert "bootstrap: failed [2.00 s]\n  users: failed [0.10 s]\n    kept: key: changed by admin\n" in text
    assert "    failed: bob: bad name (use letters)" in text
    assert "source" not in text
    assert "root" not in text


def test_what_runs_names_its_step_and_what_it_waits_for() -> None:
    view = facts({"bootstrap": DONE, "mount": RUNNING}, document={"work": {"mount": WORK}})
    assert exit_status(view) == 2
    assert unfinished(view) == [
        "stage mount: running, at disks, waiting for vdb, since 12 s",
        "stage config: not begun",
        "stage postboot: not begun",
    ]
    assert "mount: running, at disks, waiting for vdb, since 12 s" in render(view)


@pytest.mark.parametrize(
    ("entry", "active", "state"),
    [
        ({}, "inactive", "waiting"),
        ({}, "failed", "failed"),
        (RUNNING, "failed", "failed"),
        (RUNNING, "activating", "interrupted"),
        (DONE, "failed", "done"),
    ],
)
def test_a_stage_whose_process_died_or_never_ran_is_not_running(
    entry: dict[str, Any], active: str, state: str
) -> None:
    units = {"gandi-mount.service": {"ActiveState": active, "Result": "timeout"}}
    view = facts(
        {"mount": entry} if entry else {}, document={"work": {"mount": WORK}}, alive=frozenset(), units=units
    )
    assert stage_state(view, Stage.MOUNT) == state
    assert render(view)


def test_devices_work_settings_and_notes_have_their_place() -> None:
    view = facts(
        {},
        document={
            "devices": {
                "vdb": {
                    "outcome": "changed",
                    "items": [{"name": "vdb1", "outcome": "changed", "detail": "at /srv/x"}],
                },
                "vdc": {
                    "outcome": "skipped",
                    "items": [{"name": "vdc", "outcome": "skipped", "detail": "swap"}],
                },
                "vdd": {"outcome": "unchanged", "items": []},
                "vde": {
                    "outcome": "changed",
                    "items": [
                        {"name": "vde", "outcome": "unchanged"},
                        {"name": "vde1", "outcome": "changed", "detail": "at /srv/y"},
                    ],
                },
            },
            "work": {"vdf": WORK, "vdg": WORK | {"pid": 8}},
            "notes": {"clone": "the DMI UUID has changed", "settings": [{"line": 9}]},
        },
        settings_file="/etc/default/gandi",
        settings=[
            {"line": 3, "message": "unknown setting CONFIG_NETWROK", "hint": "did you mean CONFIG_NETWORK?"}
        ],
    )
    text = "\n".join(render(view))
    assert (
        "devices:\n  vdb: changed: vdb1: at /srv/x\n  vdc: skipped: swap\n  vdd: unchanged\n"
        "  vde: changed\n    unchanged: vde\n    changed: vde1: at /srv/y\n" in text
    )
    assert "at work:\n  vdf: at disks, waiting for vdb, since 12 s" in text
    assert "vdg" not in text  # its process is dead
    assert (
        "settings:\n  /etc/default/gandi:3: unknown setting CONFIG_NETWROK (did you mean CONFIG_NETWORK?)"
        in text
    )
    assert "notes:\n  clone: the DMI UUID has changed" in text
    assert ":9:" not in text
