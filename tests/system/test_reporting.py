"""Reports of the daemon as a real process, into a FIFO in place of the virtio-serial port."""

from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.stages import Stage
from tests.system import machine
from tests.system.processes import BOUND, Machine

NULL = "/devices/virtual/mem/null"

pytestmark = pytest.mark.usefixtures("own_network")  # udev multicasts in one network namespace only


@pytest.fixture
def m(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    port = tmp_path / "sys/class/virtio-ports/vport0p1"
    port.mkdir(parents=True)
    (port / "name").write_text("net.gandi.agent.0\n")
    (tmp_path / "dev").mkdir()
    os.mkfifo(tmp_path / "dev/vport0p1")
    made.go()
    yield made
    made.close()


class Host:
    """The other end."""

    def __init__(self, m: Machine) -> None:
        self.descriptor = os.open(m.root / "dev/vport0p1", os.O_RDONLY | os.O_NONBLOCK)
        self.data = b""

    def until(self, last: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """Return the records until the last one."""
        got, deadline = list[dict[str, Any]](), time.monotonic() + BOUND
        while not (got and last(got[-1])):
            line, end, rest = self.data.partition(b"\n")
            if end:
                self.data = rest
                if line:
                    got.append(json.loads(line))
                continue
            assert time.monotonic() < deadline, got
            select.select([self.descriptor], [], [], 0.5)
            try:
                self.data += os.read(self.descriptor, 1 << 16)
            except BlockingIOError:
                continue
        return got


def is_boot(record: dict[str, Any]) -> bool:
    return bool(record["type"] == "boot")


def of(records: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(one.get("stage", one["type"]), one["result"]) for one in records]


def test_stages_failures_verdict_and_devices(m: Machine) -> None:
    (m.root / "broken").touch()
    host = Host(m)
    m.daemon()
    for stage in Stage:
        m.client(stage)
    records = host.until(is_boot)
    assert of(records) == [
        ("bootstrap", "done"),
        ("mount", "failed"),  # the item
        ("mount", "failed"),
        ("config", "done"),
        ("postboot", "done"),
        ("boot", "failed"),
    ]
    assert records[1]["item"] == "broken"
    machine.send(machine.message("add", "gandi", NULL, SEQNUM="9999999"))
    (device,) = host.until(lambda record: record["type"] == "device")
    assert (device["device"], device["action"], device["detail"]) == ("null", "add", "seen")


def test_a_daemon_that_was_killed_is_followed_by_one_that_reports_the_rest(m: Machine) -> None:
    m.daemon().kill()
    m.client(Stage.BOOTSTRAP)  # runs the stage itself
    daemon = m.daemon()
    for stage in (Stage.MOUNT, Stage.CONFIG):
        m.client(stage)
    host = Host(m)
    daemon.kill()
    daemon.wait(BOUND)
    m.daemon()
    m.client(Stage.POSTBOOT)
    records = host.until(is_boot)
    assert of(records) == [(stage, "done") for stage in Stage] + [("boot", "ready")]


def test_a_reader_that_stops_blocks_nothing(m: Machine) -> None:
    host = Host(m)
    full = os.open(m.root / "dev/vport0p1", os.O_WRONLY | os.O_NONBLOCK)
    for size in (4096, 1):
        try:
            while True:
                os.write(full, b"\n" * size)
        except BlockingIOError:
            continue
    m.daemon()
    begun = time.monotonic()
    for stage in Stage:
        assert m.client(stage)[0] == 0
    assert time.monotonic() - begun < BOUND / 2
    waiting = list[str]()
    while len(waiting) < 5:  # a client has its answer before the report is made
        assert time.monotonic() - begun < BOUND, waiting
        state = json.loads((m.root / "run/gandi/reported.json").read_text())
        waiting = [one["type"] for one in state["port"]["waiting"]]
        time.sleep(0.02)
    assert waiting == ["stage"] * 4 + ["boot"]
    assert of(host.until(is_boot)) == [(stage, "done") for stage in Stage] + [("boot", "ready")]
    os.close(full)


def test_nothing_is_reported_with_the_setting(m: Machine) -> None:
    (m.root / "etc/default").mkdir(parents=True)
    (m.root / "etc/default/gandi").write_text("CONFIG_REPORT=0\n")
    host = Host(m)
    m.daemon()
    for stage in Stage:
        assert m.client(stage)[0] == 0
    assert not (m.root / "run/gandi/reported.json").exists()
    assert os.read(host.descriptor, 1) == b"", "no process has opened the port"
