"""Removed disks: swap space, mounts and folders, and the line that names their users."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.block import mounts
from agent.context import context
from agent.disks import mounting, removed
from agent.disks.base.record import Record
from agent.disks.base.system import SYSTEMD
from agent.disks.usage.holders import Holder, summary
from agent.host.host import Host
from agent.lib.records import replace
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
    assert removed.lost_swap(ctx, disk) == lost
    items = list(removed.report_users(ctx, disk))
    assert [(item.name, item.outcome) for item in items] == [(name, Outcome.FAILED) for name in lost]
    assert all(item.detail.startswith("CRITICAL") for item in items)


def test_a_swap_disk_that_is_there_is_fine(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.write("/dev/vdz", "")
    host.write("/proc/swaps", f"{HEAD}/dev/vdz partition 1048572 0 -2\n")
    assert removed.lost_swap(context(host), "vdz") == []


def test_many_holders_are_one_line() -> None:
    many = [Holder(pid, "sh", f"/srv/data/{pid}") for pid in range(1, 9)]
    assert summary(many[:2]) == "sh (1): /srv/data/1; sh (2): /srv/data/2"
    assert summary(many).endswith("; sh (5): /srv/data/5 and 3 more")


@pytest.mark.parametrize(
    ("number", "line"),
    [
        ("254:96", "40 1 254:96 / /srv/data rw shared:1 - ext4 /dev/vdg rw"),
        ("254:96", "40 1 0:41 / /srv/data rw shared:1 - btrfs /dev/vdg rw"),
    ],
)
def test_what_is_still_mounted_is_unmounted_before_its_folder_goes(
    number: str, line: str, tmp_path: Path
) -> None:
    """PID 1 unmounts removed devices too, but not always first."""
    host = Host(tmp_path)
    host.mkdir("/srv/data")
    host.write(mounts.MOUNTINFO, f"22 1 254:1 / / rw - ext4 /dev/vda1 rw\n{line}\n")
    unmounted = list[str]()

    def unmount(host: Host, at: str) -> None:
        assert host.exists(at), "its folder is still there"
        unmounted.append(at)
        host.write(mounts.MOUNTINFO, "22 1 254:1 / / rw - ext4 /dev/vda1 rw\n")

    record = Record("vdg", "9", "", "data", number, "/srv/data", made=True)
    system = replace(SYSTEMD, unmount=unmount)
    done = list(mounting.clean_up(context(host), system, "vdg", record, ("/srv/data",)))
    assert [item.outcome for item in done] == [Outcome.CHANGED]
    assert unmounted == ["/srv/data"]
    assert not host.exists("/srv/data")
