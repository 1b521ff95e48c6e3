"""What the reader makes of each document of tests/corpus is what its golden file says.

A golden file has, for each document, the exit status of ``config validate``, the model without its defaults,
and what ``config validate`` prints. Make them again: GANDI_GOLDEN=write pytest
tests/unit/reader/test_corpus.py, and read what has changed.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from itertools import groupby
from pathlib import Path

import pytest
import yaml

from agent.__main__ import main
from agent.cli import documents as verbs
from agent.host.host import Host
from agent.image import delivery
from agent.reader.common.result import Reading
from tests import corpus
from tests.corpus import outcome
from tests.drives import write_tree

DOCUMENTS = corpus.documents()
GROUPS = {group: list(found) for group, found in groupby(DOCUMENTS, lambda one: one.group)}
#: Read by the command in a process of its own, as users call it: one of each group, with problems.
AS_COMMANDS = [max(found, key=lambda one: len(one.files)) for found in GROUPS.values()]


def _validated(
    reading: Reading, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    """Return the status and the text of ``config validate`` for a reading."""
    monkeypatch.setattr(delivery, "read", lambda _host, _path: reading)
    status = verbs.validate(Host(), "DRIVE")
    return status, capsys.readouterr().out


def _section(
    document: corpus.Document, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    reading = outcome.read(document.dialect, document.files)
    status, text = _validated(reading, monkeypatch, capsys)
    model = "".join(f"{line}\n" for line in outcome.lines(reading))
    said = "".join(f"> {line}\n" for line in text.splitlines())
    return f"=== {document.name}: {status}\n{model}{said}"


@pytest.mark.parametrize("group", GROUPS)
def test_what_is_read_is_what_the_golden_file_says(
    group: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "\n".join(_section(document, monkeypatch, capsys) for document in GROUPS[group])
    golden = corpus.FOLDER / f"{group}.golden"
    if os.environ.get("GANDI_GOLDEN") == "write":
        golden.write_text(text)
    assert text == golden.read_text()


def test_the_corpus_is_large_and_no_document_is_lost_in_it() -> None:
    kinds = Counter(document.group.partition("/")[0] for document in DOCUMENTS)
    assert kinds["network"] >= 150
    assert kinds["userdata"] >= 200
    for path in corpus.FOLDER.glob("*/*.yaml"):
        names = re.findall(r"^([^\s#:]+):", path.read_text(), re.MULTILINE)
        assert names == list(yaml.safe_load(path.read_bytes())), f"{path}: a name appears twice"
    there = {f"{path.parent.name}/{path.stem}" for path in corpus.FOLDER.glob("*/*.golden")}
    assert there == set(GROUPS)


@pytest.mark.parametrize("document", AS_COMMANDS, ids=lambda one: f"{one.group}/{one.name}")
def test_the_command_says_the_same(
    document: corpus.Document,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = write_tree(tmp_path / "drive", document.files)
    status = main(["config", "validate", str(folder)])
    text = capsys.readouterr().out.replace(str(folder), "DRIVE")
    assert (status, text) == _validated(outcome.read(document.dialect, document.files), monkeypatch, capsys)
