"""The catalog and the messages agree; nothing is sent for a tree that is not the running system."""

from __future__ import annotations

import errno
import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent.config.settings import Problem
from agent.host.host import Host
from agent.lib import records
from agent.lib.errors import HostError
from agent.report import StageReport, StepReport, changed, failed
from agent.systemd import journal as journal_module
from agent.systemd.journal import Journal, Message

CATALOG = Path(__file__).parents[3] / "units/gandi-agent.catalog"
ENTRIES = {
    match[1]: match[2]
    for match in re.finditer(r"(?ms)^-- ([0-9a-f]{32})\n(.*?)(?=^-- |\Z)", CATALOG.read_text())
}


def identifiers() -> list[str]:
    """Return the identifiers of all messages."""
    return [value for name, value in vars(Message).items() if name.isupper()]


def test_the_catalog_explains_each_message_and_no_other() -> None:
    assert set(ENTRIES) == set(identifiers())


def test_each_entry_uses_only_fields_that_its_message_has(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: dict[str, set[str]] = {}

    def remember(_self: Journal, message: str, _priority: int, _text: str, **fields: str) -> None:
        sent[message] = {f"GANDI_{name.upper()}" for name in fields}

    monkeypatch.setattr(Journal, "send", remember)
    journal, step = Journal(Host()), StepReport("users", (failed("root", "no"), changed("key")), 0.1)
    journal.stage(StageReport("mount", (), 1.0))
    journal.stage(StageReport("mount", (step,), 1.0))
    journal.step("bootstrap", step)
    journal.device("vdb", step)
    journal.medium(failed("/dev/sr0", "no"))
    journal.swap_lost(failed("vdb", "gone"))
    journal.setting("/etc/default/gandi", Problem(1, "wrong", "hint"))
    journal.overflow()
    journal.unread("/proc/self/mountinfo", "nonsense")
    journal.unrecorded(HostError("full"))
    journal.defect("users", ValueError())
    assert set(sent) == set(identifiers())
    for message, text in ENTRIES.items():
        assert set(re.findall(r"@(\w+)@", text)) <= sent[message], message


@pytest.mark.parametrize("host", [Host(Path("/nowhere")), Host(dry_run=True)])
def test_an_image_and_a_dry_run_say_nothing(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_fields: str) -> None:
        raise AssertionError("sent")

    monkeypatch.setattr(journal_module, "_sendv", lambda: refuse)
    Journal(host).overflow()


def test_a_live_system_gets_the_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []
    monkeypatch.setattr(journal_module, "_sendv", lambda: lambda *fields: sent.extend(fields))
    Journal(Host()).device("vdb", StepReport("vdb", (failed("vdb1", "no\nfilesystem", "mkfs"),), 0.0))
    assert f"MESSAGE_ID={Message.DEVICE_FAILED}".encode() in sent
    assert {b"GANDI_DEVICE=vdb", b"GANDI_ITEM=vdb1", b"GANDI_HINT=mkfs", b"PRIORITY=3"} <= set(sent)
    assert b"GANDI_SECONDS=0.000" in sent


def test_a_text_that_no_journal_takes_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_fields: bytes) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(journal_module, "_sendv", lambda: refuse)
    Journal(Host()).overflow()
    assert capsys.readouterr().err.startswith("device events were lost")


@pytest.mark.parametrize("is_missing", [False, True])
def test_the_real_library_takes_an_entry(is_missing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also that of a release without the compiled part. Without journald, nothing is sent or raised."""
    if is_missing:
        importlib.import_module("systemd.journal")
        monkeypatch.setitem(sys.modules, "systemd._journal", None)
    sendv = journal_module._sendv()
    sendv(b"MESSAGE=two\nlines of a test of gandi-agent", b"PRIORITY=7", b"SYSLOG_IDENTIFIER=gandi-agent")
    with pytest.raises(OSError, match="Invalid argument"):
        sendv(b"no field")


def test_a_name_that_is_no_text_is_told_all_the_same() -> None:
    """The real library is called; it raises nothing without a journal. Encoding the path would raise."""
    mountpoint = os.fsdecode(b"/mnt/\xff")
    Journal(Host()).device("vdb", StepReport("vdb", (failed("vdb1", f"copy of {mountpoint}"),), 0.0))


def test_systemd_reads_the_catalog(tmp_path: Path) -> None:
    for folder in ("usr/lib/systemd/catalog", "var/lib/systemd/catalog"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(CATALOG, tmp_path / "usr/lib/systemd/catalog")
    done = subprocess.run(
        ["journalctl", f"--root={tmp_path}", "--update-catalog"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    database = (tmp_path / "var/lib/systemd/catalog/database").read_bytes()
    assert all(bytes.fromhex(message) in database for message in identifiers())


def test_reports_have_no_fields_that_the_journal_forgets() -> None:
    assert {field.name for field in records.fields(failed("a", "b"))} == {
        "name",
        "outcome",
        "detail",
        "hint",
    }
