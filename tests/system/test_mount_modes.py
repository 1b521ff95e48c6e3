"""Mount mode notify, and the table of disks in each case; the automounter is in tests/vm."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from agent.disks import detach, survey
from agent.disks import handler as handler
from agent.host import processes
from agent.lib.records import replace
from agent.report import Outcome
from tests.system.disks import MIB, MKFS, LoopDisk, context, sh, system

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.block.storage import Disk
    from agent.host.host import Host

SIZE = 64 * MIB


def test_notify_tells_once_and_mounts_when_it_is_asked_to(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    disk, ctx = make_disk(SIZE), context(tmp_path, "CONFIG_MOUNT_MODE=notify\n")
    sh(*MKFS["ext4"], "-L", "data", disk.node)
    here, told = system(disk), list[str]()

    def look() -> list[Outcome]:
        return [item.outcome for item in handler.handle(ctx, disk.name, "change", system=here)]

    real = ctx.host.run

    def run(argv: tuple[str, ...], **given: object) -> object:
        if argv[0] == "wall":
            told.append(str(given["stdin"]))
            return None
        return real(argv, **given)  # type: ignore[arg-type]  # passed on as it came

    host = type(ctx.host)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host, "run", lambda _self, argv, **given: run(argv, **given))
        assert look() == [Outcome.CHANGED]
        assert look() == [Outcome.SKIPPED]
    assert len(told) == 1
    assert f"gandi-agent mount {disk.name}" in told[0]
    assert os.listdir(tmp_path / "srv") == []
    (row,) = survey.disks(ctx, system=here)
    assert (row.state, row.reason) == ("announced", "mount mode notify")
    assert list(detach.take_back(ctx, disk.name, system=here))[-1].outcome is Outcome.CHANGED
    assert os.path.ismount(tmp_path / "srv/data")
    list(detach.detach(ctx, disk.name, system=here))
    assert look() == [Outcome.SKIPPED], "released: nobody is told of it"


@pytest.mark.parametrize("line", ["CONFIG_MOUNT_MODE=off\n", "CONFIG_ALLOW_MOUNT=0\n"])
def test_what_is_switched_off_is_not_mounted_and_what_is_mounted_stays(
    line: str, make_disk: Callable[[int], LoopDisk], tmp_path: Path
) -> None:
    one, two, ctx = make_disk(SIZE), make_disk(SIZE), context(tmp_path)
    both = system(one, two)
    for disk, label in ((one, "one"), (two, "two")):
        sh(*MKFS["ext4"], "-L", label, disk.node)
    list(handler.handle(ctx, one.name, "change", system=both))
    context(tmp_path, line)
    list(handler.handle(ctx, two.name, "add", system=both))
    (item,) = list(handler.mount_all(ctx, system=both)) if "ALLOW" in line else [None]
    assert item is None or (item.outcome, item.detail) == (Outcome.SKIPPED, "CONFIG_ALLOW_MOUNT=0")
    assert os.path.ismount(tmp_path / "srv/one")
    assert os.listdir(tmp_path / "srv") == ["one"]
    items = list(detach.take_back(ctx, "two", system=both))
    by_hand = "ALLOW" not in line
    assert os.path.ismount(tmp_path / "srv/two") == by_hand
    assert by_hand or items[-1].detail == "CONFIG_ALLOW_MOUNT=0"


def test_the_table_names_what_hangs_what_failed_and_what_is_at_work(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent, bad, busy, ctx = make_disk(SIZE), make_disk(SIZE), make_disk(SIZE), context(tmp_path)
    for disk, label in ((bad, "bad"), (busy, "busy")):
        sh(*MKFS["ext4"], "-L", label, disk.node)
    every, go = system(silent, bad, busy), threading.Event()

    def read(host: Host, name: str) -> Disk | None:
        if name == silent.name:
            go.wait(30)
        return every.read(host, name)

    item = {"name": bad.name, "outcome": "failed", "detail": "its filesystem needs a check by hand"}
    ctx.status.merge("devices", bad.name, {"outcome": "failed", "items": [item]})
    work = {"step": "change", "waiting": "the check of it", "since": 0} | processes.this_process()
    ctx.status.merge("work", busy.name, work)
    monkeypatch.setattr(survey, "_TIMEOUT", 2.0)
    rows = {row.device: row for row in survey.disks(ctx, system=replace(every, read=read))}
    go.set()
    assert (rows[silent.name].state, rows[silent.name].reason) == ("failed", "it does not answer")
    assert (rows[bad.name].state, rows[bad.name].reason) == ("failed", item["detail"])
    assert (rows[busy.name].state, rows[busy.name].reason) == ("at work", "change: the check of it")
