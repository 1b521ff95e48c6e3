"""The shell file is really run; a plain process stands in for systemd."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.config.model import InstanceConfig, Script, program
from agent.context import Context, context
from agent.host.host import Host
from agent.lib.errors import HostError
from agent.lib.records import replace
from agent.programs import command_line as programs
from agent.report import Item
from agent.state import adopted
from agent.steps import script
from agent.systemd import units
from tests.unit.conftest import FakePid1, UnitProperties

from .conftest import IDENTITY


class Systemd(Host):
    """A tree that counts as the running system, with a plain process as its transient service."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.units: list[subprocess.Popen[bytes]] = []
        #: For each wait for the network, the number of programs started before.
        self.waits: list[int] = []
        #: The result of that wait.
        self.network: HostError | str = "done"
        #: The properties of the service.
        self.said = UnitProperties()

    @property
    def unit(self) -> subprocess.Popen[bytes] | None:
        """Return the service that was started last."""
        return self.units[-1] if self.units else None

    @property
    def live(self) -> bool:
        """Return True, as on a running machine; paths stay below the root."""
        return True

    def path(self, name: str) -> str:
        return f"{self.root}/{name.lstrip('/')}"

    def begins(self, unit: str, said: UnitProperties) -> None:
        """Start the transient service."""
        self.said, command = said, said["ExecStart"]
        file = Path(self.path(command[-1]))
        # The file has the machine's paths; here they are below the root.
        text = file.read_text().replace("/var/lib/gandi", self.path("/var/lib/gandi"))
        file.write_text(text.replace("/run/gandi", self.path("/run/gandi")))
        Path(self.path("/run/gandi")).mkdir(parents=True, exist_ok=True)
        Path(self.path("/run/systemd/transient")).mkdir(parents=True, exist_ok=True)
        Path(self.path(f"/run/systemd/transient/{unit}")).touch()
        # A session of its own, so that its children can be ended with it.
        program = [*command[:-1], str(file)]
        self.units.append(subprocess.Popen(program, stdout=subprocess.PIPE, start_new_session=True))

    def ends(self, unit: str) -> str:
        """Return how the start of another unit ends."""
        assert unit == "network-online.target"
        self.waits.append(len(self.units))
        if isinstance(self.network, HostError):
            raise self.network
        return self.network

    def state(self, unit: str) -> str:
        """Return the state of the transient service."""
        assert unit == f"{script.UNIT}.service"
        return "active" if self.unit is not None and self.unit.poll() is None else "inactive"

    def main_process(self, service: str) -> int:
        """As ``units.main_process``."""
        assert service == f"{script.UNIT}.service"
        return self.unit.pid if self.unit and self.unit.poll() is None else 0


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_pid1: FakePid1) -> Iterator[Systemd]:
    host = Systemd(tmp_path)
    fake_pid1.begins, fake_pid1.ends, fake_pid1.state = host.begins, host.ends, host.state
    monkeypatch.setattr(units, "main_process", Systemd.main_process)
    yield host
    for unit in host.units:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(unit.pid, signal.SIGKILL)
        unit.wait()


def _context(host: Host, programs: dict[str, tuple[str, tuple[str, ...]]], **what: Any) -> Context:
    """Return a context with a document with these programs: text and arguments by name."""
    ctx = context(host)
    ctx.state.set_instance(IDENTITY)
    scripts = tuple(Script(name, f"{hash(it):x}" * 4, it[1]) for name, it in programs.items())
    ctx.config = replace(InstanceConfig(IDENTITY), scripts=scripts, **what)
    ctx.state.store_config(ctx.config, {name: text.encode() for name, (text, _) in programs.items()})
    return ctx


def _outcomes(ctx: Context) -> list[str]:
    def text(item: Item) -> str:
        # The duration depends on the build host.
        return re.sub(r" after \d+ s$", "", f"{item.name} {item.outcome} {item.detail}")

    return [text(item) for item in script.apply(ctx)]


