"""The message at login: a file or link that an administrator may remove, and the program behind it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from agent.host.host import Host
from agent.report import STATUS, StageReport, StatusFile, StepReport, changed, failed
from agent.stages import Stage
from agent.steps import motd
from tests.unit.steps.conftest import Machine

ROOT = Path(__file__).parents[3]


@pytest.fixture(params=[motd.FILE, motd.LINK])
def place(request: pytest.FixtureRequest, machine: Machine) -> Path:
    """The place of the message here; only that folder exists."""
    path = machine.root / str(request.param)[1:]
    path.parent.mkdir(parents=True)
    return path


def test_written_once_and_then_left(machine: Machine, place: Path) -> None:
    name = f"/{place.relative_to(machine.root)}"
    assert machine.run(motd.apply) == {"motd": f"changed: {name}"}
    if name == motd.LINK:
        assert os.readlink(place) == motd.TEXT
    else:
        assert place.stat().st_mode & 0o777 == 0o755
        assert subprocess.run(["sh", place], check=True, capture_output=True).stderr == b""
    assert machine.run(motd.apply) == {"motd": f"unchanged: {name}"}
    place.unlink()
    assert machine.run(motd.apply) == {"motd": "kept: changed by admin"}
    place.write_text("mine")
    assert machine.run(motd.apply) == {"motd": "kept: changed by admin"}
    assert place.read_text() == "mine"


def test_one_that_is_switched_off_stays_off(machine: Machine) -> None:
    """As in update-motd(5): by removing the permission to execute it."""
    path = machine.put(motd.FILE)
    path.unlink()
    machine.run(motd.apply)
    path.chmod(0o644)
    assert machine.run(motd.apply) == {"motd": f"unchanged: {motd.FILE}"}
    assert path.stat().st_mode & 0o777 == 0o644


def test_nowhere_to_say_it(machine: Machine) -> None:
    assert machine.run(motd.apply)["motd"].startswith("skipped")


@pytest.mark.parametrize(
    ("states", "said"),
    [
        ((), "has not run in this boot"),
        (("done", "done"), "all is well"),
        (("done", "running"), "still at work: gandi-agent status"),
        (("failed", "running"), "something has failed: gandi-agent status"),
    ],
)
def test_the_program_fills_in_the_template(tmp_path: Path, states: tuple[str, ...], said: str) -> None:
    status, template, file = tmp_path / STATUS[1:], tmp_path / "template", StatusFile(Host(tmp_path))
    for stage, state in zip(Stage, states, strict=False):
        if state == "running":
            file.stage_started(stage)
        else:
            item = failed("x", "no") if state == "failed" else changed("x")
            file.stage_ended(StageReport(stage, (StepReport("step", (item,), 0.0),), 0.0))
    template.write_text("on @HOSTNAME@: @AGENT@ & \\n @ user@example.org\nlast line")
    program = tmp_path / "motd"
    text = (ROOT / "bin/gandi-motd").read_text()
    text = text.replace("/run/gandi/status.json", str(status))
    program.write_text(text.replace("/usr/share/gandi-agent/motd.template", str(template)))
    done = subprocess.run(["sh", program], capture_output=True, text=True, check=True)
    name = os.uname().nodename
    assert done.stdout == f"on {name}: {said} & \\n @ user@example.org\nlast line\n"
    assert done.stderr == ""


def test_the_template_of_the_package_uses_each_word() -> None:
    text = (ROOT / "etc-gandi/motd.template").read_text()
    assert all(f"@{word}@" in text for word in ("HOSTNAME", "SYSTEM", "ADDRESSES", "AGENT"))
