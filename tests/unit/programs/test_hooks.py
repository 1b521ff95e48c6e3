"""Which of the operator's programs are run as root, and how. tests/vm tests that systemd runs them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from agent.context import context
from agent.host.host import Host
from agent.lib.errors import HostError
from agent.programs import hooks
from agent.report import Outcome
from tests.unit.conftest import FakePid1, UnitProperties

if TYPE_CHECKING:
    from pathlib import Path

NAME = "post-disk-attach"


@pytest.fixture
def machine(tmp_path: Path, fake_pid1: FakePid1) -> Host:
    """A machine with a hook that prints its user."""
    path = tmp_path / "etc/gandi/hooks" / NAME
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return Host(tmp_path)


def run(machine: Host, *args: str, **environment: str) -> list[tuple[str, str]]:
    done = hooks.run(context(machine), NAME, *args, environment=environment)
    return [(item.name, item.outcome.value) for item in done]


def test_a_hook_is_run_by_argv_in_a_unit_of_its_own(machine: Host, fake_pid1: FakePid1) -> None:
    done = run(machine, "/dev/vdb", "ext4", "/srv/a $b", DEVNAME="/dev/vdb", ACTION="add", ID_SERIAL="x y")
    assert done == [(NAME, "changed")]
    ((unit, said),) = fake_pid1.started
    assert unit == f"gandi-hook-{NAME}-vdb.service"
    assert said["ExecStart"] == (f"/etc/gandi/hooks/{NAME}", "/dev/vdb", "ext4", "/srv/a $$b")
    expected = {
        "Type": ("oneshot",),
        "DefaultDependencies": ("no",),
        "TimeoutStartUSec": (f"{hooks.TIMEOUT:.0f}000000",),
        "SyslogIdentifier": (NAME,),
    }
    assert expected.items() <= said.items()
    assert {"ACTION=add", "DEVNAME=/dev/vdb", "ID_SERIAL=x y"} <= set(said["Environment"])


def test_variables_that_systemd_would_refuse_are_left_out(machine: Host, fake_pid1: FakePid1) -> None:
    odd = {".PRIVATE": "1", "A-B": "1", "BYTES": os.fsdecode(b"\xff"), "NUL": "a\0b", "OK": "1"}
    list(hooks.run(context(machine), NAME, environment=odd))
    ((_, said),) = fake_pid1.started
    assert set(said["Environment"]) == {"HOME=/root", "GANDI_SETTINGS=/run/gandi/settings.sh", "OK=1"}


def test_the_settings_are_passed_in_a_file_of_root_alone(machine: Host, fake_pid1: FakePid1) -> None:
    for written, read in (("", "/srv"), ("CONFIG_DISK_ROOT=/data\n", "/data")):
        machine.write("/etc/default/gandi", written)
        assert run(machine) == [(NAME, "changed")]
        assert "GANDI_SETTINGS=/run/gandi/settings.sh" in fake_pid1.started[-1][1]["Environment"]
        assert f"\nCONFIG_DISK_ROOT='{read}'\n" in (machine.read("/run/gandi/settings.sh") or "")
        assert os.stat(machine.path("/run/gandi/settings.sh")).st_mode & 0o777 == 0o600


def test_settings_that_cannot_be_written_stop_no_hook(machine: Host, fake_pid1: FakePid1) -> None:
    machine.mkdir("/run/gandi/settings.sh/mine")
    assert run(machine) == [(NAME, "changed")]
    assert set(fake_pid1.started[0][1]["Environment"]) == {"HOME=/root"}


def test_without_an_interpreter_line_it_is_a_shell_script(
    machine: Host, fake_pid1: FakePid1, tmp_path: Path
) -> None:
    (tmp_path / "etc/gandi/hooks" / NAME).write_text("echo $1\n")
    run(machine, "x")
    ((_, said),) = fake_pid1.started
    assert said["ExecStart"] == ("/bin/sh", f"/etc/gandi/hooks/{NAME}", "x")


def test_no_hook_is_nothing(tmp_path: Path) -> None:
    assert run(Host(tmp_path)) == []


def test_a_hook_that_fails_is_reported(machine: Host, fake_pid1: FakePid1) -> None:
    def fails(unit: str, _said: UnitProperties) -> None:
        raise HostError(f"{unit}: its start ended as: failed")

    fake_pid1.begins = fails
    assert run(machine) == [(NAME, "failed")]


def test_an_image_that_does_not_run_has_no_hooks(machine: Host, fake_pid1: FakePid1) -> None:
    machine.offline = True
    assert run(machine) == []
    assert fake_pid1.started == []


@pytest.mark.parametrize("mode", [0o644, 0o600])
def test_what_is_not_executable_is_switched_off(
    machine: Host, fake_pid1: FakePid1, tmp_path: Path, mode: int
) -> None:
    (tmp_path / "etc/gandi/hooks" / NAME).chmod(mode)
    assert run(machine) == [(NAME, "skipped")]
    assert fake_pid1.started == []


@pytest.mark.skipif(os.geteuid() != 0, reason="ownership is root's to give")
@pytest.mark.parametrize(
    ("place", "owner", "mode"),
    [
        (f"etc/gandi/hooks/{NAME}", (1000, 0), 0o755),
        (f"etc/gandi/hooks/{NAME}", (0, 0), 0o757),
        (f"etc/gandi/hooks/{NAME}", (0, 50), 0o775),
        ("etc/gandi/hooks", (1000, 0), 0o755),
        ("etc/gandi/hooks", (0, 50), 0o775),
        ("etc/gandi", (0, 0), 0o777),
    ],
)
def test_what_others_could_have_written_is_refused(
    machine: Host, fake_pid1: FakePid1, tmp_path: Path, place: str, owner: tuple[int, int], mode: int
) -> None:
    assert run(machine) == [(NAME, "changed")]
    fake_pid1.started.clear()
    os.chown(tmp_path / place, *owner)
    os.chmod(tmp_path / place, mode)
    done = list(hooks.run(context(machine), NAME, environment={}))
    assert [item.outcome for item in done] == [Outcome.FAILED]
    assert f"/{place}" in done[0].detail
    assert fake_pid1.started == []


@pytest.mark.skipif(os.geteuid() != 0, reason="ownership is root's to give")
def test_a_link_leads_to_what_is_looked_at(machine: Host, tmp_path: Path) -> None:
    path, home = tmp_path / "etc/gandi/hooks" / NAME, tmp_path / "home"
    home.mkdir()
    path.rename(home / "mine")
    path.symlink_to("/home/mine")
    assert run(machine) == [(NAME, "changed")]
    os.chown(home, 1000, 0)
    assert run(machine) == [(NAME, "failed")]
