"""The bytes that a terminal gets, for every kind of text by others and every encoding."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent import __main__ as command
from agent.cli import apply as offline
from agent.disks import mode_notify
from agent.disks.usage.holders import Holder
from agent.host import terminal
from agent.host.host import Host
from agent.lib.errors import ConfigError
from agent.reader.common.problem import shown
from agent.report import StepReport, changed, failed
from agent.systemd import journal
from tests.hostile import HARMLESS, LABELS, PROCESSES

if TYPE_CHECKING:
    from collections.abc import Sequence

TREE = Path(__file__).parents[3]
ALL = [*(os.fsdecode(label) for label in (*LABELS, *PROCESSES)), "\ud800 alone", "\udfff", "\x9b31m"]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "iso-8859-1", "koi8-r"])
def test_no_text_gets_through(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(buffer, encoding=encoding, errors="strict"))
    terminal.print_lines(*ALL)
    terminal.print_lines(failed("vdb", "\n".join(ALL)))
    lines = buffer.getvalue().decode(encoding)
    assert HARMLESS.fullmatch(lines)
    assert lines.count("\n") == len(ALL) + 1, "each argument is one line"


def test_json_is_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.print_json({text: ALL for text in ALL})
    assert re.fullmatch(r"[ -~\n]+", capsys.readouterr().out)


def test_bytes_for_a_program_stay_as_they_are_and_a_terminal_gets_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    buffer = io.BytesIO()
    stream = io.TextIOWrapper(buffer, encoding="utf-8")
    monkeypatch.setattr("sys.stdout", stream)
    terminal.print_bytes(b"\x1b[2Ja\xff\nb")
    assert buffer.getvalue() == b"\x1b[2Ja\xff\nb"
    monkeypatch.setattr(stream, "isatty", lambda: True)
    terminal.print_bytes(b"\x1b[2Ja\xff\nb")
    assert buffer.getvalue().endswith(b"\nb\\x1b[2Ja\\xff\nb\n")


def test_a_closed_stream_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    terminal.print_lines("nothing")


@pytest.mark.parametrize("odd", ALL, ids=ascii)
def test_errors_are_named_harmlessly(
    odd: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **_named: object) -> int:
        raise ConfigError(f"{odd}: refused", hint=f"not {odd}")

    def break_down(*_: object, **_named: object) -> int:
        raise ValueError(odd)

    words = ["apply", "--root", "/nowhere", "--source", "x"]
    for apply, count in ((refuse, 2), (break_down, None)):
        monkeypatch.setattr(offline, "apply", apply)
        assert command.main(words) == 1
        said = capsys.readouterr().err
        assert HARMLESS.fullmatch(said)
        assert count is None or said.count("\n") == count
        assert odd.isprintable() or odd not in said


def test_what_was_typed_is_named_harmlessly(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["status", "\x1b]52;c;eA==\x07\nchanged: vdb: all is well"])
    assert HARMLESS.fullmatch(capsys.readouterr().err)


@pytest.mark.parametrize("locale", ["C", "POSIX", "C.UTF-8", "en_US.ISO-8859-1"])
def test_every_locale(locale: str) -> None:
    """In a process of its own, since the interpreter chooses the encoding by the locale."""
    names = [*LABELS, *PROCESSES]
    line = "import os, sys; from agent.host.terminal import print_error, print_lines; "
    line += "texts = list(map(os.fsdecode, sys.stdin.buffer.read().split(b'\\0'))); "
    line += "print_lines(*texts); print_error(*texts)"
    done = subprocess.run(
        [sys.executable, "-c", line],
        cwd=TREE,
        env={"LC_ALL": locale},
        input=b"\0".join(names),
        capture_output=True,
        check=True,
    )
    for said in (done.stdout, done.stderr):
        assert HARMLESS.fullmatch(said.decode()), locale
        assert said.count(b"\n") == len(names)


def test_the_daemons_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """They go to the journal, under the stage's unit, and to systemd."""
    said, sent = list[str](), list[tuple[bytes, ...]]()
    monkeypatch.setattr(journal, "_sendv", lambda: lambda *entry: sent.append(entry))
    step = StepReport("disks", tuple(failed(name, name, name) for name in ALL), 0.0)
    journal.Journal(Host()).line("gandi-mount", *step.lines())
    assert len(sent) == len(ALL) + 1
    for text, *fields in sent:
        assert HARMLESS.fullmatch(text.decode() + "\n")
        assert b"OBJECT_SYSTEMD_UNIT=gandi-mount.service" in fields
    monkeypatch.setattr(journal, "notify", said.append)
    for name in ALL:
        journal.status_line(name)
    assert HARMLESS.fullmatch("".join(said))
    assert "\n" not in "".join(said)


@pytest.mark.parametrize("odd", ALL, ids=ascii)
def test_the_journal(odd: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    sent: list[bytes] = []

    def send(*fields: bytes) -> None:
        sent.extend(fields)
        raise OSError("full")

    monkeypatch.setattr(journal, "_sendv", lambda: send)
    said = journal.Journal(Host())
    said.device(odd, StepReport(odd, (failed(odd, odd, odd), changed(odd, odd)), 0.0))
    said.medium(failed(odd, odd))
    assert all(b"\n" not in field and HARMLESS.fullmatch(field.decode()) for field in sent)
    assert HARMLESS.fullmatch(capsys.readouterr().err), "where journald takes nothing"


def test_a_defects_frames_are_lines_and_its_text_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []
    monkeypatch.setattr(journal, "_sendv", lambda: lambda *fields: sent.extend(fields))
    text = "\x1b of a secret"
    try:
        raise ValueError(text)
    except ValueError as error:
        journal.Journal(Host()).defect("vd\nb", error)
    message = sent[0].decode()
    assert message.startswith("MESSAGE=vd\\x0ab: unexpected ValueError\n  File ")
    assert HARMLESS.fullmatch(message)
    assert "of a secret" not in message


def test_delivered_names_are_short_as_well() -> None:
    for odd in ALL:
        assert HARMLESS.fullmatch(shown(odd) + "\n")
        assert len(shown(odd * 100)) <= 81


@pytest.mark.parametrize("label", LABELS, ids=ascii)
def test_a_message_to_all_users(label: bytes) -> None:
    said = mode_notify.announcement("/dev/vdb", label, 1 << 30, "ext4", os.fsdecode(b"/srv/" + label))
    assert said.count("\n") == 2
    assert HARMLESS.fullmatch(said)


@pytest.mark.parametrize("hostname", ["vm1.example", "a\x1b[2Jb", "a\nb", "\u202e", "a b", ""])
def test_the_message_at_login_shows_a_name_or_none(hostname: str, tmp_path: Path) -> None:
    """The kernel accepts any bytes as the hostname."""
    program = (TREE / "bin/gandi-motd").read_text()
    template, name = tmp_path / "template", tmp_path / "name"
    template.write_text("this is @HOSTNAME@ now\n")
    name.write_text(hostname + "\n")
    program = program.replace("/etc/gandi/motd.template", str(template))
    program = program.replace("/proc/sys/kernel/hostname", str(name))
    done = subprocess.run(["sh"], input=program.encode(), capture_output=True, check=True)
    fine = hostname == "vm1.example"
    assert done.stdout.decode() == f"this is {hostname if fine else '(invalid name)'} now\n"


def words(holders: Sequence[Holder]) -> str:
    return "; ".join(map(str, holders))


def test_a_holder_is_short() -> None:
    assert len(words([Holder(1, "a" * 10000, "/" * 10000)])) < 500
