"""Swap space that goes with its disk, and names of what has gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.context import context
from agent.host import Host
from agent.hotplug import gone
from agent.hotplug.holders import Holder
from agent.report import Outcome

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"


@pytest.mark.parametrize(
    ("disk", "line", "lost"),
    [
        ("vdz", "/dev/vdz\\040(deleted) partition 1048572 0 -2\n", ["vdz"]),
        ("vdz", "/dev/vdz1\\040(deleted) partition 1048572 0 -2\n", ["vdz1"]),
        ("nvme0n1", "/dev/nvme0n1p2\\040(deleted) partition 1048572 0 -2\n", ["nvme0n1p2"]),
        ("vdz", "/dev/vdz partition 1048572 0 -2\n", ["vdz"]),  # its node has gone as well
        ("vdz", "/dev/vda1 partition 1048572 0 -2\n", []),
        ("vdz", "/dev/vdza\\040(deleted) partition 1048572 0 -2\n", []),
        ("vdz", "/srv/swapfile file 1048572 0 -2\n", []),
    ],
)
def test_a_swap_disk_that_was_taken_away_is_critical(
    disk: str, line: str, lost: list[str], tmp_path: Path
) -> None:
    host = Host(tmp_path)
    host.write("/proc/swaps", HEAD + line)
    ctx = context(host)
    assert gone.lost_swap(ctx, disk) == lost
    items = list(gone.left(ctx, disk))
    assert [(item.name, item.outcome) for item in items] == [(name, Outcome.FAILED) for name in lost]
    assert all(item.detail.startswith("CRITICAL") for item in items)


def test_a_swap_disk_that_is_there_is_fine(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.write("/dev/vdz", "")
    host.write("/proc/swaps", f"{HEAD}/dev/vdz partition 1048572 0 -2\n")
    assert gone.lost_swap(context(host), "vdz") == []


def test_many_holders_are_one_line() -> None:
    many = [Holder(pid, "sh", f"/srv/data/{pid}") for pid in range(1, 9)]
    assert gone.named(many[:2]) == "sh (1): /srv/data/1; sh (2): /srv/data/2"
    assert gone.named(many).endswith("; sh (5): /srv/data/5 and 3 more")
