"""The daemon as a real process: requests, floods, signals, watchdog, device events, a second life."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent import __main__ as command
from agent.daemon import control_socket
from agent.host.host import Host
from tests.system import machine
from tests.system.processes import BOUND, TREE, Machine
from tests.unit.sysfs import Sysfs, virtio

if TYPE_CHECKING:
    from collections.abc import Iterator


NULL = "/devices/virtual/mem/null"

pytestmark = pytest.mark.usefixtures("own_network")  # udev multicasts in one network namespace only


@pytest.fixture
def m(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    made.close()


def everything(peer: socket.socket) -> bytes:
    """Return the daemon's output until it closes the connection."""
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while data := peer.recv(4096):
            said += data
    return said


def drain(told: socket.socket) -> None:
    """Read what was sent before; a process that does not stop sending is a failure. Raise TimeoutError at
    the end.
    """
    for _ in range(20):
        told.recv(4096)


def test_a_peer_that_goes_away_does_not_end_its_stage(m: Machine) -> None:
    m.daemon()
    peer = m.connect(b"stage config\n")
    m.begun()
    peer.close()
    m.go()
    assert m.client("config")[0] == 0
    assert m.status()["stages"]["config"]["state"] == "done"


@pytest.mark.parametrize(
    "request_",
    [
        b"stage nonsense\n",
        b"stage\n",
        b"\xff\xfe\n",
        b"x" * 4096,
        b"stage bootstrap\nstage bootstrap\n",
        b"\n",
    ],
    ids=["stage", "short", "binary", "oversized", "two", "empty"],
)
def test_a_wrong_request_is_refused_and_runs_nothing(m: Machine, request_: bytes) -> None:
    m.daemon()
    with m.connect(request_) as peer:
        assert everything(peer) in (b"", b"end 2\n")
    assert m.ran() == []
    assert m.client("bootstrap")[0] == 0


def test_more_peers_than_allowed_are_sent_away_and_the_rest_served(m: Machine) -> None:
    m.daemon()
    silent = [m.connect() for _ in range(control_socket.CLIENTS)]
    with m.connect(b"ping\n") as late:
        assert everything(late) == b""
    silent.pop().close()
    deadline = time.monotonic() + BOUND
    while not control_socket.ping(Host(m.root)):
        assert time.monotonic() < deadline
    for peer in silent:
        peer.close()


def test_sigterm_ends_it_in_the_middle_of_a_stage(m: Machine) -> None:
    daemon = m.daemon()
    client = m.start("client", "config")
    m.begun()
    started = time.monotonic()
    daemon.terminate()
    m.go()
    assert daemon.wait(BOUND) == 0
    assert time.monotonic() - started < 5
    assert client.wait(BOUND) == 0
    assert "process" not in m.status()["daemon"]


def test_who_asks_is_told_the_step_however_short(m: Machine) -> None:
    m.daemon()
    (m.root / "silent").touch()
    with m.connect(b"stage config\n"):
        m.begun()
        assert control_socket.ping(Host(m.root))
        assert m.status()["work"]["config"]["step"]
        m.go()
        assert m.client("config")[0] == 0
    assert m.status()["work"] == {}


def test_sighup_reads_the_settings(m: Machine) -> None:
    daemon = m.daemon()
    m.client("bootstrap")
    (m.root / "etc/default").mkdir(parents=True)
    (m.root / "etc/default/gandi").write_text("CONFIG_NETWORK=maybe\n")
    daemon.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + BOUND
    while not m.status()["notes"].get("settings"):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_watchdog_is_fed_while_a_worker_hangs_and_not_while_stopped(m: Machine) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(m.root / "notify"))
        told.settimeout(BOUND)
        environment = os.environ | {"NOTIFY_SOCKET": str(m.root / "notify"), "WATCHDOG_USEC": "400000"}
        daemon = m.daemon(env=environment)
        with m.connect(b"stage config\n"):
            m.begun()
            seen = [told.recv(4096).decode() for _ in range(12)]
            assert seen[0] == "READY=1\nSTATUS=ready"
            assert seen.count("WATCHDOG=1") >= 2
            assert any(line == "STATUS=config: slow: waiting for the test" for line in seen)
            daemon.send_signal(signal.SIGSTOP)
            told.settimeout(0.5)
            with pytest.raises(TimeoutError):
                drain(told)
            daemon.send_signal(signal.SIGCONT)
            m.go()


def test_systemds_socket_is_taken_over_and_survives(m: Machine) -> None:
    (m.root / "run/gandi").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(m.root / "run/gandi/agent.sock"))
        listening.listen()
        waiting = m.start("client", "bootstrap")  # before the daemon starts, as at boot
        handed = f"LISTEN_PID=$$ LISTEN_FDS=1 exec {sys.executable} -m tests.system.machine daemon {m.root}"
        line = f"{handed} 3<&{listening.fileno()}"
        daemon = subprocess.Popen(["bash", "-c", line], cwd=TREE, pass_fds=[listening.fileno()])
        try:
            assert waiting.wait(BOUND) == 0
            assert m.ran() == [daemon.pid]
        finally:
            daemon.terminate()
            assert daemon.wait(BOUND) == 0
        assert (m.root / "run/gandi/agent.sock").is_socket()


