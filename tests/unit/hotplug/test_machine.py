"""The facts about the rest of the machine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from agent.host import Host
from agent.hotplug import machine
from agent.hotplug.facts import Place
from agent.hotplug.system import System
from agent.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_mountpoint_is_not_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What hangs behind one (a server, a disk) would hang every decision, and with them the boot."""
    (tmp_path / "proc/self").mkdir(parents=True)
    line = "40 1 0:40 / /srv/nfs rw - nfs server:/data rw\n"
    (tmp_path / "proc/self/mountinfo").write_text(line)
    for name in ("nfs", "empty", "full/file"):
        (tmp_path / "srv" / name).mkdir(parents=True)
    (tmp_path / "srv/link").symlink_to("full")
    touched = list[str]()
    real = os.lstat

    def lstat(path: Path | str) -> os.stat_result:
        touched.append(os.path.basename(path))
        return real(path)

    monkeypatch.setattr(os, "lstat", lstat)
    known = machine.gather(Host(tmp_path), System(), Settings(), {})
    assert known.places == {
        "/srv/empty": Place.EMPTY,
        "/srv/full": Place.FULL,
        "/srv/link": Place.OTHER,
    }
    assert "full" in touched
    assert "nfs" not in touched
