"""Memory blocks: one scan handles all new ones, and retries those that were refused temporarily."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from agent.context import Context, context
from agent.host.host import Host
from agent.hotplug import memory
from agent.lib.errors import HostError

SYS = "sys/devices/system/memory"


class Kernel(Host):
    """A tree with blocks that come online when that is written. ``refusals``: errors of a block's writes."""

    __slots__ = ("refusals", "writes")

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.writes: list[tuple[str, str]] = []
        self.refusals: dict[str, list[int]] = {}

    def sysfs_write(self, name: str, value: str) -> None:
        block = name.split("/")[-2]
        self.writes.append((block, value))
        if waiting := self.refusals.get(block):
            number = waiting.pop(0)
            raise HostError(f"{name}: refused") from OSError(number, os.strerror(number))
        folder = Path(self.root) / SYS / block
        (folder / "state").write_text("online\n")
        zone = "Movable" if value == "online_movable" else "Normal"
        (folder / "valid_zones").write_text(f"{zone}\n")


def add(root: Path, *numbers: int, state: str = "offline", zones: str = "Normal Movable") -> None:
    """Plug blocks in."""
    for number in numbers:
        folder = root / SYS / f"memory{number}"
        folder.mkdir(parents=True)
        (folder / "state").write_text(f"{state}\n")
        (folder / "valid_zones").write_text(f"{zones}\n")