def test_a_second_daemon_refuses_to_start(m: Machine) -> None:
    m.daemon()
    second = m.start("daemon")
    output, _ = second.communicate(timeout=BOUND)
    assert second.returncode == 1
    assert "another process listens there already" in output


def test_the_socket_is_for_root_alone(m: Machine) -> None:
    m.daemon()
    assert (m.root / "run/gandi/agent.sock").stat().st_mode & 0o777 == 0o600


def looks(m: Machine, count: int) -> list[str]:
    """Return the looks at devices, once there are that many."""
    deadline = time.monotonic() + BOUND
    while True:
        found = (m.root / "looks").read_text().splitlines() if (m.root / "looks").exists() else []
        if len(found) >= count:
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


def with_one_device(m: Machine) -> None:
    """Have udev's database say that /dev/null is a disk with the agent's tag."""
    null = m.root / "sys/devices/virtual/mem/null"
    null.mkdir(parents=True)
    Sysfs(m.root).link("dev/char/1:3", null)
    for name, text in (("tags/gandi/c1:3", ""), ("data/c1:3", "I:1\nE:GANDI_ROLE=disk\n")):
        file = m.root / "run/udev" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def told(m: Machine, number: int) -> None:
    """Set the number of the kernel's last uevent."""
    (m.root / "sys/kernel").mkdir(parents=True, exist_ok=True)
    (m.root / "sys/kernel/uevent_seqnum").write_text(f"{number}\n")


def recorded(m: Machine, action: str) -> None:
    """Wait until the look at /dev/null for that action has been recorded."""
    deadline = time.monotonic() + BOUND
    while m.status()["devices"].get("null", {}).get("action") != action:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_event_is_a_reason_to_look_once_the_stages_have(m: Machine) -> None:
    """Older events are ignored: the stages have looked at all devices since."""
    with_one_device(m)
    m.daemon()
    told(m, 1200)
    machine.send(machine.message("add", "gandi", "/devices/virtual/mem/full", SEQNUM="1200"))
    assert [m.client(stage)[0] for stage in ("bootstrap", "mount", "postboot")] == [0, 0, 0]
    machine.send(machine.message("add", "systemd", "/devices/virtual/mem/zero", SEQNUM="1201"))
    machine.send(machine.message("change", "gandi", NULL, SEQNUM="1202"))
    assert looks(m, 1) == ["null change"]
    machine.send(machine.message("add", "gandi", NULL, SEQNUM="1203"))
    assert looks(m, 2) == ["null change", "null add"]
    recorded(m, "add")
    assert m.status()["devices"]["null"]["outcome"] == "changed"


def test_events_of_other_devices_wake_it_few_times_and_hide_none_of_ours(m: Machine) -> None:
    """Hundreds come while a boot settles, one by one, before the filter is on the socket."""
    with_one_device(m)
    started = m.daemon()
    told(m, 1200)
    assert [m.client(stage)[0] for stage in ("bootstrap", "mount", "postboot")] == [0, 0, 0]
    before = _wakes(started.pid)
    for number in range(200):
        machine.send(
            machine.message("add", "systemd", "/devices/virtual/mem/zero", SEQNUM=f"{1201 + number}")
        )
        time.sleep(0.005)  # each could wake it
    assert _wakes(started.pid) - before < 50
    machine.send(machine.message("change", "gandi", NULL, SEQNUM="1500"))
    assert looks(m, 1) == ["null change"]


