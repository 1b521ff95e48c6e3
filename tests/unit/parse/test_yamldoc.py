"""YAML by its events: values as they were written, and bounds that a bomb meets early."""

from __future__ import annotations

import time
from typing import Any

import pytest
import yaml

from agent.parse import yamldoc
from agent.parse.problem import Problem

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 10)}]\n" for n in range(12)
)
MERGED = "a: &a {k: 1}\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} {{k{n}: [{', '.join([f'*{chr(97 + n)}'] * 10)}], <<: *{chr(97 + n)}}}\n"
    for n in range(12)
)


@pytest.fixture(params=["C", "Python"], autouse=True)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both of the library's loaders: Debian has the one, a build without libyaml only the other."""
    yamldoc.load()
    if request.param == "Python":
        monkeypatch.delattr(yaml, "CBaseLoader")


def read(text: str) -> tuple[Any, list[Problem]]:
    problems: list[Problem] = []
    return yamldoc.read("doc", text, problems), problems


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
    ],
)
def test_values(text: str, value: Any) -> None:
    assert read(text) == (value, [])


def test_an_alias_is_a_copy() -> None:
    value, _ = read("a: &x [1]\nb: *x")
    assert value["a"] is not value["b"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "no YAML: "),
        ("a: b: c", "at line 1, column 5"),
        ("\ta: b", "no YAML"),
        ("a: \x01", "a character"),
        ("a: &x [*x]", "within it"),
        ("a: *y", "without its anchor"),
        ("a: 1\n---\nb: 2", "more than one"),
        ("[a, b]: c", "not text"),
        ("a: !!binary '*'", "base64"),
        (BOMB, "aliases included"),
        (MERGED, "aliases included"),
        ("[" * 100_000, "nest"),
        ("{" * 100_000, "nest"),
        ("- " * 50_000 + "x", "nest"),
        ("- a: b\n" * 18_000, "50000 values"),
        ("a" * (2 << 20), "characters of YAML"),
        ("{" + '"a":[' * 20_000, "nest"),
        ('{"a": [' + "1," * 30_001 + "1]}", "commas"),
    ],
)
def test_what_is_refused(text: str, said: str) -> None:
    began = time.process_time()
    value, (problem,) = read(text)
    assert time.process_time() - began < 2
    assert value is None
    assert problem.path == "doc"
    assert said in problem.message
    assert problem.hint


def test_a_key_twice() -> None:
    value, (problem,) = read("a: 1\na: 2")
    assert value == {"a": "2"}
    assert problem.path == "doc: a"


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yamldoc._Library, "module", None)
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
        began = time.process_time()
        value, problems = read(f"a:\n  {many}")
        assert time.process_time() - began < 2
        assert len(value["a"]) == 12_000 if value else "characters of YAML" in problems[0].message
