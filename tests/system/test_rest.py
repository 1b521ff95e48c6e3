"""The daemon exits when it is idle, and no event at that time is lost."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from agent.host.host import Host
from agent.udev.monitor import Uevents
from tests.system import machine
from tests.system.processes import BOUND, TREE, Machine
from tests.unit.sysfs import Sysfs

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("own_network")

NULL = "/devices/virtual/mem/null"


class Systemd:
    """Hold the sockets, and start daemons with them."""

    def __init__(self, m: Machine) -> None:
        self.m = m
        self.requests = socket.socket(socket.AF_UNIX)
        (m.root / "run/gandi").mkdir(parents=True)
        self.requests.bind(str(m.root / "run/gandi/agent.sock"))
        self.requests.listen()
        self.events = Uevents(Host()).socket
        (m.root / "etc/default").mkdir(parents=True)
        (m.root / "etc/default/gandi").write_text("CONFIG_IDLE_EXIT=1\n")
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, **environment: str) -> subprocess.Popen[bytes]:
        numbers = (self.requests.fileno(), self.events.fileno())
        daemon = f"exec {sys.executable} -m tests.system.machine daemon {self.m.root}"
        line = f"LISTEN_PID=$$ LISTEN_FDS=2 {daemon} 3<&{numbers[0]} 4<&{numbers[1]}"
        env = os.environ | environment
        self.started.append(subprocess.Popen(["bash", "-c", line], cwd=TREE, pass_fds=numbers, env=env))
        return self.started[-1]

    def wakes(self, seconds: float) -> bool:
        """Return whether one of the sockets would start a daemon."""
        return bool(select.select([self.requests, self.events], [], [], seconds)[0])

    def boot(self) -> subprocess.Popen[bytes]:
        daemon = self.start()
        assert [self.m.client(stage)[0] for stage in ("bootstrap", "mount", "postboot")] == [0, 0, 0]
        return daemon


@pytest.fixture
def m(tmp_path: os.PathLike[str]) -> Iterator[Machine]:
    from pathlib import Path

    made = Machine(Path(tmp_path))
    null = made.root / "sys/devices/virtual/mem/null"
    null.mkdir(parents=True)
    Sysfs(made.root).link("dev/char/1:3", null)
    for name, text in (("tags/gandi/c1:3", ""), ("data/c1:3", "I:1\nE:GANDI_ROLE=disk\n")):
        file = made.root / "run/udev" / name
        file.parent.mkdir(parents=True)
        file.write_text(text)
    yield made
    made.close()


@pytest.fixture
def systemd(m: Machine) -> Iterator[Systemd]:
    made = Systemd(m)
    yield made
    for daemon in made.started:
        daemon.kill()
        daemon.wait()
    made.requests.close()
    made.events.close()


def looks(m: Machine) -> list[str]:
    file = m.root / "looks"
    return file.read_text().splitlines() if file.exists() else []


def test_it_leaves_and_only_what_is_ours_brings_it_back(m: Machine, systemd: Systemd) -> None:
    assert systemd.boot().wait(BOUND) == 0
    assert m.status()["daemon"]["process"].keys() == {"left"}
    for _ in range(500):
        machine.send(machine.message("add", "systemd", NULL))
    assert not systemd.wakes(0.3)
    machine.send(machine.message("add", "gandi", "/devices/virtual/mem/full"))
    machine.send(machine.message("remove", "gandi", "/devices/virtual/mem/zero"))
    assert systemd.wakes(5)
    assert systemd.start().wait(BOUND) == 0
    assert sorted(looks(m)[:2]) == ["full add", "zero remove"], "first what has just come"
    assert "null change" in looks(m), "then what was there before"
    assert not systemd.wakes(0)


def test_what_brings_it_back_is_dealt_with_before_systemd_hears_of_it(m: Machine, systemd: Systemd) -> None:
    """On a slow machine, to report readiness and state may take longer than the work itself."""
    assert systemd.boot().wait(BOUND) == 0
    machine.send(machine.message("add", "gandi", "/devices/virtual/mem/full"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(m.root / "notify"))
        told.settimeout(BOUND)
        systemd.start(NOTIFY_SOCKET=str(m.root / "notify"))
        said = list(iter(lambda: told.recv(4096).decode(), "READY=1"))
        assert said[0] == "STATUS=full: changed"
        assert looks(m)[0] == "full add"
        assert m.status()["daemon"]["process"]["pid"] == systemd.started[-1].pid


def test_a_request_brings_it_back_too(m: Machine, systemd: Systemd) -> None:
    systemd.boot().wait(BOUND)
    asking = m.start("client", "bootstrap")
    assert systemd.wakes(BOUND)
    second = systemd.start()
    assert asking.wait(BOUND) == 0
    assert m.ran()[-1] == second.pid
    assert second.wait(BOUND) == 0


def test_an_event_at_any_moment_of_its_leaving_is_seen(m: Machine, systemd: Systemd) -> None:
    """It is handled by the daemon that exits, or by the next one."""
    systemd.boot()
    for number in range(6):
        daemon = systemd.started[-1]
        time.sleep(0.9 + number * 0.05)  # around the second at which it exits
        machine.send(machine.message("add", "gandi", f"/devices/virtual/mem/d{number}"))
        deadline = time.monotonic() + BOUND
        while f"d{number} add" not in looks(m):
            assert time.monotonic() < deadline
            if daemon.poll() is not None and systemd.wakes(0):
                daemon = systemd.start()
            time.sleep(0.02)
    assert systemd.started[-1].wait(BOUND) == 0


def test_it_stays_while_a_stage_runs_and_while_a_peer_is_there(m: Machine, systemd: Systemd) -> None:
    daemon = systemd.boot()
    stage = m.start("client", "config")
    m.begun()
    with pytest.raises(subprocess.TimeoutExpired):
        daemon.wait(2.5)
    m.go()
    assert stage.wait(BOUND) == 0
    with m.connect(), pytest.raises(subprocess.TimeoutExpired):
        daemon.wait(2.5)
    assert daemon.wait(BOUND) == 0
    assert len(systemd.started) == 1


def test_it_stays_until_the_boot_is_over(m: Machine, systemd: Systemd) -> None:
    daemon = systemd.start()
    assert [m.client(stage)[0] for stage in ("bootstrap", "mount")] == [0, 0]
    with pytest.raises(subprocess.TimeoutExpired):
        daemon.wait(2.5)
    assert m.client("postboot")[0] == 0
    assert daemon.wait(BOUND) == 0
