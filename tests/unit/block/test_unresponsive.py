"""Silent disks are detected by the kernel's counters, within a bound, and only once in a boot."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from agent.block import unresponsive
from agent.block.unresponsive import STALL_TIMEOUT, StallDetector
from agent.host.host import Host

if TYPE_CHECKING:
    from pathlib import Path


class Disks:
    """Disks in a tree, with the kernel's counters of each."""

    def __init__(self, root: Path) -> None:
        self.root, self.host = root, Host(root)

    def set(self, name: str, *, reads: int, under_way: int, sequence: int = 1) -> None:
        """Make a disk with so many completed reads, and so many in flight."""
        folder = self.root / "sys/class/block" / name
        folder.mkdir(parents=True, exist_ok=True)
        stat = [reads, 0, 8, 9, 0, 0, 0, 0, under_way, 7, 7, 0, 0, 0, 0, 0, 0]
        (folder / "stat").write_text(" ".join(f"{number:8}" for number in stat) + "\n")
        (folder / "inflight").write_text(f"{under_way:8} {0:8}\n")
        (folder / "diskseq").write_text(f"{sequence}\n")


@pytest.fixture
def disks(tmp_path: Path) -> Disks:
    """Make a machine without disks."""
    return Disks(tmp_path)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Set the clock: the list's one element is the time."""
    now = [100.0]
    monkeypatch.setattr("agent.block.unresponsive.time.monotonic", lambda: now[0])
    return now


def test_a_disk_is_still_when_none_of_its_requests_ends(disks: Disks, clock: list[float]) -> None:
    still = StallDetector(disks.host, {"vdb": "vdb"})
    disks.set("vdb", reads=7, under_way=1)
    assert not still.all_stalled(["vdb"])
    clock[0] += STALL_TIMEOUT - 0.1
    assert not still.all_stalled(["vdb"])
    clock[0] += 0.1
    assert still.all_stalled(["vdb"])
    assert still.reason("vdb") == "does not answer"


def test_one_that_is_slow_or_has_nothing_to_do_is_not(disks: Disks, clock: list[float]) -> None:
    still = StallDetector(disks.host, {"vdb1": "vdb", "vdc": "vdc"})
    for second in range(20):
        disks.set("vdb", reads=7 + second, under_way=32)
        disks.set("vdc", reads=7, under_way=0)
        clock[0] += 1
        assert not still.all_stalled(["vdb1"])
        assert not still.all_stalled(["vdc"])


def test_while_another_moves_all_are_waited_for(disks: Disks, clock: list[float]) -> None:
    still = StallDetector(disks.host, {"vdb": "vdb", "vdc": "vdc"})
    for second in range(5):
        disks.set("vdb", reads=7, under_way=1)
        disks.set("vdc", reads=7 + second, under_way=1)
        assert not still.all_stalled(["vdb", "vdc"])
        clock[0] += 1
    assert still.all_stalled(["vdb"])  # at once when the other one has ended


def test_a_check_is_waited_for_no_longer_however_the_disk_moves(disks: Disks, clock: list[float]) -> None:
    still = StallDetector(disks.host, {"vdb": "vdb"})
    disks.set("vdb", reads=7, under_way=0)
    still.note_wait("vdb", "the check of vdb")
    assert not still.all_stalled(["vdb"])
    clock[0] += STALL_TIMEOUT
    assert still.all_stalled(["vdb"])
    assert still.reason("vdb") == "waits for the check of vdb"
    still.note_wait("vdb", "")
    clock[0] += STALL_TIMEOUT
    assert not still.all_stalled(["vdb"])


def test_one_that_hangs_costs_the_patience_once(disks: Disks, monkeypatch: pytest.MonkeyPatch) -> None:
    go, read = threading.Event(), list[str]()

    def hang(_host: Host, name: str) -> None:
        read.append(name)
        if name == "vdb":
            go.wait(30)

    # A test cannot make a device that hangs in the kernel and can be removed again: see tests/vm.
    monkeypatch.setattr(unresponsive, "_read", hang)
    disks.set("vdb", reads=7, under_way=1)
    disks.set("vdc", reads=7, under_way=0)
    begun = time.monotonic()
    assert unresponsive.find_unresponsive(disks.host, ["vdb", "vdc"]) == {"vdb"}
    assert STALL_TIMEOUT <= time.monotonic() - begun < STALL_TIMEOUT + 1
    assert sorted(read) == ["vdb", "vdc"]
    begun = time.monotonic()
    assert unresponsive.find_unresponsive(disks.host, ["vdb", "vdc"]) == {"vdb"}
    assert time.monotonic() - begun < STALL_TIMEOUT / 2
    assert sorted(read) == ["vdb", "vdc", "vdc"]
    go.set()


def test_it_counts_again_when_it_has_answered_or_another_has_come(disks: Disks) -> None:
    disks.set("vdb", reads=7, under_way=1)
    unresponsive.record_unresponsive(disks.host, "vdb")
    assert unresponsive.is_unresponsive(disks.host, "vdb")
    disks.set("vdb", reads=8, under_way=1)
    assert not unresponsive.is_unresponsive(disks.host, "vdb")
    disks.set("vdb", reads=7, under_way=0)
    assert not unresponsive.is_unresponsive(disks.host, "vdb")
    disks.set("vdb", reads=7, under_way=1, sequence=2)
    assert not unresponsive.is_unresponsive(disks.host, "vdb")
