"""The facts about the rest of the machine that a decision needs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from agent.block.mounts import Mount
from agent.block.storage import Device, Disk
from agent.config.settings import Settings
from agent.disks import decide
from agent.disks.base.facts import Machine, Place
from agent.disks.base.record import DiskState, Record
from agent.disks.base.system import System
from agent.host.host import Host

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_mountpoint_is_not_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server or a disk that hangs there would block every decision, and with them the boot."""
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

    with monkeypatch.context() as patch:
        patch.setattr(os, "lstat", lstat)
        known = decide.gather(Host(tmp_path), System(), Settings(), {})
    assert known.places == {
        "/srv/empty": Place.EMPTY,
        "/srv/full": Place.FULL,
        "/srv/link": Place.OTHER,
    }
    assert "full" in touched
    assert "nfs" not in touched


def record(name: str, number: str, state: DiskState = DiskState.MOUNTED) -> Record:
    return Record(name.rstrip("0123456789"), "7", "u", "", number, f"/srv/{name}", state=state)


def test_what_is_the_administrators() -> None:
    """Disks that they unmounted or released, and partitions they create on such a disk; no others."""
    number = frozenset({"254:17"})
    known = Machine(mounts=(Mount("/srv/vdb1", "/dev/vdb1", "ext4", number),))
    records = {
        "vdb1": record("vdb1", "254:17"),
        "vdb2": record("vdb2", "254:18"),  # mounted nowhere
        "vdc": record("vdc", "254:32", DiskState.RELEASED),
        "vdd": record("vdd", "254:48", DiskState.OFFERED),
        "vde": record("vde", "254:64", DiskState.ANNOUNCED),
    }
    disks = [disk("vdb", "vdb1", "vdb2", "vdb3"), disk("vdc", "vdc1"), disk("vdd"), disk("vde"), disk("vdf")]
    expected = {"vdb", "vdb2", "vdb3", "vdc", "vdc1"}
    assert decide.released(known, records, disks) == expected
    del records["vdb2"]
    assert decide.released(known, records, disks) == {"vdc", "vdc1"}


def disk(name: str, *partitions: str) -> Disk:
    return Disk(Device(name, "", 1), tuple(Device(part, "", 1, partition=1) for part in partitions))


def test_what_the_automounter_is_offered_is_taken(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text("41 1 0:41 / /srv rw - autofs auto.gandi rw\n")
    (tmp_path / "srv/left-by-the-automounter").mkdir(parents=True)
    records = {
        "vdd": record("vdd", "254:48", DiskState.OFFERED),
        "vde": record("vde", "254:64", DiskState.ANNOUNCED),
    }
    known = decide.gather(Host(tmp_path), System(), Settings(), records)
    assert known.places == {}, "a look would mount"
    assert [(found.mountpoint, found.ours) for found in known.filesystems] == [("/srv/vdd", True)]
