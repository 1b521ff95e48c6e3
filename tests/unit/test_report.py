"""Records and the file they are merged into."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path

import pytest

from agent import report
from agent.host import processes
from agent.host.host import Host
from agent.lib.errors import Busy
from agent.report import (
    LOCK,
    STATUS,
    VERSION,
    Item,
    Outcome,
    StageReport,
    StatusFile,
    StepReport,
    changed,
    failed,
    kept,
    skipped,
    unchanged,
)


@pytest.mark.parametrize(
    ("items", "outcome"),
    [
        ((), Outcome.UNCHANGED),
        ((unchanged("a"), skipped("b", "why")), Outcome.UNCHANGED),
        ((skipped("b", "why"),), Outcome.SKIPPED),
        ((unchanged("a"), kept("b")), Outcome.KEPT),
        ((kept("b"), changed("a")), Outcome.CHANGED),
        ((changed("a"), failed("b", "why"), kept("c")), Outcome.FAILED),
    ],
)
def test_a_step_ends_as_its_weightiest_item(items: tuple[Item, ...], outcome: Outcome) -> None:
    assert StepReport("s", items, 0.0).outcome is outcome


def test_lines_name_every_item_that_is_not_plainly_fine() -> None:
    step = StepReport("users", (unchanged("root"), kept("admin1"), failed("key", "no key", "give one")), 0.5)
    assert step.lines() == [
        "users: failed [0.50 s]",
        "  kept: admin1: changed by admin",
        "  failed: key: no key (give one)",
    ]


def test_sections_of_several_writers_all_survive(tmp_path: Path) -> None:
    host = Host(tmp_path)

    def write(number: int) -> None:
        for _ in range(10):
            StatusFile(host).merge("devices", f"vd{number}", {"n": number})

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(StatusFile(host).read()["devices"]) == ["vd0", "vd1", "vd2", "vd3"]
    assert stat.S_IMODE(os.stat(host.path(STATUS)).st_mode) == 0o644


def test_a_stage_is_a_section(tmp_path: Path) -> None:
    status = StatusFile(Host(tmp_path))
    status.stage_started("mount")
    assert status.read()["stages"]["mount"]["state"] == "running"
    status.stage_ended(StageReport("mount", (StepReport("disks", (failed("vdb", "damaged"),), 0.1),), 0.2))
    stage = status.read()["stages"]["mount"]
    assert stage["state"] == "failed"
    assert stage["steps"][0]["items"] == [{"name": "vdb", "outcome": "failed", "detail": "damaged"}]


def test_when_a_stage_ended_first_is_kept_though_it_runs_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = StatusFile(Host(tmp_path))
    for now in (9.84, 500.0):
        monkeypatch.setattr("agent.report.time.monotonic", lambda now=now: now)
        status.stage_started("mount")
        status.stage_ended(StageReport("mount", (), 0.2))
        assert status.read()["stages"]["mount"]["uptime"] == 9.8


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "[" * 5000,
        *(json.dumps({"version": version, "stages": 3}) for version in (VERSION, 99)),
    ],
)
def test_a_damaged_or_foreign_file_is_begun_anew(tmp_path: Path, text: str) -> None:
    host = Host(tmp_path)
    host.write(STATUS, text)
    assert StatusFile(host).read()["stages"] == {}


def test_a_writer_that_hangs_does_not_hang_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "_LOCK_TIMEOUT", 0.1)
    host = Host(tmp_path)
    StatusFile(host).merge("notes", "x", 1)
    with host.opened(LOCK, os.O_RDWR) as held:
        assert processes.lock(held, 0)
        with pytest.raises(Busy, match="another process has held"):
            StatusFile(host).merge("notes", "x", 2)
    StatusFile(host).merge("notes", "x", 3)
    assert StatusFile(host).read()["notes"] == {"x": 3}
