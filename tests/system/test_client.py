"""The stage client against a daemon that works, is dead, dies, hangs or is held up: real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent import stages
from agent.host import Host
from tests.system import machine
from tests.system.processes import BOUND, TREE, Machine

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def m(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    made.close()


def test_a_stage_is_run_by_the_daemon_and_told_line_by_line(m: Machine) -> None:
    daemon = m.daemon()
    status, output = m.client("bootstrap")
    assert (status, m.ran()) == (0, [daemon.pid])
    assert output.startswith("quick: changed (quick done)")
    assert m.client("mount") == (0, "nothing to do\n")
    assert m.status()["stages"]["mount"]["state"] == "done"


def test_two_clients_of_one_stage_share_its_run(m: Machine) -> None:
    daemon = m.daemon()
    first, second = m.start("client", "config"), None
    m.begun()
    second = m.start("client", "config")
    assert m.status()["work"]["config"]["waiting"] == "the test"
    time.sleep(machine.SILENCE + 0.5)  # longer than a client waits for a sign of life: heartbeats keep it
    m.go()
    outputs = [p.communicate(timeout=BOUND)[0] for p in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0]
    assert m.ran() == [daemon.pid]
    assert outputs[0] == outputs[1]
    assert "slow: changed" in outputs[0]


def test_different_stages_wait_for_each_other(m: Machine) -> None:
    m.daemon()
    config = m.start("client", "config")
    m.begun()
    bootstrap = m.start("client", "bootstrap")
    time.sleep(machine.SILENCE + 0.5)
    assert bootstrap.poll() is None
    assert len(m.ran()) == 1
    m.go()
    assert [p.wait(BOUND) for p in (config, bootstrap)] == [0, 0]
    assert len(m.ran()) == 2


@pytest.mark.parametrize("left", [False, True], ids=["no socket", "socket of a dead daemon"])
def test_without_a_daemon_the_client_runs_the_stage(m: Machine, left: bool) -> None:
    if left:
        (m.root / "run/gandi").mkdir(parents=True)
        dead = socket.socket(socket.AF_UNIX)
        dead.bind(str(m.root / "run/gandi/agent.sock"))
        dead.close()
    client = m.start("client", "bootstrap")
    output, _ = client.communicate(timeout=BOUND)
    assert (client.returncode, m.ran()) == (0, [client.pid])
    assert "running the stage here" in output.splitlines()[0]
    assert "quick: changed" in output


def test_a_socket_that_nobody_serves_is_given_up(m: Machine) -> None:
    (m.root / "run/gandi").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(str(m.root / "run/gandi/agent.sock"))
        held.listen()
        status, output = m.client("bootstrap")
    assert status == 0
    assert f"said nothing for {machine.SILENCE:g} s" in output
    assert len(m.ran()) == 1


@pytest.mark.parametrize(
    ("said", "note"),
    [
        ([b"ok\n", b"en", b"d", b" 0", b"\n"], ""),
        ([b"ok\n- a \\n \xff %s\n.\nend 0\n"], ""),
        ([b"ok\nend 0"], "hung up before the stage ended"),
        ([b"ok\n- half"], "hung up before the stage ended"),
        ([b"\n"], "said "),
        ([b"end\n"], "said end"),
        ([b"end soon\n"], "said end soon"),
        ([b"end 0x\n"], "said end 0x"),
        ([b"\0" * 70000 + b"\n"], "said "),
        ([b"x" * 70000 + b"\n"], "said " + "x" * 40 + ":"),
    ],
)
def test_whatever_is_said_a_stage_ends_or_is_run_here(m: Machine, said: list[bytes], note: str) -> None:
    """In any pieces; only a whole line that says so ends it."""
    (m.root / "run/gandi").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(m.root / "run/gandi/agent.sock"))
        listening.listen()
        client = m.start("client", "bootstrap", errors="replace")
        listening.settimeout(BOUND)
        peer, _ = listening.accept()
        assert peer.recv(100) == b"stage bootstrap\n"
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has heard enough
            for piece in said:
                peer.sendall(piece)
                time.sleep(0.05)
        peer.close()
        output, _ = client.communicate(timeout=BOUND)
    assert client.returncode == 0
    assert len(m.ran()) == (1 if note else 0)
    assert note in output


def test_a_daemon_killed_in_the_middle_is_replaced_by_the_client(m: Machine) -> None:
    daemon = m.daemon()
    client = m.start("client", "config")
    m.begun()
    daemon.kill()
    m.go()
    output, _ = client.communicate(timeout=BOUND)
    assert client.returncode == 0
    assert m.ran() == [daemon.pid, client.pid]
    assert "hung up before the stage ended" in output
    assert m.status()["stages"]["config"]["state"] == "done"


def test_a_daemon_stopped_before_it_answers_costs_a_bounded_wait_and_nothing_runs_twice(m: Machine) -> None:
    daemon = m.daemon()
    daemon.send_signal(signal.SIGSTOP)
    client = m.start("client", "bootstrap")
    assert client.wait(BOUND) == 0
    assert m.ran() == [client.pid]
    daemon.send_signal(signal.SIGCONT)
    assert m.client("mount")[0] == 0  # served, so the old request has been seen as well
    assert client.pid in m.ran()
    assert m.status()["stages"]["bootstrap"]["state"] == "done"
    # Of the daemon only the root disk's growth, which begins with the mount stage, may have run.
    assert m.ran().count(client.pid) == 1
    assert m.ran().count(daemon.pid) <= 1


def test_a_daemon_stopped_in_the_middle_holds_the_lock_and_is_named(m: Machine) -> None:
    daemon = m.daemon()
    client = m.start("client", "config")
    m.begun()
    daemon.send_signal(signal.SIGSTOP)
    output, _ = client.communicate(timeout=BOUND)
    assert client.returncode == 75
    assert f"process {daemon.pid} (stage config) holds {stages.LOCK}" in output
    assert m.ran() == [daemon.pid]


def test_a_lock_held_by_somebody_else_ends_the_daemons_stage_with_75(m: Machine) -> None:
    m.daemon()
    with stages.alone(Host(m.root), "the test"):
        status, output = m.client("bootstrap")
    assert status == 75
    assert f"process {os.getpid()} (the test)" in output
    assert m.client("bootstrap")[0] == 0


def test_the_client_needs_no_program(m: Machine) -> None:
    """Every boot pays for it four times: builtins only."""
    daemon = m.daemon()
    client = m.start("client", "bootstrap", env={"PATH": "/nowhere", "PYTHONPATH": str(TREE)})
    assert client.wait(BOUND) == 0
    assert m.ran() == [daemon.pid]
