"""``make soak``: every long test is part of it, and its page keeps what was found."""

from __future__ import annotations

import ast
import re
import time
from pathlib import Path

import pytest

from tests.soak import page
from tests.soak.campaigns import CAMPAIGNS, Campaign
from tests.soak.play import PROJECT, Count, Former, Result, play
from tests.vm.campaign import SOAK, UNTIL, Rounds

FOLDERS = ("tests/fuzz", "tests/system", "tests/vm")
NAMED = {word for campaign in CAMPAIGNS.values() for word in campaign.tests if word.startswith(FOLDERS)}
FOUND = ("2026-01-02", "7", "37 of 100", "1", "0", "20")


def _long_tests() -> set[str]:
    """What make test leaves out or shortens."""
    found = set()
    for path in sorted(path for folder in FOLDERS for path in (PROJECT / folder).glob("test_*.py")):
        name, text = str(path.relative_to(PROJECT)), path.read_text()
        if "pytestmark = pytest.mark.soak" in text:
            found.add(name)
            continue
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test_"):
                continue
            marked = any("mark.soak" in ast.unparse(decorator) for decorator in node.decorator_list)
            if marked or "rounds" in {argument.arg for argument in node.args.args}:
                found.add(f"{name}::{node.name}")
    return found


def test_every_long_test_is_part_of_it() -> None:
    tests = _long_tests()
    assert len(tests) > 8
    whole = {test for test in tests if test in NAMED or test.partition("::")[0] in NAMED}
    assert whole == tests
    named = {test.partition("::")[0] for test in tests} | tests
    assert named >= NAMED, "what is named and is not long, or is not there"


def test_a_page_of_nothing_names_what_was_not_run() -> None:
    made = page.renewed("", "kills", FOUND)
    table, _, missing = made.partition("Not run yet:")
    row = f"| `kills` | {CAMPAIGNS['kills'].what} | 2026-01-02 | 7 | 37 of 100 | 1 | 0 | 20 |"
    assert [line for line in table.splitlines() if line.startswith("| `")] == [row]
    assert set(re.findall(r"^- `([\w-]+)`", missing, re.MULTILINE)) == set(CAMPAIGNS) - {"kills"}


def test_one_row_is_renewed_and_the_others_stay() -> None:
    one = page.renewed("", "kills", FOUND)
    two = page.renewed(one, "rig", ("2026-02-03", "8", "-", "3 of 12", "1: `a::b[x/y]`", "4"))
    three = page.renewed(two, "kills", ("2026-03-04", "9", "100", "1", "0", "51"))
    rows = [line for line in three.splitlines() if line.startswith("| `")]
    assert rows == [
        f"| `kills` | {CAMPAIGNS['kills'].what} | 2026-03-04 | 9 | 100 | 1 | 0 | 51 |",
        f"| `rig` | {CAMPAIGNS['rig'].what} | 2026-02-03 | 8 | - | 3 of 12 | 1: `a::b[x/y]` | 4 |",
    ]
    assert "- `kills`" not in three
    assert page.renewed(three, "kills", ("2026-03-04", "9", "100", "1", "0", "51")) == three


def test_a_full_page_misses_nothing_and_a_part_that_is_no_more_goes() -> None:
    made = "| `former` | what | 2025-01-01 | 1 | 2 | 3 | 0 | 4 |\n"
    for name in CAMPAIGNS:
        made = page.renewed(made, name, FOUND)
    assert "former" not in made
    assert "Not run yet" not in made


def test_the_table_of_a_part_is_kept_until_that_part_is_run_again() -> None:
    one = page.renewed("", "fuzz", FOUND, ("archive | 100 | 7 | 3 | 60 | 0", "all | 100 | - | - | 60 | 0"))
    assert "\n## fuzz\n\n| target | runs |" in one
    two = page.renewed(one, "rig", FOUND)
    assert two.partition("\n## ")[2] == one.partition("\n## ")[2]
    three = page.renewed(two, "fuzz", FOUND, ("gzip | 5 | 7 | 3 | 60 | 0",))
    assert "archive" not in three.partition("\n## ")[2]
    assert three.endswith("|---|---|---|---|---|---|\n| gzip | 5 | 7 | 3 | 60 | 0 |\n")


def test_a_row_says_how_far_it_came() -> None:
    result = Result(Count(1, 1), Count(37, 100), ("a::b[x|y]",), 8.4)
    assert page.cells(result, "2026-01-02", 7) == (
        *("2026-01-02", "7", "37 of 100", "1"),
        *("1: `a::b[x/y]`", "8"),
    )
    result = Result(Count(3, 12), None, (), 8.6)
    assert page.cells(result, "2026-01-02", 7)[2:] == ("-", "3 of 12", "0", "9")


