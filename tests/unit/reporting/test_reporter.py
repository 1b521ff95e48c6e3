"""What is reported of a boot and its devices: by a FIFO in place of the port, and a UNIX socket in place of
vsock. The kernel's answers to a write that cannot go on are the same.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.context import Context, context
from agent.host.host import Host
from agent.lib.errors import HostError
from agent.report import (
    NOTIFY_SOCKET,
    StageReport,
    StepReport,
    changed,
    failed,
    has_receiver,
    port,
    unchanged,
)
from agent.reporting.reporter import STATE, Reporter
from agent.stages import Stage
from agent.systemd import libsystemd, units

USERS = StepReport(
    "users", (changed("user:root"), failed("user:daemon", "an account\nof the system", "use another")), 0.25
)


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    (tmp_path / "run/gandi").mkdir(parents=True)
    return context(Host(tmp_path))


def add_port(root: Path, name: str = "net.gandi.agent.0") -> Path:
    """Make the files of a virtio-serial port, with a FIFO as its device."""
    folder = root / "sys/class/virtio-ports/vport1p2"
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (root / "dev").mkdir(exist_ok=True)
    os.mkfifo(root / "dev/vport1p2")
    return root / "dev/vport1p2"


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(add_port(tmp_path), os.O_RDONLY | os.O_NONBLOCK)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def notified(tmp_path: Path) -> Iterator[socket.socket]:
    """Deliver the credential, with the address of a socket that the test reads."""
    path = tmp_path / NOTIFY_SOCKET[1:]
    path.parent.mkdir(parents=True)
    path.write_text(f"{tmp_path}/n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(f"{tmp_path}/n")
        made.settimeout(0)
        yield made


def records(reader: int) -> list[dict[str, Any]]:
    """Return what has come, without the moments."""
    data = b""
    while True:
        try:
            chunk = os.read(reader, 1 << 16)
        except BlockingIOError:
            break
        if not chunk:
            break
        data += chunk
    made = [json.loads(line) for line in data.split(b"\n")[:-1]]
    assert all(one.pop("version") == 1 and one.pop("time") and one.pop("uptime") for one in made)
    return made


def messages(notified: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(notified.recv(1 << 16).decode())
        except BlockingIOError:
            return found


def end(ctx: Context, *stages: Stage, steps: tuple[StepReport, ...] = ()) -> None:
    for stage in stages:
        ctx.status.stage_ended(StageReport(stage, steps, 0.5))


def test_each_stage_its_failures_and_the_verdict(ctx: Context, reader: int) -> None:
    reporter = Reporter(ctx)
    end(ctx, Stage.BOOTSTRAP)
    reporter.update(0.0)
    assert records(reader) == [{"type": "stage", "stage": "bootstrap", "result": "done", "seconds": 0.5}]
    end(ctx, Stage.MOUNT, Stage.POSTBOOT)
    end(ctx, Stage.CONFIG, steps=(USERS,))
    reporter.update(0.0)
    mount, item, config, postboot, boot = records(reader)
    assert mount["stage"] == "mount"
    assert item == {
        "type": "item",
        "stage": "config",
        "step": "users",
        "result": "failed",
        "item": "user:daemon",
        "detail": "an account\\x0aof the system",
        "hint": "use another",
    }
    assert (config["stage"], config["result"]) == ("config", "failed")
    assert postboot["stage"] == "postboot"
    assert (boot["type"], boot["result"]) == ("boot", "failed")
    assert boot["verdict"].startswith("failed: ")
    assert "1 step failed: users (user:daemon)" in boot["verdict"]
    reporter.update(0.0)
    assert not records(reader), "each once"
    end(ctx, Stage.CONFIG)
    reporter.update(0.0)
    assert [one["result"] for one in records(reader)] in (["done", "ready"], []), "if run in another second"


def test_a_channel_that_comes_later_misses_nothing_that_is_in_the_status(
    ctx: Context, tmp_path: Path
) -> None:
    assert not has_receiver(ctx.host)
    reporter = Reporter(ctx)
    end(ctx, *Stage)
    reporter.update(0.0)
    reader = os.open(add_port(tmp_path), os.O_RDONLY | os.O_NONBLOCK)
    assert has_receiver(ctx.host)
    reporter.update(0.0)
    assert [one["type"] for one in records(reader)] == ["stage"] * 4 + ["boot"]
    os.close(reader)


def test_a_port_that_was_removed_and_has_come_again(ctx: Context, tmp_path: Path) -> None:
    path, reporter = add_port(tmp_path), Reporter(ctx)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    reporter.unrun("config", "one", "")
    assert len(records(reader)) == 2
    os.close(reader)
    path.unlink()
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    reporter.unrun("config", "other", "")
    assert [one.get("detail") for one in records(reader)] == ["other", None]
    os.close(reader)


def test_other_ports_are_not_ours(ctx: Context, tmp_path: Path) -> None:
    add_port(tmp_path, "org.qemu.guest_agent.0")
    assert not port(ctx.host)
    assert not has_receiver(ctx.host)


def test_devices_for_the_life_of_the_machine(ctx: Context, reader: int) -> None:
    reporter = Reporter(ctx)
    items = (
        changed("vdb", "mounted at /srv/data"),
        unchanged("vdb1"),
        failed("vdb2", "no filesystem", "make one"),
    )
    reporter.device("vdb", "disk", "add", StepReport("vdb", items, 0.1))
    head = {"type": "device", "device": "vdb", "role": "disk", "action": "add"}
    assert records(reader) == [
        head | {"result": "changed", "item": "vdb", "detail": "mounted at /srv/data"},
        head | {"result": "failed", "item": "vdb2", "detail": "no filesystem", "hint": "make one"},
    ]


def test_a_stage_that_could_not_be_run(ctx: Context, reader: int) -> None:
    Reporter(ctx).unrun("config", "not run: another process", "wait for it")
    item, stage = records(reader)
    assert (item["item"], item["hint"]) == ("stage config", "wait for it")
    assert (stage["type"], stage["result"]) == ("stage", "failed")


def test_a_host_that_is_not_there_yet_gets_what_waited_when_it_comes(ctx: Context, tmp_path: Path) -> None:
    path, reporter = add_port(tmp_path), Reporter(ctx)
    end(ctx, *Stage)
    reporter.update(0.0)  # a FIFO without a reader cannot be opened: as without a port
    assert len(json.loads(ctx.host.read(STATE) or "")["port"]["waiting"]) == 5
    then = Reporter(ctx)  # the next daemon
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    then.flush()
    assert [one["type"] for one in records(reader)] == ["stage"] * 4 + ["boot"]
    assert not json.loads(ctx.host.read(STATE) or "")["port"]["waiting"]
    os.close(reader)


def test_the_loop_is_woken_when_the_reader_goes_on_and_not_before(ctx: Context, reader: int) -> None:
    reporter = Reporter(ctx)
    text = "x" * 400
    number = 0
    while not json.loads(ctx.host.read(STATE) or "{}").get("port", {}).get("waiting"):
        reporter.device("vdb", "disk", "add", StepReport("vdb", (changed("vdb", text),), 0.1))
        number += 1
    assert not select.select([reporter], [], [], 0)[0], "a full pipe is no event"
    assert records(reader)
    assert select.select([reporter], [], [], 5)[0]
    reporter.flush()
    assert records(reader)
    reporter.flush()
    assert not select.select([reporter], [], [], 0)[0], "nor is one that can be written to"


def test_ready_comes_after_systemds_own(
    ctx: Context, notified: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = ["starting"]
    monkeypatch.setattr(units, "system_state", lambda _host: states[-1])
    reporter = Reporter(ctx)
    end(ctx, *Stage)
    reporter.update(10.0)
    *stages, boot = messages(notified)
    assert stages == [f"X_GANDI_STAGE={stage}\nX_GANDI_RESULT=done\nX_GANDI_SECONDS=0.5" for stage in Stage]
    assert boot.startswith("X_GANDI_STAGE=boot\nX_GANDI_RESULT=ready\nSTATUS=ready: ")
    reporter.tick(10.0)
    assert not messages(notified)
    states.append("degraded")
    reporter.tick(10.5)
    assert not messages(notified), "not due yet"
    assert reporter.wake_at == 11.0
    reporter.tick(11.0)
    assert messages(notified) == [f"READY=1\n{boot}"]
    Reporter(ctx).update(20.0)
    assert not messages(notified), "the next daemon repeats nothing"


@pytest.mark.parametrize("why", ["a stage failed", "systemd never ends"])
def test_what_is_not_ready_is_never_said_to_be(
    ctx: Context, notified: socket.socket, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    monkeypatch.setattr(
        units, "system_state", lambda _: "running" if why == "a stage failed" else "starting"
    )
    reporter = Reporter(ctx)
    end(ctx, *Stage, steps=(USERS,) if why == "a stage failed" else ())
    reporter.update(0.0)
    now = 0.0
    while reporter.wake_at is not None:
        now = reporter.wake_at
        reporter.tick(now)
    assert now <= 901
    assert not [one for one in messages(notified) if "READY=1" in one]


def test_a_port_of_a_driver_that_came_later(
    ctx: Context, reader: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's refusal is simulated: root may open a FIFO of any mode."""
    opened, asked, jobs = Host.opened, list[tuple[str, ...]](), list[Any]()

    def refused(*given: Any, **more: Any) -> Any:
        try:
            raise PermissionError(1, "Operation not permitted")
        except PermissionError as error:
            raise HostError("refused") from error

    monkeypatch.setattr(
        Host,
        "opened",
        lambda host, name, *rest, **more: (
            refused() if name == "/dev/vport1p2" else opened(host, name, *rest, **more)
        ),
    )
    monkeypatch.setattr(libsystemd, "allow_device", lambda *given: asked.append(given))
    reporter = Reporter(ctx, jobs.append)
    end(ctx, *Stage)
    reporter.update(0.0)
    reporter.update(0.0)
    assert len(jobs) == 1, "asked once"
    jobs[0]()
    assert asked == [("gandi-agent.service", "char-virtio-portsdev", "rw")]
    monkeypatch.setattr(Host, "opened", opened)
    reporter.flush()
    assert len(records(reader)) == 5


def test_without_a_receiver_nothing_is_imported(tmp_path: Path) -> None:
    program = (
        "import sys; from agent.daemon import loop; "
        "print([name for name in sys.modules if name.startswith(('agent.reporting', 'ssl', 'http'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
