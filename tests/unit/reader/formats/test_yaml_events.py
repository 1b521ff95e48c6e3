"""YAML by its events: values stay as written, and a YAML bomb reaches the limits early."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import yaml

from agent.reader.common.bounds import Typed, Unreadable
from agent.reader.common.problem import Problem
from agent.reader.formats import yaml_events
from tests.unit.effort import within

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 10)}]\n" for n in range(12)
)
MERGED = "a: &a {k: 1}\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} {{k{n}: [{', '.join([f'*{chr(97 + n)}'] * 10)}], <<: *{chr(97 + n)}}}\n"
    for n in range(12)
)


@pytest.fixture(params=["C", "Python"], autouse=True)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the library's loaders: Debian has both, a build without libyaml only the one in Python."""
    yaml_events.load()
    if request.param == "Python":
        monkeypatch.delattr(yaml, "CBaseLoader")


def read(text: str) -> tuple[Any, list[Problem]]:
    problems: list[Problem] = []
    return yaml_events.read("doc", text, problems), problems


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 52:54:00:12:34:56", {"a": "52:54:00:12:34:56"}),
        ("a: 0644", {"a": "0644"}),
        ("a: 2026-01-01", {"a": "2026-01-01"}),
        ("a: yes\nb: 'null'\nc: null\nd: ~\ne:", {"a": "yes", "b": "null", "c": None, "d": None, "e": None}),
        ("1: x\ntrue: y", {"1": "x", "true": "y"}),
        ("- [a, {b: c}]\n- |\n  x\n  y\n", [["a", {"b": "c"}], "x\ny\n"]),
        ("a: !!binary aGVsbG8=", {"a": b"hello"}),
        ("a: !!python/object:os.system x", {"a": "x"}),
        (
            "a: &x {b: c}\nd: *x\ne: {<<: *x, f: g}",
            {"a": {"b": "c"}, "d": {"b": "c"}, "e": {"b": "c", "f": "g"}},
        ),
        ("a: &x {b: c}\ne: {<<: *x, b: own}", {"a": {"b": "c"}, "e": {"b": "own"}}),
        ('{"a": [1, true, null]}', {"a": [1, True, None]}),
        ("{a: 1, b}", {"a": "1", "b": None}),
        ("e: {<<: [{b: first, c: x}, {b: second}]}", {"e": {"b": "first", "c": "x"}}),
        ("", None),
        ("# only this\n", None),
        ("%YAML 1.1\n---\na: b\n...\n", {"a": "b"}),
        ("a: b\n---\n", {"a": "b"}),
        # Tabs that mean the same whatever their width.
        ("a: b\n\t\nc:\n-\td\n", {"a": "b", "c": ["d"]}),
        ("\ta: b\n\t\n\tc:\n\t\t- d: e\n\t\t  f: g\n\t# h\n", {"a": "b", "c": [{"d": "e", "f": "g"}]}),
        ("-\ta: b\n\tc: |\n\t\td\te\n-\t-\tf\n", [{"a": "b", "c": "d\te\n"}, ["f"]]),
    ],
)
def test_values(text: str, value: Any) -> None:
    assert read(text) == (value, [])


def test_an_alias_is_a_copy() -> None:
    value, _ = read("a: &x [1]\nb: *x")
    assert value["a"] is not value["b"]