def test_a_run_that_ended_early_is_continued(tmp_path: Path) -> None:
    """The page has the sum, and what fell or is whole is not continued."""
    made = page.renewed(
        "", "fuzz", ("2026-01-02", "7", "37 of 480", "1", "0", "20"), ("gzip | 5 | 7 | 3 | 60 | 0",)
    )
    former = page.former(made, "fuzz")
    assert former == Former("2026-01-02", "7", 37, 20, ("gzip | 5 | 7 | 3 | 60 | 0",))
    row = page.cells(Result(Count(1, 1), Count(100, 480), (), 8.4), "2026-01-02", 9, former)
    assert row == ("2026-01-02", "7, 9", "100 of 480", "1", "0", "28")
    again = page.former(page.renewed(made, "fuzz", row), "fuzz")
    assert again is not None
    row = page.cells(Result(Count(1, 1), Count(480, 480), (), 8.4), "2026-01-03", 11, again)
    assert row == ("2026-01-02, 2026-01-03", "7, 9, 11", "480", "1", "0", "36")
    for other in (
        row,
        ("2026-01-02", "7", "-", "1", "0", "20"),
        ("2026-01-02", "7", "3 of 9", "1", "1: `a`", "2"),
    ):
        assert page.former(page.renewed(made, "fuzz", other), "fuzz") is None
    assert page.former(page.renewed("", "week", FOUND), "week") is None
    units = page.former(page.renewed("", "units", ("2026-01-02", "7", "5 of 20", "32", "0", "22")), "units")
    assert units == Former("2026-01-02", "7", 5, 22)
    assert (
        page.former(page.renewed("", "cuts", ("2026-01-02", "7", "5 of 210", "3", "0", "2")), "cuts") is None
    )
    assert page.former(made, "kills") is None


def test_a_continued_run_plays_what_is_left(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("from tests.vm.campaign import rounds\n")
    text = (
        "from tests.vm.campaign import dice, former_rows\n"
        "def test_one(rounds):\n"
        "    assert list(rounds(2, 7)) == [4, 5, 6]\n"
        "    assert former_rows() == ['a | 1', 'b | 2']\n"
        "    assert dice('x').random() == __import__('random').Random('x 5 from 4').random()\n"
    )
    former = Former("2026-01-02", "3", 4, 20, ("a | 1", "b | 2"))
    result = play(_campaign(tmp_path, text), 5, None, tmp_path, former)
    assert (result.rounds, result.fallen) == (Count(7, 7), ())
    text = "import os\ndef test_it(): assert os.environ['GANDI_SEED'] in '9 10'\n"
    result = play(_campaign(tmp_path, text, runs=6), 5, None, tmp_path, former)
    assert (result.rounds, result.fallen) == (Count(6, 6), ())


def _campaign(folder: Path, text: str, runs: int = 0) -> Campaign:
    file = folder / "test_it.py"
    file.write_text(text)
    return Campaign(
        "", (f"--rootdir={folder}", f"--confcutdir={folder}", "-c", "/dev/null", str(file)), runs
    )


def test_what_pytest_tells_is_counted(tmp_path: Path) -> None:
    text = (
        "import os\n"
        "def test_rounds(record_property):\n"
        "    record_property('rounds', '3 of 10')\n"
        "    record_property('row', 'a | 1')\n"
        "def test_falls(): assert not os.environ['GANDI_SOAK']\n"
    )
    result = play(_campaign(tmp_path, text), 5, None, tmp_path)
    assert result.tests == Count(2, 2)
    assert result.rounds == Count(3, 10)
    assert result.rows == ("a | 1",)
    assert [name.rpartition("::")[2] for name in result.fallen] == ["test_falls"]
    assert "test_it.py::test_falls FAILED" in (tmp_path / "log").read_text()


def test_a_pytest_that_plays_nothing_has_fallen(tmp_path: Path) -> None:
    result = play(_campaign(tmp_path, ""), 5, None, tmp_path)
    assert result.tests == Count(0, 0)
    assert result.fallen == ("pytest ended with 5",)


def test_what_has_no_rounds_is_run_anew_with_other_seeds_until_one_falls(tmp_path: Path) -> None:
    text = (
        "import os, pathlib\n"
        "def test_it():\n"
        "    seed = os.environ['GANDI_SEED']\n"
        "    print(seed, file=(pathlib.Path(__file__).parent / 'seeds').open('a'))\n"
        "    assert seed != '6'\n"
    )
    result = play(_campaign(tmp_path, text, runs=9), 5, None, tmp_path)
    assert (tmp_path / "seeds").read_text().split() == ["5", "6"]
    assert result.rounds == Count(2, 9)
    assert [name.rpartition("::")[2] for name in result.fallen] == ["test_it (seed 6)"]
    result = play(_campaign(tmp_path, text, runs=9), 7, 0.0001, tmp_path)
    assert (tmp_path / "seeds").read_text().split() == ["5", "6", "7"]
    assert (result.rounds, result.fallen) == (Count(1, 9), ())


def test_a_bound_ends_it_after_the_round_and_the_test_in_progress(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "from tests.vm.campaign import collected, pytest_runtest_teardown, rounds\n"
    )
    text = (
        "def test_one(rounds): assert list(rounds(2, 50)) == [0]\n"
        "def test_two(): assert False, 'not reached'\n"
    )
    result = play(_campaign(tmp_path, text), 5, 0.0001, tmp_path)
    assert (result.tests, result.rounds, result.fallen) == (Count(1, 2), Count(1, 50), ())


def test_rounds_are_all_or_those_for_which_there_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SOAK, raising=False)
    monkeypatch.delenv(UNTIL, raising=False)
    rounds = Rounds()
    assert list(rounds(2, 5)) == [0, 1]
    assert str(rounds) == "2 of 2"
    monkeypatch.setenv(SOAK, "1")
    assert list(Rounds()(2, 5)) == [0, 1, 2, 3, 4]
    monkeypatch.setenv(UNTIL, str(time.monotonic() - 1))
    late = Rounds()
    assert list(late(2, 5)) == [0]
    assert str(late) == "1 of 5"


def test_a_round_that_falls_was_not_done() -> None:
    rounds = Rounds()
    for number in rounds(5, 5):
        if number == 2:
            break
    assert str(rounds) == "2 of 5"
