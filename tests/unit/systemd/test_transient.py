"""The exact requests to systemd; their effects are tested in guests."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from agent.disks.base import system as disks
from agent.host.host import Host
from agent.lib.errors import HostError, ResultUnknown
from agent.systemd import libsystemd, sd_bus, transient, units
from tests.unit.conftest import Asked, FakePid1, UnitProperties

if TYPE_CHECKING:
    from pathlib import Path

    from agent.systemd.libsystemd import Property


GROW, UNIT = ("resize2fs", "/dev/vdb"), "gandi-grow-vdb.service"


def test_a_unit_that_pid_1_does_not_know_is_not_asked_about(tmp_path: Path, fake_pid1: FakePid1) -> None:
    host = Asked(tmp_path)
    transient.run(host, "gandi-grow-vdb", GROW, timeout=5)
    assert [unit for unit, _ in fake_pid1.started] == [UNIT]
    assert (fake_pid1.queried, fake_pid1.joined, host.argvs) == ([], [], [])


@pytest.mark.parametrize(
    ("state", "joins"),
    [("activating", True), ("active", True), ("deactivating", True), ("failed", False), ("inactive", False)],
)
def test_one_that_runs_is_joined(tmp_path: Path, fake_pid1: FakePid1, state: str, joins: bool) -> None:
    host = Asked(tmp_path)
    host.knows("gandi-grow-vdb")
    fake_pid1.state = lambda _unit: state
    transient.run(host, "gandi-grow-vdb", GROW, timeout=5)
    assert fake_pid1.queried == [UNIT]
    assert fake_pid1.joined == ([UNIT] if joins else [])
    assert [unit for unit, _ in fake_pid1.started] == ([] if joins else [UNIT])


def test_one_that_ended_before_it_could_be_joined_is_no_error(tmp_path: Path, fake_pid1: FakePid1) -> None:
    def gone(unit: str) -> str:
        raise HostError(f"systemd refuses StartUnit: Unit {unit} not found.")

    host = Asked(tmp_path)
    host.knows("gandi-grow-vdb")
    fake_pid1.state, fake_pid1.ends = lambda _unit: "activating", gone
    transient.run(host, "gandi-grow-vdb", GROW, timeout=5)
    assert (fake_pid1.joined, fake_pid1.started) == ([UNIT], [])


def test_a_command_that_fails_is_named(tmp_path: Path, fake_pid1: FakePid1) -> None:
    def fails(unit: str, _said: UnitProperties) -> None:
        raise HostError(f"{unit}: its start ended as: failed")

    fake_pid1.begins = fails
    with pytest.raises(
        HostError,
        match=r"^resize2fs /dev/vdb: failed in gandi-grow-vdb\.service: its start ended as: failed",
    ) as raised:
        transient.run(Asked(tmp_path), "gandi-grow-vdb", GROW, timeout=5)
    assert raised.value.hint == f"see: journalctl -b -u {UNIT}"


def test_pid_1_ends_a_command_before_its_client_stops_waiting(tmp_path: Path, fake_pid1: FakePid1) -> None:
    transient.run(Asked(tmp_path), "gandi-grow-vdb", GROW, timeout=5)
    ((_, said),) = fake_pid1.started
    assert said["TimeoutStartUSec"] == ("5000000",)
    assert fake_pid1.timeouts[UNIT] > 5


def test_no_unit_waits_for_basic_target(tmp_path: Path, fake_pid1: FakePid1) -> None:
    host = Asked(tmp_path)
    transient.run(host, "a", ("true",), timeout=5)
    transient.start(host, "b", ("true",))
    kinds = {"a.service": ("oneshot",), "b.service": ("exec",)}
    assert {unit: said["Type"] for unit, said in fake_pid1.started} == kinds
    for _, said in fake_pid1.started:
        assert (said["DefaultDependencies"], said["Conflicts"]) == (("no",), ("shutdown.target",))


def test_a_program_is_named_by_its_place(tmp_path: Path, fake_pid1: FakePid1) -> None:
    """An older systemd requires an absolute path."""
    host = Asked(tmp_path)
    host.write("/sbin/resize2fs", "")
    transient.start(host, "a", GROW)
    assert fake_pid1.started[0][1]["ExecStart"] == ("/sbin/resize2fs", "/dev/vdb")


def test_a_dollar_in_an_argument_is_no_variable(tmp_path: Path, fake_pid1: FakePid1) -> None:
    argv, sent = ("/srv/$a", "$HOME", "${B}$$", "c"), ("/srv/$a", "$$HOME", "$${B}$$$$", "c")
    transient.run(Asked(tmp_path), "a", argv, timeout=5)
    transient.start(Asked(tmp_path), "b", argv)
    assert [said["ExecStart"] for _, said in fake_pid1.started] == [sent, sent]


def test_what_is_read_by_a_command_is_a_whole_line(tmp_path: Path, fake_pid1: FakePid1) -> None:
    transient.run(Asked(tmp_path), "a", ("cat",), timeout=5, stdin="one line")
    transient.run(Asked(tmp_path), "b", ("cat",), timeout=5)
    (_, given), (_, nothing) = fake_pid1.started
    assert (given["StandardInput"], given["StandardInputData"]) == (("data",), ("one line\n",))
    assert not {"StandardInput", "StandardInputData"} & set(nothing)


def test_nothing_is_run_in_a_plan(tmp_path: Path, fake_pid1: FakePid1) -> None:
    host = Host(tmp_path, dry_run=True)
    transient.run(host, "gandi-grow-vdb", GROW, timeout=5)
    transient.start(host, "a", ("true",))
    assert host.planned == [f"run resize2fs /dev/vdb in {UNIT}", "start true in a.service"]
    assert fake_pid1 == FakePid1(), "asked for something"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/srv/data", "srv-data"),
        ("/srv//a b/", r"srv-a\x20b"),
        ("/srv/_-+.é", r"srv-_\x2d\x2b.\xc3\xa9"),
        ("/.hidden/.b", r"\x2ehidden-.b"),
        ("/a:b\\", r"a:b\x5c"),
        ("/", "-"),
    ],
)
def test_a_paths_unit_is_named_as_systemd_names_it(path: str, name: str) -> None:
    assert units.of_path(path, "mount") == f"{name}.mount"
    argv = ("systemd-escape", "--path", "--suffix=mount", path)
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == f"{name}.mount\n"


def test_nobody_answers_where_systemd_does_not_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sd_bus, "_ADDRESS", f"unix:path={tmp_path}/private".encode())
    with pytest.raises(HostError, match="systemd cannot be reached: "):
        libsystemd.system_state(timeout=1)
    with pytest.raises(HostError, match="systemd cannot be reached: "):
        libsystemd.main_process("ssh.service", timeout=1)
    assert not units.is_active(Host(), "ssh.service")
    assert units.main_process(Host(), "ssh.service") == 0


def test_a_connection_that_is_refused_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """PID 1 refuses connections while it re-executes, and makes its socket again before it listens."""
    monkeypatch.setattr(sd_bus, "_ADDRESS", f"unix:path={tmp_path}/private".encode())
    socket.socket(socket.AF_UNIX).bind(f"{tmp_path}/private")  # closed at once: its file refuses
    monkeypatch.setattr(sd_bus, "_REEXECUTES", 0.3)
    begun = time.monotonic()
    with pytest.raises(HostError, match="systemd cannot be reached: Connection refused"):
        libsystemd.system_state(timeout=1)
    assert time.monotonic() - begun >= 0.3
    pauses = list[float]()
    listener = socket.socket(socket.AF_UNIX)

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 1:
            (tmp_path / "private").unlink()
        else:
            listener.bind(f"{tmp_path}/private")
            listener.listen()

    monkeypatch.setattr(sd_bus, "_REEXECUTES", 60)
    connection = sd_bus.Connection()
    monkeypatch.setattr(connection._read, "wait", pause)
    with connection.bus(60):
        assert pauses == [sd_bus._PAUSE] * 2
        listener.close()


@pytest.mark.parametrize(
    ("method", "again", "calls"),
    [
        (b"StartTransientUnit", "systemd1.UnitExists", [b"StartTransientUnit", b"StartUnit"]),
        (b"StartTransientUnit", "DBus.Error.InvalidArgs", [b"StartTransientUnit"]),
        (b"StopUnit", "systemd1.NoSuchUnit", [b"StopUnit"]),
        (b"StartUnit", "systemd1.NoSuchUnit", [b"StartUnit"]),
    ],
)
def test_an_order_that_may_have_been_taken_is_given_again(
    method: bytes, again: str, calls: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transient unit that is there already has begun, and is joined; a stop never becomes a start."""
    connection, called = sd_bus.Connection(), list[bytes]()

    def ordered(method: bytes, _types: bytes, _order: object) -> tuple[str, sd_bus._Job]:
        called.append(method)
        if len(called) == 1:
            raise sd_bus._Failed("refused", f"org.freedesktop.{again}")
        return "/job/1", sd_bus._Job()

    monkeypatch.setattr(connection, "_ordered", ordered)
    with contextlib.suppress(HostError):
        connection._ordered_again(method, b"ss", (b"a.service", b"replace"))
    assert called == calls


