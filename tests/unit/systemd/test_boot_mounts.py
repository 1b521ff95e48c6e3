"""Mount units written for PID 1: the agent's until they are changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.block.mounts import claims
from agent.host.host import Host
from agent.systemd import boot_mounts
from tests.unit.conftest import Asked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.conftest import FakePid1

UNIT, TEXT = "srv-data.mount", "[Mount]\nWhat=/dev/disk/by-uuid/1234-5678\nWhere=/srv/data\n"
CHANGES: dict[str, Callable[[str], str]] = {
    "a line more": lambda text: text + "Options=ro\n",
    "an option": lambda text: text.replace("5678", "9999"),
    "without the first line": lambda text: text.partition("\n")[2],
    "empty": lambda text: "",
}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A machine in an empty folder."""
    return Host(tmp_path)


def test_it_is_written_wanted_claimed_by_nobody_and_taken_away(host: Host, tmp_path: Path) -> None:
    assert boot_mounts.write_unit(host, UNIT, TEXT)
    link = tmp_path / "etc/systemd/system/gandi-disks.target.wants" / UNIT
    assert link.read_text().endswith(TEXT)
    assert boot_mounts.agent_units(host) == [UNIT]
    assert claims(host) == ()
    assert boot_mounts.write_unit(host, UNIT, TEXT + "Options=ro\n")
    assert link.read_text().endswith("Options=ro\n")
    assert boot_mounts.remove_all(host) == [f"/etc/systemd/system/{UNIT}"]
    assert list((tmp_path / "etc/systemd/system").iterdir()) == []


@pytest.mark.parametrize("change", CHANGES)
def test_one_that_was_changed_is_the_administrators(host: Host, tmp_path: Path, change: str) -> None:
    boot_mounts.write_unit(host, UNIT, TEXT)
    path = tmp_path / "etc/systemd/system" / UNIT
    his = CHANGES[change](path.read_text())
    path.write_text(his)
    assert boot_mounts.agent_units(host) == []
    assert not boot_mounts.write_unit(host, UNIT, TEXT)
    assert boot_mounts.remove_all(host) == []
    assert path.read_text() == his
    assert [claim.where for claim in claims(host)] == ([] if change == "empty" else ["/srv/data"])


@pytest.mark.parametrize("target", ["/dev/null", "elsewhere"])
def test_a_link_of_that_name_stays(host: Host, tmp_path: Path, target: str) -> None:
    path = tmp_path / "etc/systemd/system" / UNIT
    path.parent.mkdir(parents=True)
    (path.parent / "elsewhere").write_text(boot_mounts.with_header(TEXT))
    path.symlink_to(target)
    assert not boot_mounts.write_unit(host, UNIT, TEXT)
    assert boot_mounts.remove_all(host) == []
    assert path.is_symlink()


STOP, RELOAD = ("systemctl", "stop", UNIT), ("systemctl", "daemon-reload")
RESET = ("systemctl", "reset-failed", UNIT)


@pytest.mark.parametrize(
    ("state", "commands"),
    [
        ("", []),
        ("inactive", [RELOAD]),
        ("activating", [STOP, RELOAD, RESET]),
        ("failed", [RELOAD, RESET]),
    ],
)
def test_the_daemons_mount_replaces_the_unit(
    tmp_path: Path, fake_pid1: FakePid1, state: str, commands: list[tuple[str, ...]]
) -> None:
    """A unit that PID 1 has not loaded (no state) is only removed; a mount that it has begun is ended."""
    host = Asked(tmp_path)
    boot_mounts.write_unit(host, UNIT, TEXT)
    fake_pid1.loaded = lambda unit: f"/etc/systemd/system/{unit}" if state else ""
    fake_pid1.state = lambda _unit: state
    boot_mounts.replace_unit(host, UNIT, timeout=5)
    assert host.argvs == commands
    assert boot_mounts.agent_units(host) == []


def test_it_replaces_no_unit_of_the_administrators(tmp_path: Path, fake_pid1: FakePid1) -> None:
    host, path = Asked(tmp_path), tmp_path / "etc/systemd/system" / UNIT
    host.write(f"/etc/systemd/system/{UNIT}", TEXT)
    boot_mounts.replace_unit(host, UNIT, timeout=5)
    assert (path.read_text(), host.argvs, fake_pid1.queried) == (TEXT, [], [])