def test_script_with_its_arguments_then_run_once(host: Systemd, tmp_path: Path) -> None:
    log = tmp_path / "log"
    program = f'#!/bin/sh\npwd >>{log}\nprintf "[%s]" "$@" >>{log}\n'
    arguments = ("a b", "$HOME", "'", "", "*")
    ctx = _context(host, {"script": (program, arguments), "run": (f"echo run >>{log}", ())})
    assert _outcomes(ctx) == ["script changed exit status 0", "run changed exit status 0"]
    assert log.read_text() == "/\n[a b][$HOME]['][][*]run\n"
    assert _outcomes(ctx) == ["script unchanged was started before", "run unchanged was started before"]
    assert log.read_text().count("run") == 1
    assert host.waits == [0], "the network was to be online before the first start, and for that alone"


def test_a_network_that_does_not_come_leaves_them_to_the_next_boot(host: Systemd, tmp_path: Path) -> None:
    ctx = _context(host, {"run": (f"touch {tmp_path}/done", ())})
    host.network = ""
    with pytest.raises(HostError, match=r"network-online\.target: not reached within 330 s"):
        _outcomes(ctx)
    assert not host.units
    host.network = "done"
    assert _outcomes(ctx) == ["run changed exit status 0"]
    assert (tmp_path / "done").exists()


@pytest.mark.parametrize("network", ["failed", HostError("systemd refuses StartUnit: it is masked")])
def test_a_network_that_nobody_can_wait_for_keeps_none_from_running(
    host: Systemd, network: HostError | str
) -> None:
    host.network = network
    assert _outcomes(_context(host, {"run": ("true", ())})) == ["run changed exit status 0"]
    assert host.waits == [0]


def test_a_plan_waits_for_nothing_and_runs_nothing(host: Systemd) -> None:
    ctx = _context(host, {"run": ("true", ())})
    host.dry_run = True
    assert _outcomes(ctx) == []
    assert (host.waits, host.units) == ([], [])
    assert "wait for network-online.target" in host.planned
    assert host.planned[-1].endswith(f" in {script.UNIT}.service")


def test_no_argument_of_the_customers_shows_in_the_unit(host: Systemd) -> None:
    _outcomes(_context(host, {"script": ("#!/bin/sh\n", ("s3cret",)), "run": ("echo s3cret", ())}))
    assert "s3cret" not in repr(host.said)
    mode = Path(host.path(host.said["ExecStart"][-1])).stat().st_mode & 0o777
    assert mode == 0o700
    assert host.said["Type"] == ("exec",)


def test_a_failure_is_told_and_does_not_stop_the_next(host: Systemd, tmp_path: Path) -> None:
    ctx = _context(host, {"script": ("#!/bin/sh\nexit 3\n", ()), "run": (f"touch {tmp_path}/done", ())})
    assert _outcomes(ctx)[0] == "script failed ended with exit status 3"
    assert (tmp_path / "done").exists()