def test_a_job_is_looked_for_only_while_nothing_is_known_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    connection, asked = sd_bus.Connection(), list[bytes]()
    answers = [
        sd_bus._Disconnected("re-executes once more"),
        sd_bus._Failed("no answer", "org.freedesktop.DBus.Error.Timeout"),
        sd_bus._Failed("no such job", "org.freedesktop.DBus.Error.UnknownObject"),
    ]

    def property(path: bytes, *_what: object) -> None:
        asked.append(path)
        raise answers.pop()

    monkeypatch.setattr(connection, "property", property)
    job = sd_bus._Job()
    job.result = "failed"  # another thread has read it meanwhile
    connection._find("/job/1", job)
    assert (asked, job.result) == ([], "failed")
    for kind in (ResultUnknown, sd_bus._Failed):  # without an answer it may still run
        job.result = sd_bus._LOST
        with pytest.raises(HostError) as raised:
            connection._find("/job/1", job)
        assert type(raised.value) is kind
    job.result = sd_bus._LOST
    connection._find("/job/1", job)
    assert len(asked) == 3


def test_a_writers_unknown_result_is_for_the_disk_to_tell(
    tmp_path: Path, fake_pid1: FakePid1, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ended while PID 1 re-executed has done its work or not: the one who ordered it looks."""

    def lost(unit: str, _properties: UnitProperties) -> None:
        raise ResultUnknown(f"{unit}: {sd_bus._UNKNOWN}")

    fake_pid1.begins = lost
    host = Asked(tmp_path)
    disks.write(host, "gandi-grow-vdb", "/dev/vdb", ("resize2fs", "/dev/vdb"))
    mounted = [False, True]
    monkeypatch.setattr(disks, "is_mounted", lambda *_given: mounted.pop(0))
    disks.release(host, "/srv/data")
    with pytest.raises(ResultUnknown, match="its result is unknown"):
        disks.release(host, "/srv/data")
    with pytest.raises(ResultUnknown, match=r"fsck: failed in gandi-x.service: it ended while"):
        transient.run(host, "gandi-x", ("fsck",), timeout=1)


@pytest.mark.parametrize(
    "unit", ["ssh.service", r"srv-a\x20b.mount", "1_é@.service", "gandi-script.service"]
)
def test_a_units_object_has_the_path_that_the_library_gives_it(unit: str) -> None:
    library, path = ctypes.CDLL("libsystemd.so.0"), ctypes.c_char_p()
    given = (b"/org/freedesktop/systemd1/unit", unit.encode(), ctypes.byref(path))
    assert library.sd_bus_path_encode(*given) >= 0
    assert libsystemd._of_unit(unit) == path.value


@pytest.mark.parametrize(
    ("what", "sent"),
    [
        (("Type", "s", "exec"), 'STRING "exec";'),
        (("LazyUnmount", "b", "yes"), "BOOLEAN true;"),
        (("LazyUnmount", "b", "no"), "BOOLEAN false;"),
        (("Before", "as", "a.target", "b.target"), 'ARRAY "s" { STRING "a.target"; STRING "b.target"; };'),
        (("Environment", "as"), 'ARRAY "s" { };'),
        (("TimeoutStartUSec", "t", "5000000000000"), "UINT64 5000000000000;"),
        (("StandardInputData", "ay", "é\n"), 'ARRAY "y" { BYTE 195; BYTE 169; BYTE 10; };'),
        (
            ("ExecStart", "a(sasb)", "/bin/sh", "-c", ""),
            'ARRAY "(sasb)" { STRUCT "sasb" { STRING "/bin/sh";'
            ' ARRAY "s" { STRING "/bin/sh"; STRING "-c"; STRING ""; }; BOOLEAN false; }; };',
        ),
    ],
    ids=lambda what: " ".join(what[:2]) if isinstance(what, tuple) else "",
)
def test_a_property_arrives_as_it_is_meant(what: Property, sent: str, tmp_path: Path) -> None:
    """Checked with a message of the library that is not sent: the library prints it."""
    library, libc, text = ctypes.CDLL("libsystemd.so.0"), ctypes.CDLL(None), tmp_path / "text"
    libc.fopen.restype = ctypes.c_void_p
    bus, message, (ours, _theirs) = ctypes.c_void_p(), ctypes.c_void_p(), socket.socketpair()
    # A message needs a bus that was started; no process is at the other end of this one.
    assert library.sd_bus_new(ctypes.byref(bus)) >= 0
    assert library.sd_bus_set_fd(bus, ours.fileno(), ours.detach()) >= 0
    assert library.sd_bus_start(bus) >= 0
    assert library.sd_bus_message_new_signal(bus, ctypes.byref(message), b"/", b"a.b", b"c") >= 0
    assert library.sd_bus_message_append(message, b"(sv)", *libsystemd._arguments(*what)) >= 0
    assert library.sd_bus_message_seal(message, ctypes.c_uint64(1), ctypes.c_uint64(0)) >= 0
    file = ctypes.c_void_p(libc.fopen(bytes(text), b"w"))
    assert library.sd_bus_message_dump(message, file, ctypes.c_uint64(2)) >= 0  # its content alone
    libc.fclose(file)
    library.sd_bus_message_unref(message)
    library.sd_bus_close_unref(bus)
    name, kind, *_ = what
    spelled = f'STRUCT "sv" {{ STRING "{name}"; VARIANT "{kind}" {{ {sent} }}; }};'
    assert " ".join(text.read_text().split()) == spelled


def test_nobody_is_asked_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_name: str) -> None:
        raise OSError("libsystemd.so.0: cannot open shared object file")

    sd_bus.library.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(HostError, match="cannot be reached: libsystemd"):
        libsystemd.start_transient("srv-data.mount", (), timeout=1)