def test_scalars_that_yaml_types() -> None:
    value, _ = read("[420, -1.5, 0x1F, yes, Off, '420', !!str 420, 1:2, abc]")
    assert [type(one) is Typed for one in value] == [True] * 5 + [False] * 4
    assert value == ["420", "-1.5", "0x1F", "yes", "Off", "420", "420", "1:2", "abc"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "not YAML: "),
        ("a: b: c", "at line 1, column 5"),
        ("a:\n  b: 1\n\tc: 2", "indented by a tab, which could mean several things at line 3"),
        ("a:\n\tb: |\n\t\tall:\n\t\t\techo", "indented by a tab"),
        ("a: 1\n---\nb: 2", "more than one"),
        ("---\n---\nb: 2", "more than one"),
        ("[" * 100_000, "nest"),
        ("{" * 100_000, "nest"),
        ("- " * 50_000 + "x", "nest"),
        ("- a: b\n" * 18_000, "50000 values"),
        ("a" * (3 << 20), "characters of YAML"),
        ("{" + '"a":[' * 20_000, "nest"),
    ],
)
def test_what_is_refused(text: str, said: str) -> None:
    value, (problem,) = within(20, lambda: read(text))
    assert value is None
    assert problem.path == "doc"
    assert any(part in problem.message for part in said.split("|")), problem.message
    assert problem.hint


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: &x [*x]\nb: c", "within it"),
        ("a: *y\nb: c", "without its anchor"),
        ("a: !!binary '*'\nb: c", "base64"),
        ("# \x01\na: x\x01\nb: c", "a character"),
        ("a: |\n  one\n  \udce9\nb: c", "not UTF-8"),
        ("a: ['\x7f']\nb: c", "a character"),
        ('{"a": [' + "1," * 30_001 + '1], "b": "c"}', "30002 items"),
        ('{"a": ' + "[" * 30_000 + "]" * 30_000 + ', "b": "c"}', "deep"),
        ("a: [" + "1," * 6000 + "1]\nb: c", "6001 items"),
    ],
)
def test_what_costs_itself_only(text: str, why: str) -> None:
    value, problems = read(text)
    assert problems == []
    found = value["a"]
    while not isinstance(found, Unreadable):
        (found,) = found
    assert why in found.why
    assert value["b"] == "c"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "aliases included"),
        (MERGED, "aliases included"),
        ("bad: " + "[" * 60 + "]" * 60, "deep"),
        ("bad: " + "[" * 3000 + "]" * 3000, "deep|maximum nesting depth"),
        ("bad:\n" + "- a: b\n" * 18_000, "50000 values"),
        ("bad:\n  inner:\n    [\n    " + "x," * 50_001 + "\n    ]", "50000 values"),
    ],
)
def test_a_key_of_the_root_that_is_too_much_costs_itself_only(text: str, said: str) -> None:
    value, problems = read(f"first: 1\n{text}\n# a comment\nlast: 'two\n  lines'\n")
    assert any(part in problems[0].message for part in said.split("|")), problems[0].message
    assert problems[0].message.endswith(": left out")
    assert (value["first"], value["last"]) == ("1", "two lines")
    assert "bad" not in value


def test_what_does_not_begin_its_line_costs_the_document() -> None:
    """Removing the first line of a list item would add its other lines to the item before."""
    for text in (
        "? " + "[" * 50 + "]" * 50,
        "{a: " + "[" * 50 + "]" * 50 + ", b: c}",
        "- a: " + "[" * 50 + "]" * 50,
    ):
        value, (problem,) = read(text)
        assert value is None
        assert "deep" in problem.message


def test_a_key_that_is_no_text_costs_itself_only() -> None:
    for key in ("[a, b]", "a\x01", "a\udce9"):
        value, (problem,) = read(f"{key}: c\nd: e")
        assert value == {"d": "e"}
        assert (problem.path, problem.message) == ("doc: a key", "a key that is not text: left out")


def test_a_key_twice() -> None:
    value, (problem,) = read("a: 1\na: 2")
    assert value == {"a": "2"}
    assert problem.path == "doc: a"


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_events._Library, "module", None)
    assert read('{"a": 1}') == ({"a": 1}, []), "JSON needs none"
    assert read('#cloud-config\n{"a": 1}') == ({"a": 1}, []), "nor with the line that says what it is"
    value, (problem,) = read("a: 1")
    assert value is None
    assert "python3-yaml" in problem.hint


def test_many_that_are_merged_are_read_in_time() -> None:
    for many in (
        "<<: [" + ", ".join(f"{{k{n}: xxx}}" for n in range(12_000)) + "]",
        "\n  ".join(f"<<: {{k{n}: xxx}}" for n in range(12_000)),
    ):
        value, problems = within(20, partial(read, f"a:\n  {many}"))
        assert "12000 items" in value["a"].why if value else "characters of YAML" in problems[0].message
