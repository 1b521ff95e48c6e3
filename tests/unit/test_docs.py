"""The pages agree with the tree: links and paths lead to files, and the index names every page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
INDEX = PROJECT / "docs/index.md"
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/*.md", "tests/*.md", "tests/vm/*.md")
    for page in PROJECT.glob(pattern)
)
#: Pages for contributors: each file that they name is one of this tree.
GUIDES = [
    PROJECT / name for name in ("HACKING.md", "CODING_STYLE.md", "docs/glossary.md", "tests/README.md")
]
TOP = ("agent", "bin", "debian", "docs", "etc-default", "tests", "tools", "udev", "units")
#: A path in backquotes, without a place that the reader fills in (NAME) and without what a test is called.
PATH = re.compile(rf"`((?:{'|'.join(TOP)})/[a-z0-9_./-]+)(?:::\w+)?`")
LINK = re.compile(r"\]\(([^)#]+)[^)]*\)")


def _links(page: Path) -> set[Path]:
    """Return the files of this tree that the page links to."""
    found = LINK.findall(page.read_text())
    return {(page.parent / link).resolve() for link in found if "://" not in link}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_a_link_leads_to_a_file(page: Path) -> None:
    assert not [link for link in _links(page) if not link.exists()]


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_a_path_that_a_guide_names_exists(page: Path) -> None:
    named = PATH.findall(page.read_text())
    assert named
    assert not [name for name in named if not (PROJECT / name).exists()]


def test_the_index_names_every_page() -> None:
    pages = {*PAGES, *PROJECT.glob("docs/man/*.scd")} - {INDEX}
    assert len(pages) > 15
    assert not pages - _links(INDEX)


def test_the_glossary_is_short_and_sorted() -> None:
    words = re.findall(r"^\| ([a-z ]+) \|", (PROJECT / "docs/glossary.md").read_text(), re.MULTILINE)
    assert words.pop(0) == "word"
    assert 10 < len(words) <= 25
    assert words == sorted(words)


def test_the_news_begin_with_the_version_of_the_changelog() -> None:
    version = re.findall(r"\((.*?)\)", (PROJECT / "debian/changelog").read_text())[0]
    assert re.findall(r"^## (\S+)", (PROJECT / "NEWS.md").read_text(), re.MULTILINE)[0] == version