def _wakes(pid: int) -> int:
    """Return how often the process's first thread has waited for something."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("voluntary_ctxt")).split()[1])


def test_what_comes_while_the_stages_run_is_looked_at_after_them(m: Machine) -> None:
    with_one_device(m)
    m.daemon()
    told(m, 1200)
    assert m.client("mount")[0] == 0
    machine.send(machine.message("add", "gandi", NULL, SEQNUM="1201"))
    m.go()
    assert m.client("config")[0] == 0
    assert not (m.root / "looks").exists()
    assert m.client("postboot")[0] == 0
    assert looks(m, 1) == ["null add"]


def test_a_daemon_that_is_killed_and_started_again_looks_at_everything(m: Machine) -> None:
    m.daemon()
    assert [m.client(stage)[0] for stage in ("bootstrap", "mount")] == [0, 0]
    m.started[0].kill()
    with_one_device(m)
    started = m.daemon()
    assert looks(m, 1) == ["null change"]
    machine.send(machine.message("remove", "gandi", "/devices/virtual/mem/zero"))
    assert looks(m, 2)[1] == "zero remove"
    started.send_signal(signal.SIGHUP)
    assert looks(m, 3)[2] == "null change"


def test_a_reload_between_the_mount_stage_and_the_last_is_not_lost(m: Machine) -> None:
    with_one_device(m)
    started = m.daemon()
    assert m.client("mount")[0] == 0
    (m.root / "etc/default").mkdir(parents=True)
    (m.root / "etc/default/gandi").write_text("CONFIG_ALLOW_MOUNT=maybe\n")
    started.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + BOUND
    while not m.status()["notes"].get("settings"):  # so it has been received
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert m.client("postboot")[0] == 0
    assert looks(m, 1) == ["null change"]


def test_after_a_mount_stage_that_failed_everything_is_looked_at(m: Machine) -> None:
    """A disk that was too slow for the stage: its event is old, and would be ignored."""
    (m.root / "broken").touch()
    with_one_device(m)
    m.daemon()
    assert m.client("mount")[0] == 1
    assert m.client("postboot")[0] == 0
    assert looks(m, 1) == ["null change"]


@pytest.mark.parametrize("by", ["the daemon", "the next daemon", "the client"])
def test_without_a_data_disk_the_mount_stage_comes_with_the_next(m: Machine, by: str) -> None:
    """It runs before the next stage, without a process for its unit, and once in a boot. After that,
    starting its unit runs it.
    """
    first = m.daemon()
    assert m.client("bootstrap")[0] == 0
    assert (m.root / "run/gandi/no-disks").exists()
    assert "mount" not in m.status()["stages"]
    if by != "the daemon":
        first.kill()
        first.wait(BOUND)
    if by == "the next daemon":
        m.daemon()
    client = m.start("client", "config")
    m.begun()
    stages = m.status()["stages"]
    assert (stages["mount"]["state"], stages["config"]["state"]) == ("done", "running")
    m.go()
    assert client.wait(BOUND) == 0
    assert not (m.root / "run/gandi/no-disks").exists()
    if by == "the client":
        m.daemon()
    assert m.client("bootstrap")[0] == 0
    assert not (m.root / "run/gandi/no-disks").exists()
    assert m.client("mount")[0] == 0


@pytest.mark.parametrize("why", ["a disk", "damage"])
def test_where_there_may_be_a_data_disk_its_stage_waits_for_its_unit(m: Machine, why: str) -> None:
    if why == "a disk":
        virtio(Sysfs(m.root), "vdb", "254:16", "02.0")
    else:
        (m.root / "var/lib/gandi").mkdir(parents=True)
        (m.root / "var/lib/gandi/disks.json").write_text("{")
    m.daemon()
    assert m.client("bootstrap")[0] == 0
    assert not (m.root / "run/gandi/no-disks").exists()
    assert "mount" not in m.status()["stages"]
    assert m.client("mount")[0] == 0


@pytest.mark.parametrize("finished", [False, True])
def test_a_drive_that_udev_is_not_done_with_is_looked_at_later(m: Machine, finished: bool) -> None:
    """The mount stage does not wait for optical drives, and this one's uevent is older than the stage."""
    sysfs = Sysfs(m.root)
    sysfs.disk("pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/block/sr0", "11:0")
    sysfs.disk("virtual/block/loop0", "7:0")
    with_one_device(m)
    (m.root / "run/udev/data/b11:0").write_text("I:77\n" if finished else "")
    m.daemon()
    assert m.client("mount")[0] == 0
    assert m.client("postboot")[0] == 0
    if finished:
        assert m.client("bootstrap")[0] == 0  # served, so the daemon has looked at all devices
        assert not (m.root / "looks").exists()
    else:
        assert looks(m, 1) == ["null change"]


def test_status_is_for_everyone() -> None:
    with tempfile.TemporaryDirectory() as folder:
        open_to_all = Path(folder)
        open_to_all.chmod(0o755)
        m = Machine(open_to_all)
        daemon = m.daemon()
        try:
            assert [m.client(stage)[0] for stage in ("bootstrap", "mount", "postboot")] == [0, 0, 0]
            child = multiprocessing.get_context("fork").Process(target=status_as_nobody, args=(m.root,))
            child.start()
            child.join(BOUND)
        finally:
            daemon.kill()
            daemon.communicate()
        assert child.exitcode == 2, "config has not been run"
        shown = (m.root / "shown").read_text()
    assert f"daemon: running (process {daemon.pid})\n" in shown
    assert "instance: shown to root only" in shown or "instance: none yet" in shown
    assert "config: not begun" in shown


def status_as_nobody(root: Path) -> None:
    """Run ``status``, in a process of its own, as a user who can neither ask the daemon nor read
    its state.
    """
    import argparse  # noqa: F401  # this Python's library may be readable by root only, so it is loaded before

    with (root / "shown").open("w") as shown, contextlib.redirect_stdout(shown):
        os.setuid(65534)
        status = command.main(["status"], Host(root))
    os._exit(status)
