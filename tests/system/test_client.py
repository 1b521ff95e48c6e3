"""The stage client with a daemon that works, is dead, dies, hangs or is delayed: real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent import stages
from agent.daemon import control_socket
from agent.host.host import Host
from tests.system.processes import BOUND, TREE, Machine

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def m(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    made.close()


def test_a_stage_is_run_by_the_daemon(m: Machine) -> None:
    daemon = m.daemon()
    assert m.client("bootstrap") == (0, "")  # its lines are in the journal
    assert m.ran() == [daemon.pid]
    assert m.client("mount") == (0, "")
    assert m.status()["stages"]["mount"]["state"] == "done"


def test_two_clients_of_one_stage_share_its_run(m: Machine) -> None:
    daemon = m.daemon()
    first = m.start("client", "config")
    m.begun()
    with m.connect(b"stage config\n") as second:
        assert control_socket.ping(Host(m.root)), "so the second one has been heard"
        assert m.status()["work"]["config"]["waiting"] == "the test"
        m.go()
        assert second.recv(100) == b"end 0\n"
    assert first.communicate(timeout=BOUND)[0] == ""
    assert first.returncode == 0
    assert m.ran() == [daemon.pid]


def test_different_stages_wait_for_each_other(m: Machine) -> None:
    m.daemon()
    config = m.start("client", "config")
    m.begun()
    bootstrap = m.start("client", "bootstrap")
    with pytest.raises(subprocess.TimeoutExpired):
        bootstrap.wait(1)
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


def test_a_socket_that_is_flushed_before_it_is_served_is_given_up(m: Machine) -> None:
    """As systemd does when the daemon ends (FlushPending=)."""
    (m.root / "run/gandi").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(str(m.root / "run/gandi/agent.sock"))
        held.listen()
        client = m.start("client", "bootstrap")
        with pytest.raises(subprocess.TimeoutExpired):
            client.wait(1)
    assert client.wait(BOUND) == 0
    assert m.ran() == [client.pid]


@pytest.mark.parametrize(
    ("said", "ran"),
    [
        ([b"en", b"d", b" 0", b"\n"], 0),
        ([b"end 0\n- a \n \xff %s\n"], 0),
        ([b"end 0"], 1),
        ([b"ok\n"], 1),
        ([b"\n"], 1),
        ([b"end\n"], 1),
        ([b"end soon\n"], 1),
        ([b"end 0x\n"], 1),
        ([b"end -1\n"], 1),
        ([b"\0" * 70000 + b"\n"], 1),
        ([b"x" * 70000 + b"\n"], 1),
    ],
)
def test_whatever_is_said_a_stage_ends_or_is_run_here(m: Machine, said: list[bytes], ran: int) -> None:
    """In any pieces; only a complete last line ends it."""
    (m.root / "run/gandi").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(m.root / "run/gandi/agent.sock"))
        listening.listen()
        client = m.start("client", "bootstrap", errors="replace")
        listening.settimeout(BOUND)
        peer, _ = listening.accept()
        assert peer.recv(100) == b"stage bootstrap\n"
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has received enough
            for piece in said:
                peer.sendall(piece)
                time.sleep(0.05)
        peer.close()
        output, _ = client.communicate(timeout=BOUND)
    assert client.returncode == 0
    assert len(m.ran()) == ran
    assert ("running the stage here" in output) == bool(ran)


def test_a_daemon_killed_in_the_middle_is_replaced_by_the_client(m: Machine) -> None:
    daemon = m.daemon()
    client = m.start("client", "config")
    m.begun()
    daemon.kill()
    m.go()
    output, _ = client.communicate(timeout=BOUND)
    assert client.returncode == 0
    assert m.ran() == [daemon.pid, client.pid]
    assert "running the stage here" in output
    assert m.status()["stages"]["config"]["state"] == "done"


def test_a_daemon_stopped_before_it_answers_is_waited_for_until_it_is_ended(m: Machine) -> None:
    """As systemd's watchdog ends it."""
    daemon = m.daemon()
    daemon.send_signal(signal.SIGSTOP)
    client = m.start("client", "bootstrap")
    with pytest.raises(subprocess.TimeoutExpired):
        client.wait(1)
    daemon.kill()
    assert client.wait(BOUND) == 0
    assert m.ran() == [client.pid]
    assert m.status()["stages"]["bootstrap"]["state"] == "done"


def test_a_daemon_stopped_in_the_middle_holds_the_lock_and_is_named(m: Machine) -> None:
    daemon = m.daemon()
    m.start("client", "config")
    m.begun()
    daemon.send_signal(signal.SIGSTOP)
    other = m.start("run-stage", "config")
    output, _ = other.communicate(timeout=BOUND)
    assert other.returncode == 75
    assert f"process {daemon.pid} (stage config) holds {stages.LOCK}" in output
    assert m.ran() == [daemon.pid]


def test_a_lock_held_by_somebody_else_ends_the_daemons_stage_with_75(m: Machine) -> None:
    m.daemon()
    with stages.stage_lock(Host(m.root), "the test"):
        assert m.client("bootstrap") == (75, "")
    assert m.client("bootstrap")[0] == 0


def test_the_client_needs_no_program(m: Machine) -> None:
    """Every boot runs it four times: shell builtins only."""
    daemon = m.daemon()
    client = m.start("client", "bootstrap", env={"PATH": "/nowhere", "PYTHONPATH": str(TREE)})
    assert client.wait(BOUND) == 0
    assert m.ran() == [daemon.pid]


#: In a mount namespace of its own: a daemon's socket, one answer, and a program of the package for which
#: systemd has made no connection.
ALONE = """
mount -t tmpfs none /run && mkdir /run/gandi
[ -z "$2" ] || {
    "$1" -c "$SERVER" "$2" &
    while ! [ -S /run/gandi/agent.sock ]; do sleep 0.05; done
}
shift 2
unset LISTEN_FDS LISTEN_PID LISTEN_FDNAMES
"$@"
"""
SERVER = """
import socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind("/run/gandi/agent.sock")
listener.listen()
peer, _ = listener.accept()
print("daemon:", peer.recv(100).decode(), end="", flush=True)
peer.send(sys.argv[1].encode() + b"\\n")
"""


@pytest.mark.parametrize(
    ("program", "answer", "output", "status"),
    [
        (("gandi-stage", "config", "/bin/echo"), "end 0", "daemon: stage config\n", 0),
        (("gandi-stage", "config", "/bin/echo"), "end 3", "daemon: stage config\n", 3),
        (("gandi-stage", "config", "/bin/echo"), "", "run-stage config\n", 0),
        (("gandi-request", "resumed"), "end 0", "daemon: resumed\n", 0),
        (("gandi-request", "resumed"), "end 1", "daemon: resumed\n", 1),
        (("gandi-request", "resumed"), "", "", 1),
    ],
)
def test_with_a_systemd_that_opens_no_connection_it_is_made(
    program: tuple[str, ...], answer: str, output: str, status: int
) -> None:
    """As on Debian 12."""
    name, *words = program
    argv = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        ALONE,
        "sh",
        sys.executable,
        answer,
        str(TREE / "bin" / name),
        *words,
    ]
    done = subprocess.run(
        argv, env={**os.environ, "SERVER": SERVER}, capture_output=True, text=True, check=False
    )
    assert done.stdout.endswith(output), done
    assert done.returncode == status, done
    assert ("running the stage here" in done.stdout) == (name == "gandi-stage" and not answer)