@pytest.fixture
def host(tmp_path: Path) -> Kernel:
    """Make a machine with four blocks and a kernel that leaves added blocks offline."""
    add(tmp_path, 0, 1, 2, 3, state="online", zones="none")
    (tmp_path / SYS / "auto_online_blocks").write_text("offline\n")
    (tmp_path / SYS / "block_size_bytes").write_text("8000000\n")
    return Kernel(tmp_path)


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the waits between attempts, without waiting."""
    slept: list[float] = []
    monkeypatch.setattr("agent.hotplug.memory.time.sleep", slept.append)
    return slept


def boot(host: Host) -> dict[str, str]:
    return {item.name: f"{item.outcome}: {item.detail}" for item in memory.apply(context(host))}


def look(host: Host) -> dict[str, str]:
    """Scan once, as a daemon that has just started."""
    return {item.name: f"{item.outcome}: {item.detail}" for item in memory.handle(context(host))}


def setting(host: Host, value: str) -> Context:
    host.write("/etc/default/gandi", f"CONFIG_MEMORY_ONLINE={value}\n")
    return context(host)


@pytest.mark.parametrize(
    ("value", "kernel", "expected"),
    [
        ("auto", "offline", "online"),
        ("auto", "", "online"),
        ("auto", "online", ""),
        ("online_movable", "offline", "online_movable"),
        ("online_movable", "online_kernel", ""),
        ("online_kernel", "offline", "online_kernel"),
        ("online", "offline", "online"),
        ("0", "offline", ""),
    ],
)
def test_the_way(value: str, kernel: str, expected: str) -> None:
    how, why = memory.online_method(value, kernel)
    assert how == expected
    assert why


@pytest.mark.parametrize(
    ("how", "zones", "possible"),
    [
        ("online", "Normal Movable", True),
        ("online", "", True),
        ("online", "none", False),
        ("online_movable", "Normal Movable", True),
        ("online_movable", "Normal", False),
        ("online_kernel", "Movable Normal", True),
        ("online_kernel", "Movable", False),
        ("online_kernel", "none", False),
    ],
)
def test_the_zones(how: str, zones: str, possible: bool) -> None:  # a column of the table
    assert (memory.why_impossible(how, zones) == "") is possible


def test_hundreds_of_blocks_are_one_piece_of_work(host: Kernel, tmp_path: Path, naps: list[float]) -> None:
    """One scan, one write per block, and one item for all."""
    boot(host)
    add(tmp_path, *range(32, 432))
    assert look(host) == {
        "memory32-431": "changed: 51200 MiB online (Normal)",
        "memory": "unchanged: 51712 MiB in blocks",
    }
    assert len(host.writes) == 400
    assert list(look(host)) == ["memory"]
    assert len(host.writes) == 400
    assert naps == []


def test_what_was_plugged_in_before_the_boot_is_brought_online(host: Kernel, tmp_path: Path) -> None:
    add(tmp_path, 32)
    assert "memory32" in boot(host)


def test_where_nobody_looked_at_the_boot_what_is_offline_is_left(host: Kernel, tmp_path: Path) -> None:
    add(tmp_path, 32)
    assert list(look(host)) == ["memory"]
    add(tmp_path, 33)
    look(host)
    assert host.writes == [("memory33", "online")]


def test_what_the_administrator_took_offline_stays_so(host: Kernel, tmp_path: Path) -> None:
    boot(host)
    add(tmp_path, 32, 33)
    look(host)
    for block in ("memory2", "memory32"):
        (tmp_path / SYS / block / "state").write_text("offline\n")
    for _ in range(3):
        assert list(look(host)) == ["memory"]
    assert len(host.writes) == 2
    rows = {name: (state, act) for name, state, act, _why in memory.survey(context(host))}
    assert rows["memory2"] == rows["memory32"] == ("offline", "leave")
    assert rows["memory0-1"] == ("online", "leave")
    # Added again, it is another one; the old folder is kept, so that its inode is not used again.
    (tmp_path / SYS / "memory32").rename(tmp_path / "unplugged")
    add(tmp_path, 32)
    assert "memory32" in look(host)


def test_a_refusal_for_the_moment_is_tried_again(host: Kernel, tmp_path: Path, naps: list[float]) -> None:
    """ENOMEM and EBUSY are retried, EINVAL is not; each block for itself."""
    boot(host)
    add(tmp_path, 32, 33, 34)
    host.refusals = {"memory33": [errno.ENOMEM, errno.EBUSY], "memory34": [errno.EINVAL]}
    found = look(host)
    assert found["memory32-33"].startswith("changed")
    assert found["memory34"] == "failed: Invalid argument"
    assert naps == list(memory.DELAYS[:2])
    assert [block for block, _ in host.writes].count("memory34") == 1


def test_attempts_end(host: Kernel, tmp_path: Path, naps: list[float]) -> None:
    boot(host)
    add(tmp_path, 32, 33)
    host.refusals = {"memory33": [errno.ENOMEM] * 100}
    found = look(host)
    assert found["memory33"] == "failed: Cannot allocate memory"
    assert found["memory32"].startswith("changed")
    assert naps == list(memory.DELAYS)
    host.refusals = {}
    assert look(host)["memory33"].startswith("changed")


def test_what_comes_while_others_wait_is_taken_too(
    host: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot(host)
    add(tmp_path, 32)
    host.refusals = {"memory32": [errno.EBUSY]}
    monkeypatch.setattr("agent.hotplug.memory.time.sleep", lambda _seconds: add(tmp_path, 33))
    assert "memory32-33" in look(host)


def test_the_kernels_own_way_is_respected(host: Kernel, tmp_path: Path) -> None:
    (tmp_path / SYS / "auto_online_blocks").write_text("online\n")
    boot(host)
    add(tmp_path, 32)
    assert "auto_online_blocks=online" in look(host)["memory32"]
    (tmp_path / SYS / "memory32/state").write_text("online\n")
    assert list(look(host)) == ["memory"]
    assert host.writes == []


def test_a_zone_that_is_not_possible_is_reported(host: Kernel, tmp_path: Path) -> None:
    boot(host)
    setting(host, "online_movable")
    add(tmp_path, 32, zones="Normal")
    add(tmp_path, 33)
    found = look(host)
    assert found["memory32"] == "failed: online_movable is not possible there: valid_zones says Normal"
    assert found["memory33"] == "changed: 128 MiB online (Movable)"
    assert host.writes == [("memory33", "online_movable")]


def test_off_is_off(host: Kernel, tmp_path: Path) -> None:
    boot(host)
    setting(host, "0")
    add(tmp_path, 32)
    assert look(host)["memory32"] == "skipped: CONFIG_MEMORY_ONLINE=0"
    assert host.writes == []