def test_the_boot_goes_on_while_a_program_runs(host: Systemd, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(script, "WAIT_TIMEOUT", 1.5)
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    ctx = _context(host, {"script": (f"#!/bin/sh\nread line <{gate}\n", ()), "run": ("true", ())})
    first, second = _outcomes(ctx)
    assert first.startswith("script changed running since ")
    assert second == "run changed starts when the one before it has ended"
    # The stage runs again, as after its process was killed: it waits for the service, and starts no second
    # one.
    assert _outcomes(ctx) == ["script unchanged was started before", second]
    gate.write_text("go\n")
    assert host.unit is not None
    assert host.unit.wait(10) == 0
    assert {name: status for name, (status, _) in script.finished(host).items()} == {"script": 0, "run": 0}


def test_a_power_cut_in_the_first_leaves_the_second(host: Systemd, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(script, "WAIT_TIMEOUT", 1.5)
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    ctx = _context(host, {"script": (f"#!/bin/sh\nread line <{gate}\n", ()), "run": ("true", ())})
    _outcomes(ctx)
    assert host.unit is not None
    host.unit.kill()
    host.unit.wait()
    assert _outcomes(ctx) == ["script unchanged was started before", "run changed exit status 0"]
    gate.write_text("")


def test_a_time_limit_stops_the_program(host: Systemd) -> None:
    host.write("/etc/default/gandi", "CONFIG_SCRIPT_TIMEOUT=1\n")
    ctx = _context(host, {"script": ("#!/bin/sh\nsleep 60\n", ()), "run": ("true", ())})
    first, second = _outcomes(ctx)
    assert first == "script failed stopped"
    assert second == "run changed exit status 0"


def test_what_could_not_be_stored_is_not_run(host: Systemd) -> None:
    ctx = _context(host, {"script": ("#!/bin/sh\n", ())})
    ctx.files = {"script": b"#!/bin/sh\n"}
    assert _outcomes(ctx)[0].startswith("script skipped not run: it could not be stored")
    assert host.unit is None


@pytest.mark.parametrize(
    ("name", "head", "expected"),
    [
        ("script", b"#!/usr/bin/perl\n", ("/x", "a")),
        ("script", b"\x7fELF\x02", ("/x", "a")),
        ("script", b"echo hi\n", ("/bin/sh", "/x", "a")),
        ("script", b"", ("/bin/sh", "/x", "a")),
        ("run", b"#!/bin/bash\n", ("/bin/sh", "/x", "a")),
    ],
)
def test_what_runs_a_program(name: str, head: bytes, expected: tuple[str, ...]) -> None:
    assert programs.argv("/x", head, Script(name, "d", ("a",))) == expected


def test_an_image_runs_nothing(tmp_path: Path) -> None:
    ctx = _context(Host(tmp_path), {"script": ("#!/bin/sh\n", ())})
    assert _outcomes(ctx) == ["scripts skipped they run when this machine boots"]


def _frequent(host: Host, tmp_path: Path, instance: str = "") -> Context:
    """Return a context with a program of each frequency, which writes its name."""
    ctx = context(host)
    identity = replace(IDENTITY, id=instance or IDENTITY.id)
    ctx.state.set_instance(identity)
    programs = {name: f"echo {name} >>{tmp_path}/log\n".encode() for name in ("once", "boot", "instance")}
    scripts = tuple(program(name, content, (), f"per-{name}") for name, content in programs.items())
    ctx.config = InstanceConfig(identity, scripts=scripts)
    ctx.state.store_config(ctx.config, programs)
    return ctx


def _boot(host: Systemd, ctx: Context) -> list[str]:
    """Run the step as after a boot, with an empty /run; return the names that were written."""
    shutil.rmtree(host.path("/run"), ignore_errors=True)
    log = Path(host.path("/log"))
    log.unlink(missing_ok=True)
    _outcomes(ctx)
    return log.read_text().split() if log.exists() else []


def test_each_runs_as_often_as_it_is_to(host: Systemd, tmp_path: Path) -> None:
    assert _boot(host, _frequent(host, tmp_path)) == ["once", "boot", "instance"]
    assert _boot(host, _frequent(host, tmp_path)) == ["boot"]
    assert _outcomes(_frequent(host, tmp_path)) == [
        f"{name} unchanged was started before" for name in ("once", "boot", "instance")
    ], "the stage runs a second time in this boot"
    assert _boot(host, _frequent(host, tmp_path, "another")) == ["boot", "instance"]
    assert _boot(host, _frequent(host, tmp_path, "another")) == ["boot"]


def test_all_of_them_run_again_on_request(host: Systemd, tmp_path: Path) -> None:
    ctx = _frequent(host, tmp_path)
    _boot(host, ctx)
    script.forget(ctx)
    assert _boot(host, ctx) == ["once", "boot", "instance"]


def test_an_adopted_machines_first_document_runs_none_of_them(host: Systemd, tmp_path: Path) -> None:
    ctx = _frequent(host, tmp_path)
    adopted.record_adoption(host, IDENTITY, ())
    assert ctx.config is not None
    adopted.record_first_document(host, ctx.config)
    assert _boot(host, ctx) == []
    assert _boot(host, ctx) == []
    ctx.state.store_config(replace(ctx.config, hostname="vm2"), {})
    assert _boot(host, ctx) == ["boot"], "what runs once counts as done"
