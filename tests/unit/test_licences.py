"""Every file has a licence, the same one everywhere that it is named."""

from __future__ import annotations

import os
import re
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
#: What is made or downloaded: .gitignore names the same.
MADE = {".git", ".venv", ".cache", "dist", "build", "__pycache__"} | {
    f".{tool}" for tool in ("mypy_cache", "ruff_cache", "pytest_cache", "hypothesis")
}
#: A line by which a file would say that it has another licence, or another owner.
NOTICE = re.compile(
    rb"^\W*(?:SPDX-License-Identifier:|SPDX-FileCopyrightText:|Copyright +(?:\(c\)|\xc2\xa9|[12]\d{3})|"
    rb"Licensed under the|This program is free software)",
    re.IGNORECASE | re.MULTILINE,
)
#: The licence's text has an example of a notice; the packages' copyright files are the places for it.
WITH_NOTICE = {"LICENSE", "core/debian/copyright", "debian/copyright"}


def _files() -> list[str]:
    paths = []
    for name, folders, files in os.walk(PROJECT):
        # Not entered: what is made there comes and goes while this runs.
        folders[:] = [
            folder for folder in folders if folder not in MADE and not folder.endswith(".egg-info")
        ]
        paths += [path for file in files if not (path := Path(name, file)).is_symlink()]
    return [str(path.relative_to(PROJECT)) for path in paths]


def _paragraphs() -> list[dict[str, str]]:
    """Return the paragraphs of debian/copyright, in the format of DEP-5."""
    text = (PROJECT / "debian/copyright").read_text()
    fields = re.compile(r"^([A-Za-z-]+): *((?:.*(?:\n[ \t].*)*))$", re.MULTILINE)
    return [dict(fields.findall(paragraph)) for paragraph in text.split("\n\n")]


def test_debians_copyright_has_owner_and_licence_of_every_file() -> None:
    head, *paragraphs = _paragraphs()
    assert head["Format"].startswith("https://www.debian.org/doc/packaging-manuals/copyright-format/1.0")
    assert len(_files()) > 800
    for name in _files():
        # The last paragraph that matches is the one that counts.
        of_it = [part for part in paragraphs if any(fnmatchcase(name, p) for p in part["Files"].split())]
        assert of_it, name
        assert of_it[-1]["License"].startswith("Apache-2.0\n"), name
        assert of_it[-1]["Copyright"], name


def test_no_file_says_that_it_has_another() -> None:
    said = [name for name in _files() if NOTICE.search((PROJECT / name).read_bytes())]
    assert set(said) <= WITH_NOTICE


@pytest.mark.parametrize(
    "line", ["# SPDX-License-Identifier: MIT", " * Copyright (C) 2020 X", "copyright 2019"]
)
def test_a_notice_is_found(line: str) -> None:
    assert NOTICE.search(f"#!/bin/sh\n{line}\n".encode())


def test_the_text_is_there_and_the_packages_name_it() -> None:
    text = (PROJECT / "LICENSE").read_text()
    assert re.search(r"^\s+Apache License\s+Version 2\.0, January 2004$", text, re.MULTILINE)
    assert "END OF TERMS AND CONDITIONS" in text
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert project["license"]["text"] == "Apache-2.0"
    assert re.search(
        r"^License: +Apache-2\.0$", (PROJECT / "rpm/gandi-agent.spec").read_text(), re.MULTILINE
    )
