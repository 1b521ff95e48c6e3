"""The shells' completions, made from the parser by tools/completions.py."""

from __future__ import annotations

import importlib.util
import re
import shlex
from argparse import SUPPRESS, ArgumentParser, _SubParsersAction
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

from agent.cli.arguments import make_parser

ROOT = Path(__file__).parents[2]
TOOL, FOLDER = ROOT / "tools/completions.py", ROOT / "completions"
INTERNAL = {"daemon", "run-stage", "run-step", "adopt", "succeed", "withdraw", "ganeti"}


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("completions", TOOL)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _words(parser: ArgumentParser) -> Iterator[str]:
    """All that may be typed: public verbs, options and choices."""
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            for one in action._choices_actions:
                yield one.dest
                yield from _words(action.choices[one.dest])
        elif action.help is not SUPPRESS:
            yield from (option.lstrip("-") for option in action.option_strings)
            yield from map(str, action.choices or ())


def test_fish_is_offered_all_that_the_parser_takes_and_no_internal_verb(tool: ModuleType) -> None:
    texts = [line for line in tool.fish(make_parser()) if line != tool.AFTER]
    lines = [shlex.split(line.replace("\\'", "")) for line in texts]
    assert all(line[:3] == ["complete", "-c", "gandi-agent"] for line in lines)
    offered = set[str]()
    for line in lines:
        for flag, value in pairwise(line):
            if flag in ("-a", "-l", "-s") and not value.startswith("("):
                offered |= set(value.split())
    assert offered == set(_words(make_parser()))
    assert not offered & INTERNAL


def test_fish_offers_an_argument_after_its_verb_only(tool: ModuleType) -> None:
    lines = list(tool.fish(make_parser()))
    (form,) = [line for line in lines if " -l format " in line]
    start = "complete -c gandi-agent -n '__gandi_agent_after status' -l format -x -a 'short text json'"
    assert form.startswith(start)
    for verb in ("plan", "apply"):
        (source,) = [line for line in lines if f"_after {verb}' -l source " in line]
        assert " -r -F " in source, "names of files"
    (verb,) = [line for line in lines if " -a detach " in line]
    assert " -n '__fish_use_subcommand' " in verb
    (show,) = [line for line in lines if " -a show " in line]
    assert "_after config; and not __fish_seen_subcommand_from show validate schema'" in show


def test_what_is_kept_for_fish_is_what_the_parser_makes(tool: ModuleType) -> None:
    made = "".join(f"{line}\n" for line in tool.fish(make_parser()))
    assert (FOLDER / "gandi-agent.fish").read_text() == made, "run tools/completions.py"


@pytest.mark.parametrize("name", ["gandi-agent", "_gandi-agent"])
def test_what_is_kept_for_bash_and_zsh_has_each_word_of_the_parser(name: str) -> None:
    text = (FOLDER / name).read_text()
    for word in set(_words(make_parser())):
        assert re.search(rf"(?<!\w){re.escape(word)}(?![\w-])", text), f"{word}: run tools/completions.py"
    for word in INTERNAL:
        assert not re.search(rf"['\"]{word}[:'\"]", text), word


def _options(parser: ArgumentParser, prefix: str) -> Iterator[tuple[str, list[str]]]:
    """The options after each verb, by shtab's name for it."""
    shown = [action for action in parser._actions if action.help is not SUPPRESS]
    yield prefix, [option for action in shown for option in action.option_strings]
    for action in shown:
        if isinstance(action, _SubParsersAction):
            for one in action._choices_actions:
                yield from _options(action.choices[one.dest], f"{prefix}_{one.dest.replace('-', '_')}")


def test_what_is_kept_for_bash_has_the_options_of_each_verb() -> None:
    text = (FOLDER / "gandi-agent").read_text()
    found = re.findall(r"^(\w+)_option_strings=\((.*)\)$", text, re.MULTILINE)
    kept = {name: shlex.split(options) for name, options in found}
    assert kept == dict(_options(make_parser(), "_shtab_gandi_agent")), "run tools/completions.py"


def test_each_file_is_installed_where_its_shell_looks() -> None:
    names = {path.name for path in FOLDER.iterdir()}
    assert names == {"gandi-agent", "_gandi-agent", "gandi-agent.fish"}
    listed = (ROOT / "debian/install").read_text()
    assert all(f"\ncompletions/{name} usr/share/" in listed for name in names)
    assert (FOLDER / "_gandi-agent").read_text().startswith("#compdef gandi-agent\n")
