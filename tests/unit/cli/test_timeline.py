"""``gandi-agent timeline``: which records are read, and the three forms of the answer."""

from __future__ import annotations

import json
import os
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from agent.__main__ import main
from agent.host.host import Completed, Host
from agent.lib.errors import HostError
from tests.unit.timeline.test_timeline import BOOT

#: What each program prints, by a word of its arguments.
OUTPUTS = {
    "InitRDTimestampMonotonic": "manager",
    "Where": "units",
    "_TRANSPORT=kernel": "kernel",
    "UNIT": "journal",
}


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The commands that are run; systemd's are answered with the records of a boot."""
    ran: list[tuple[str, ...]] = []

    def run(_host: Host, argv: tuple[str, ...], **options: Any) -> Completed:
        assert options["changes"] is False
        ran.append(argv)
        name = next(name for word, name in OUTPUTS.items() if word in " ".join(argv))
        return Completed(argv, 0, (BOOT / name).read_text(), "")

    monkeypatch.setattr(Host, "run", run)
    return ran


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A machine with the status of the boot."""
    (tmp_path / "run/gandi").mkdir(parents=True)
    status = json.loads((BOOT / "status.json").read_text()) | {"version": 1}
    (tmp_path / "run/gandi/status.json").write_text(json.dumps(status))
    return Host(tmp_path)


def test_it_reads_what_is_recorded_anyway(
    host: Host, commands: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["timeline"], host) == 0
    assert capsys.readouterr().out.startswith(
        "ssh: reachable 4.000 s after the kernel's start (ssh.service)\n"
    )
    assert {argv[0] for argv in commands} == {"systemctl", "journalctl"}
    assert all(argv[1] == "show" for argv in commands if argv[0] == "systemctl")
    assert [argv[4:] for argv in commands if "--" in argv] == [("*",), ("dev-vda1.device",)]
    journal = next(argv for argv in commands if "UNIT=ssh.service" in argv)
    assert {"--boot", "UNIT=gandi-agent.service", "UNIT=gandi-script.service"} <= set(journal)
    assert "UNIT=systemd-journald.service" in journal, "what ssh can have waited for, first starts included"
    assert "UNIT=network.target" not in journal
    for matches in " ".join(journal).split(" + "):
        assert "_UID=0" in matches.split(), "a user can write an entry with any MESSAGE_ID and UNIT"


def test_json_has_every_part(host: Host, commands: list[object], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["timeline", "--json"], host) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["version"], shown["goal"], shown["reached"]) == (1, "ssh.service", 4.0)
    assert shown["path_seconds"] == pytest.approx(4.0)
    assert [part["name"] for part in shown["path"]][:3] == ["kernel", "initrd", "systemd"]
    assert [stage["name"] for stage in shown["stages"]] == ["bootstrap", "mount"]
    assert shown["events"][0]["marks"][0] == ["kernel", 19.89]


def test_the_drawing_is_written_as_a_file(
    host: Host, commands: list[object], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["timeline", "--svg", "/boot.svg"], host) == 0
    assert capsys.readouterr().out == "/boot.svg\n"
    ET.parse(tmp_path / "boot.svg")
    assert os.stat(tmp_path / "boot.svg").st_mode & 0o777 == 0o644


def test_without_systemd_it_says_so(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_argv: object, **_options: object) -> None:
        raise HostError("systemctl: not installed")

    monkeypatch.setattr(Host, "run", refuse)
    assert main(["timeline"], host) == 1
    shown = capsys.readouterr()
    assert "systemctl: not installed" in shown.err
    assert "was started in this boot" in shown.out
    assert "bootstrap" in shown.out, "the status has the stages all the same"
