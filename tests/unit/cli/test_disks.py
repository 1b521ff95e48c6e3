"""Tables and exit statuses of the verbs about disks; tests/system and tests/vm test their effects."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from agent.cli import disks
from agent.disks import detach, survey
from agent.disks.survey import Resource, Row
from agent.disks.usage.holders import Holder
from agent.host.host import Host
from agent.report import changed, failed, skipped, unchanged

if TYPE_CHECKING:
    from pathlib import Path

    from agent.report import Item

ROWS = [
    Row("vdb", 1 << 30, "ext4", "da\nta", "mounted", "keep", "/srv/da_ta"),
    Row("vdc", 0, "xfs", "", "gone", "none", "/srv/x", "held", (Holder(7, "sh", "/a"),)),
]


@pytest.fixture(autouse=True)
def _as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)


def test_disks_is_a_table_and_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(survey, "disks", lambda _ctx: ROWS)
    assert disks.disks(Host(tmp_path), as_json=False) == 0
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["DEVICE", "SIZE", "CONTENT", "STATE", "MOUNTPOINT", "WHY"]
    assert first.split() == ["vdb", "1.00", "GiB", "ext4", "'da\\nta'", "mounted", "/srv/da_ta", "-"]
    assert second.index("gone") == first.index("mounted")
    assert disks.disks(Host(tmp_path), as_json=True) == 0
    (one, two) = json.loads(capsys.readouterr().out)
    assert (one["device"], one["state"], one["holders"]) == ("vdb", "mounted", [])
    assert two["holders"] == [{"pid": 7, "name": "sh", "path": "/a"}]


def test_resources_shows_every_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [Resource("CPU", "cpu1", "offline", "leave", "taken offline by the administrator")]
    monkeypatch.setattr(survey, "resources", lambda _ctx: found)
    assert disks.resources(Host(tmp_path), as_json=False) == 0
    assert "cpu1  offline  leave" in capsys.readouterr().out
    assert disks.resources(Host(tmp_path), as_json=True) == 0
    assert json.loads(capsys.readouterr().out)[0]["kind"] == "CPU"


@pytest.mark.parametrize(
    ("items", "status"),
    [
        ([changed("vdb", "detached")], 0),
        ([failed("pre-disk-detach", "exit status 1"), changed("vdb", "detached")], 0),
        ([failed("vdb", "in use: sh (7): /srv/data")], 1),
    ],
)
def test_a_hook_that_fails_does_not_keep_a_disk(
    items: list[Item], status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detach, "detach", lambda _ctx, _what: iter(items))
    monkeypatch.setattr("os.chdir", lambda _path: None)
    assert disks.detach(Host(tmp_path), "vdb") == status


@pytest.mark.parametrize(
    ("items", "status"),
    [
        ([changed("vdb", "mounted at /srv/data")], 0),
        ([unchanged("vdb", "mounted at /srv/data")], 0),
        ([skipped("vdb", "no filesystem on it")], 1),
        ([skipped("vdb1", "a swap partition"), changed("vdb2", "mounted at /srv/data")], 0),
        ([failed("vdb", "damaged")], 1),
        ([], 1),
    ],
)
def test_mount_ends_with_1_when_nothing_is_mounted(
    items: list[Item], status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detach, "take_back", lambda _ctx, _what: iter(items))
    assert disks.mount(Host(tmp_path), "vdb") == status
