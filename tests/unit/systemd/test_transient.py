"""The exact requests to systemd; their effects are tested in guests."""

from __future__ import annotations

import ctypes
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from agent.host.host import Host
from agent.lib.errors import HostError
from agent.systemd import libsystemd, transient, units
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
    monkeypatch.setattr(libsystemd, "_ADDRESS", f"unix:path={tmp_path}/private".encode())
    with pytest.raises(HostError, match="systemd cannot be reached: "):
        libsystemd.system_state(timeout=1)
    with pytest.raises(HostError, match="systemd cannot be reached: "):
        libsystemd.main_process("ssh.service", timeout=1)
    assert not units.is_active(Host(), "ssh.service")
    assert units.main_process(Host(), "ssh.service") == 0


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

    libsystemd._library.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(HostError, match="cannot be reached: libsystemd"):
        libsystemd.start_transient("srv-data.mount", (), timeout=1)
