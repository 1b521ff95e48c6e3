"""Waiting for a NIC that appears, and the end of the wait for one that does not, in a network namespace."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: $1: timeout in seconds; $2: whether udev is busy; then the command that makes the NIC.
WAIT = """
import subprocess, sys, time
from pathlib import Path
from agent.host.host import Host
from agent.network import interfaces
patience, queue, root, command = float(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), sys.argv[4:]
if queue == "busy":
    (root / "run/udev").mkdir(parents=True)
    (root / "run/udev/queue").touch()
brings = subprocess.Popen(command) if command else None
begun = time.monotonic()
there = lambda: "nic9" in subprocess.run(["ip", "-br", "link"], capture_output=True, text=True).stdout
print(interfaces.wait_for_change(Host(root), there, patience), f"{time.monotonic() - begun:.1f}")
"""


def _wait(tmp_path: Path, patience: float, queue: str, *command: str) -> tuple[bool, float]:
    argv = ["unshare", "--net", sys.executable, "-c", WAIT, str(patience), queue, str(tmp_path), *command]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    found, seconds = done.stdout.split()
    return found == "True", float(seconds)


def test_it_is_seen_when_it_comes(tmp_path: Path) -> None:
    adds = ("sh", "-c", "sleep 0.5; ip link add nic9 type bridge")
    found, seconds = _wait(tmp_path, 20, "busy", *adds)
    assert found
    assert 0.4 < seconds < 5


def test_without_one_the_wait_ends_with_udevs_queue(tmp_path: Path) -> None:
    found, seconds = _wait(tmp_path, 20, "idle")
    assert not found
    assert seconds < 2


def test_without_one_the_wait_ends_in_time_whatever_udev_does(tmp_path: Path) -> None:
    found, seconds = _wait(tmp_path, 1, "busy")
    assert not found
    assert 0.9 < seconds < 5
