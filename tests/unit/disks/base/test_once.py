"""What is done once for an attachment of a disk, and until when it counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.disks.base.once import CHECK, GROWTH, Once
from agent.host.host import Host

if TYPE_CHECKING:
    from pathlib import Path


def test_what_was_tried_on_a_device_is_forgotten_and_nothing_else(tmp_path: Path) -> None:
    once = Once(Host(tmp_path))
    for name in (f"{CHECK} vdb1", f"{GROWTH} vdb1", f"{GROWTH} vdb12", "look vdb1"):
        once.note(name, "7")
    once.try_again(["vdb", "vdb1"])
    assert [once.noted(f"{what} vdb1") for what in (CHECK, GROWTH, "look")] == ["", "", "7"]
    assert once.noted(f"{GROWTH} vdb12") == "7"


def test_a_plan_forgets_nothing(tmp_path: Path) -> None:
    Once(Host(tmp_path)).note(f"{GROWTH} vdb", "7")
    plan = Once(Host(tmp_path, dry_run=True))
    plan.try_again(["vdb"])
    assert plan.noted(f"{GROWTH} vdb") == "7"
