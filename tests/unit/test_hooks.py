"""Which programs of the operator's are run as root, and how; that systemd runs them is seen in the guest."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from agent import hooks
from agent.context import context
from agent.errors import HostError
from agent.host import Completed, Host
from agent.report import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NAME = "post-disk-attach"


class Machine(Host):
    """A machine in a folder: what is run is noted, and fails where the test wants it."""

    __slots__ = ("argvs", "refuses")

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.argvs, self.refuses = list[tuple[str, ...]](), False

    def run(self, argv: Sequence[str], *, check: bool = True, **_how: object) -> Completed:
        self.argvs.append(tuple(argv))
        if self.refuses and check:
            raise HostError("exit status")
        return Completed(tuple(argv), int(self.refuses), "", "Job failed.")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine with a hook that says who runs it."""
    path = tmp_path / "etc/gandi/hooks" / NAME
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return Machine(tmp_path)


def run(machine: Machine, *args: str, **environment: str) -> list[tuple[str, str]]:
    done = hooks.run(context(machine), NAME, *args, environment=environment)
    return [(item.name, item.outcome.value) for item in done]


def test_a_hook_is_run_by_argv_in_a_unit_of_its_own(machine: Machine) -> None:
    done = run(machine, "/dev/vdb", "ext4", "/srv/a $b", DEVNAME="/dev/vdb", ACTION="add", ID_SERIAL="x y")
    assert done == [(NAME, "changed")]
    (argv,) = machine.argvs
    assert argv[0] == "systemd-run"
    assert argv[argv.index("--") + 1 :] == (f"/etc/gandi/hooks/{NAME}", "/dev/vdb", "ext4", "/srv/a $$b")
    expected = {
        f"--unit=gandi-hook-{NAME}-vdb.service",
        "--property=Type=oneshot",
        "--property=DefaultDependencies=no",
        f"--property=TimeoutStartSec={hooks.TIMEOUT:g}",
        f"--property=SyslogIdentifier={NAME}",
        "--setenv=ACTION=add",
        "--setenv=DEVNAME=/dev/vdb",
        "--setenv=ID_SERIAL=x y",
    }
    assert expected <= set(argv)


def test_variables_that_systemd_would_refuse_are_left_out(machine: Machine) -> None:
    odd = {".PRIVATE": "1", "A-B": "1", "BYTES": os.fsdecode(b"\xff"), "NUL": "a\0b", "OK": "1"}
    list(hooks.run(context(machine), NAME, environment=odd))
    assert {word for word in machine.argvs[0] if word.startswith("--setenv")} == {
        "--setenv=HOME=/root",
        "--setenv=OK=1",
    }


def test_without_an_interpreter_line_it_is_a_shell_script(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "etc/gandi/hooks" / NAME).write_text("echo $1\n")
    run(machine, "x")
    assert machine.argvs[0][-3:] == ("/bin/sh", f"/etc/gandi/hooks/{NAME}", "x")


def test_no_hook_is_nothing(tmp_path: Path) -> None:
    assert run(Machine(tmp_path)) == []


def test_a_hook_that_fails_is_reported(machine: Machine) -> None:
    machine.refuses = True
    assert run(machine) == [(NAME, "failed")]


def test_an_image_that_does_not_run_has_no_hooks(machine: Machine) -> None:
    machine.offline = True
    assert run(machine) == []


@pytest.mark.parametrize("mode", [0o644, 0o600])
def test_what_is_not_executable_is_switched_off(machine: Machine, tmp_path: Path, mode: int) -> None:
    (tmp_path / "etc/gandi/hooks" / NAME).chmod(mode)
    assert run(machine) == [(NAME, "skipped")]
    assert machine.argvs == []


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
    machine: Machine, tmp_path: Path, place: str, owner: tuple[int, int], mode: int
) -> None:
    assert run(machine) == [(NAME, "changed")]
    machine.argvs.clear()
    os.chown(tmp_path / place, *owner)
    os.chmod(tmp_path / place, mode)
    done = list(hooks.run(context(machine), NAME, environment={}))
    assert [item.outcome for item in done] == [Outcome.FAILED]
    assert f"/{place}" in done[0].detail
    assert machine.argvs == []


@pytest.mark.skipif(os.geteuid() != 0, reason="ownership is root's to give")
def test_a_link_leads_to_what_is_looked_at(machine: Machine, tmp_path: Path) -> None:
    path, home = tmp_path / "etc/gandi/hooks" / NAME, tmp_path / "home"
    home.mkdir()
    path.rename(home / "mine")
    path.symlink_to("/home/mine")
    assert run(machine) == [(NAME, "changed")]
    os.chown(home, 1000, 0)
    assert run(machine) == [(NAME, "failed")]
