"""The verbs about documents and media, called on the command line."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from agent.__main__ import main

CONFIG = {"vm_hostname": "vm1", "vif": [], "vm_conf": {"user": "admin1"}}
NATIVE = {"version": 1, "hostname": "vm1"}


@pytest.fixture
def document(tmp_path: Path) -> Path:
    """A document as the platform delivers it."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG))
    return path


def test_a_swap_image_is_made_and_checked(
    document: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script, out = tmp_path / "script", tmp_path / "swap.img"
    script.write_text("#!/bin/sh\n")
    words = ["seed", "swap", "--config", str(document), "--script", str(script), "--size", "4"]
    assert main([*words, "-o", str(out)]) == 0
    assert out.stat().st_size == 4 << 20
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert main(["config", "validate", str(out)]) == 0
    assert "valid (gandi)" in capsys.readouterr().out


def test_a_folder_is_a_drive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, out = tmp_path / "native.json", tmp_path / "drive"
    config.write_text(json.dumps(NATIVE))
    assert main(["seed", "dir", "--config", str(config), "-o", str(out)]) == 0
    assert main(["config", "validate", str(out)]) == 0
    assert "valid (native)" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["swap", "dir", "iso"])
@pytest.mark.parametrize("text", ["{", '{"hostname": "vm1"}', '{"version": 1, "id": "1", "hostname": 5}'])
def test_no_medium_is_made_of_a_document_with_errors(
    tmp_path: Path, kind: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config, out = tmp_path / "bad.json", tmp_path / "out"
    config.write_text(text)
    assert main(["config", "validate", str(config)]) == 1
    said = capsys.readouterr().out
    assert main(["seed", kind, "--config", str(config), "-o", str(out)]) == 1
    assert capsys.readouterr() == ("", said)
    assert not out.exists()


def test_a_medium_is_made_of_a_document_with_something_unsupported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, out = tmp_path / "more.json", tmp_path / "out"
    config.write_text(json.dumps(NATIVE | {"colour": "red"}))
    assert main(["config", "validate", str(config)]) == 3
    said = capsys.readouterr().out
    assert main(["seed", "dir", "--config", str(config), "-o", str(out)]) == 0
    assert capsys.readouterr() == (f"made {out}\n", said)


@pytest.mark.parametrize("kind", ["iso", "dir"])
def test_a_drive_takes_no_other_document(
    document: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["seed", kind, "--config", str(document), "-o", str(tmp_path / "out")]) == 1
    assert "native document" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["seed", "swap", "--config", str(tmp_path / "absent"), "-o", str(tmp_path / "out")]
    assert main(words) == 1
    assert f"{tmp_path}/absent: no such file" in capsys.readouterr().err


@pytest.mark.parametrize("which", [CONFIG, NATIVE], ids=["gandi", "native"])
def test_a_right_document(
    tmp_path: Path, which: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "one.json"
    path.write_text(json.dumps(which))
    assert main(["config", "validate", str(path)]) == 0
    assert capsys.readouterr().out.endswith(f"valid ({'native' if 'version' in which else 'gandi'})\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "line 1"),
        ("[]", "not a JSON object"),
        ('{"version": 1, "hostname": 5}', "hostname: "),
        ('{"version": 1, "nics": [{"addresses": ["203.0.113.300/24"]}]}', "nics[0].addresses[0]: "),
        ('{"version": 1, "users": [{"name": "Root User"}]}', "users[0].name: "),
        ('{"vm_hostname": "vm1", "vif": {}}', "vif: "),
    ],
)
def test_everything_that_is_wrong_is_said_with_its_remedy(
    tmp_path: Path, text: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    assert main(["config", "validate", str(path)]) == 1
    out = capsys.readouterr().out
    assert said in out
    assert f"{path}: error: " in out
    assert "  try: " in out


def test_what_will_not_happen_has_its_own_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "more.json"
    path.write_text(json.dumps(CONFIG | {"colour": "red"}))
    assert main(["config", "validate", str(path)]) == 3
    assert "unsupported: colour: " in capsys.readouterr().out
    assert main(["config", "validate", "--json", str(path)]) == 3
    found = json.loads(capsys.readouterr().out)
    (problem,) = found.pop("problems")
    assert (problem["path"], problem["severity"]) == ("colour", "unsupported")
    assert found == {"source": "gandi", "valid": True, "status": 3}


def test_the_schema_describes_what_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert {"version", "hostname", "nics", "users", "files"} <= set(schema["properties"])


def test_ganetis_variables(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("INSTANCE_NAME", "vm1.example.org")
    assert main(["ganeti"]) == 1
    assert capsys.readouterr().err.startswith("gandi-agent: NIC_COUNT: missing\n  try: ")


def test_an_archive_is_not_signed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = tmp_path / "document.json"
    document.write_text('{"version": 1, "hostname": "vm1"}')
    words = ["seed", "swap", "--config", str(document), "--sign", "key", "-o", str(tmp_path / "out")]
    assert main(words) == 1
    assert "an archive on a swap disk cannot be signed" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
