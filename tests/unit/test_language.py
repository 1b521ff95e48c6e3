"""Words that code and documentation do not use: each stands for a process or a user that a noun would name.

Searched are docstrings, comments and messages of the package, docstrings of the tests, and whatever text is
installed or read: units, rules, maintainer scripts, man pages, pages.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
#: Each word, in lower case, and what to write in its place.
WORDS = {
    "told": "reported, passed, configured, distinguished: say by which means",
    "nobody": "no process, no user, nothing",
    "somebody": "a user, a process, another program",
    "anybody": "any user, any process",
    "everybody": "every user, all users",
    "whoever": "the user who, the process that",
    "whose": "with a, of which; or two sentences",
    "anew": "again",
    "meanwhile": "during this, in the background, since then",
    "he": "they",
    "him": "them",
    "his": "their",
    "himself": "themselves",
    "of ours": "the agent's",
    "no news": "ignored, unchanged",
    "without a word": "silently, without a message, without a setting",
    "sit on": "use",
    "sits on": "uses",
    "sat on": "used",
    "speak against": "prevent",
    "speaks against": "prevents",
    "hear": "receive",
    "hears": "receives",
    "heard": "received",
    "see to": "configure, handle",
    "sees to": "configures, handles",
    "seen to": "configured, handled",
}
#: The account of that name is no pronoun: "runs as nobody", "the user nobody". Nor is a name in backquotes.
_WORD = "|".join(WORDS).replace("nobody", "(?<!as )(?<!user )nobody")
#: Between two words may be the end of a line, and in a comment the sign of the next one.
_GAP = r"\s+(?:#:?\s*)?"
FORBIDDEN = re.compile(
    rf"(?<!`)\b(?:{re.sub('(?<=[a-z]) (?=[a-z])', lambda _: _GAP, _WORD)})\b", re.IGNORECASE
)
#: Python, of which docstrings, comments and strings are searched; of tests the docstrings only.
CODE = ("agent/**/*.py", "bin/gandi-agent", "tests/**/*.py")
#: Text, of which every line is searched.
TEXT = (
    *("*.md", "docs/**/*.md", "docs/man/*.scd", "tests/**/*.md", "Makefile", "tools/*"),
    *("agent/image-configure", "agent/image-exec"),
    *("autofs/*", "bin/*", "etc-default/*", "etc-gandi/*", "ganeti/**/*", "hooks/*", "udev/*", "units/*"),
    *("debian/control", "debian/post*", "debian/pre*", "debian/rules", "rpm/*.spec"),
)

Found = tuple[str, int, str]


def _files() -> list[Path]:
    found = {path for pattern in CODE + TEXT for path in PROJECT.glob(pattern)}
    return sorted(path for path in found if path.is_file() and path != Path(__file__))


FILES = _files()


def in_text(name: str, text: str, first: int = 1) -> Iterator[Found]:
    """Yield file, line and word of each finding; ``first`` is the number of the first line of ``text``."""
    for match in FORBIDDEN.finditer(text):
        word = " ".join(re.findall("[a-z]+", match[0].lower()))
        yield name, first + text.count("\n", 0, match.start()), word


def in_code(name: str, text: str, docstrings_only: bool = False) -> Iterator[Found]:
    """Yield the findings in comments and strings. A string without a blank is an identifier, no message."""
    if not FORBIDDEN.search(text):
        return
    begins = True
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        kind = tokenize.tok_name[token.type]
        if kind in ("STRING", "FSTRING_MIDDLE", "COMMENT"):
            is_prose = kind == "COMMENT" or " " in token.string
            if is_prose and (not docstrings_only or (kind == "STRING" and begins)):
                yield from in_text(name, token.string, token.start[0])
        if kind not in ("COMMENT", "NL", "ENCODING"):
            begins = kind in ("NEWLINE", "INDENT", "DEDENT")


def _found(paths: Iterable[Path]) -> Iterator[Found]:
    for path in paths:
        name, text = str(path.relative_to(PROJECT)), path.read_text()
        is_code = path.suffix == ".py" or name == "bin/gandi-agent"
        yield from in_code(name, text, name.startswith("tests/")) if is_code else in_text(name, text)


def test_no_forbidden_word_is_used() -> None:
    found = _found(FILES)
    assert not [f'{name}:{line}: "{word}": write {WORDS[word]}' for name, line, word in found]


@pytest.mark.parametrize("word", WORDS)
def test_each_word_is_found_where_it_is_prose(word: str) -> None:
    code = f'"""Doc\n\nand {word}."""\nsaid = f"a {word} {{x}} b"  # {word.upper()}\n'
    assert [found[1:] for found in in_code("x", code)] == [(3, word), (4, word), (4, word)]
    assert [found[1:] for found in in_code("x", code, docstrings_only=True)] == [(3, word)]
    assert list(in_text("x", f"a\n{word}.\n")) == [("x", 2, word)]
    assert list(in_text("x", "# " + word.replace(" ", "\n# "))) == [("x", 1, word)]


@pytest.mark.parametrize(
    "code",
    [
        "told = x.whose\n",
        "def nobody() -> None:\n    return told\n",
        'user = "nobody"\n',
        "# The reader runs as nobody.\n",
        "# ``meanwhile`` is called once.\n",
        "def test_who_asks_is_told() -> None: ...\n",
        'x = "the others: there is"\n',
    ],
)
def test_an_identifier_and_a_part_of_a_word_are_not_found(code: str) -> None:
    assert not list(in_code("x", code))
