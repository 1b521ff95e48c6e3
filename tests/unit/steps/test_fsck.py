"""Limits for checks: set where there was no limit on mounts, on a filesystem made by mke2fs."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from agent.host.host import Host
from agent.steps import fsck
from tests.unit.steps.conftest import Machine

DONE = "42 mounts, 5184000 s"


@pytest.fixture
def disk(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root filesystem in a file that replaces its device; the real tune2fs is run."""
    machine.put("/proc/self/mountinfo", "20 1 254:1 / / rw - ext4 /dev/root rw\n")
    path = machine.put("/dev/block/254:1", "\0" * (1 << 20))
    subprocess.run(["mke2fs", "-q", "-t", "ext4", path], check=True)

    def run(_host: object, argv: tuple[str, ...], **_how: Any) -> None:
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)

    monkeypatch.setattr(Host, "run", run)
    return path


def tune(disk: Path, *options: str) -> None:
    subprocess.run(["tune2fs", *options, disk], check=True, stdout=subprocess.DEVNULL)


def test_set_once_and_then_left(machine: Machine, disk: Path) -> None:
    assert machine.run(fsck.apply) == {"fsck": f"changed: {DONE}"}
    said = subprocess.run(["tune2fs", "-l", disk], check=True, capture_output=True, text=True).stdout
    assert "Maximum mount count:      42\n" in said
    assert "Check interval:           5184000 (2 months)\n" in said
    assert machine.run(fsck.apply) == {"fsck": f"unchanged: {DONE}"}
    for mounts in ("-1", "7"):
        tune(disk, "-c", mounts, "-i", "0")
        assert machine.run(fsck.apply) == {"fsck": "kept: changed by admin"}


def test_a_limit_of_somebody_elses_is_left(machine: Machine, disk: Path) -> None:
    tune(disk, "-c", "7")
    assert machine.run(fsck.apply) == {"fsck": "unchanged: already set: 7 mounts, 0 s"}


def test_another_filesystem_is_not_looked_at(machine: Machine, disk: Path) -> None:
    disk.write_bytes(bytes(1 << 20))
    assert machine.run(fsck.apply) == {}
    machine.put("/proc/self/mountinfo", "20 1 254:1 / / rw - xfs /dev/root rw\n")
    assert machine.run(fsck.apply) == {}
