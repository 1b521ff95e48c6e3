#!/usr/bin/python3
"""Make ``completions/``, for bash, zsh and fish, from the command's own parser: after each change of that.

bash and zsh are shtab's work (python3-shtab 1.7 of Debian 13; 1.5 of Debian 12 offers only the first of
several choices); it has nothing for fish. What is made is kept: no build of a package needs it then, and
tests/unit/test_completions.py fails where it is not what the parser takes.
"""

from __future__ import annotations

import sys
from argparse import SUPPRESS, Action, ArgumentParser, _SubParsersAction
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from agent.__main__ import make_parser

#: The words that stand for a name of a file, or a folder, in the command's help.
FILES, FOLDERS = frozenset({"FILE", "PATH", "OUT"}), frozenset({"DIR"})


FOLDER = Path(__file__).parents[1] / "completions"


def main() -> int:
    """Write the three files, each under the name by which its shell finds it."""
    import shtab

    for shell, name in (("bash", "gandi-agent"), ("zsh", "_gandi-agent")):
        parser = make_parser()
        for action in _actions(parser):
            if action.metavar in FILES | FOLDERS:
                what = shtab.FILE if action.metavar in FILES else shtab.DIRECTORY
                setattr(action, "complete", what)  # noqa: B010  # shtab's attribute, unknown to argparse
        (FOLDER / name).write_text(shtab.complete(parser, shell))
    (FOLDER / "gandi-agent.fish").write_text("".join(f"{line}\n" for line in fish(make_parser())))
    return 0


def _actions(parser: ArgumentParser) -> Iterator[Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, _SubParsersAction):
            for verb in action.choices.values():
                yield from _actions(verb)


# -- fish -----------------------------------------------------------------------------------------


def fish(parser: ArgumentParser, verbs: tuple[str, ...] = ()) -> Iterator[str]:
    """Return fish's ``complete`` commands for what may follow these verbs."""
    if not verbs:
        yield f"complete -c {parser.prog} -f"
    after = [f"__fish_seen_subcommand_from {verb}" for verb in verbs] or ["__fish_use_subcommand"]
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            listed = {one.dest: one.help for one in action._choices_actions}
            inner = [*after, f"not __fish_seen_subcommand_from {' '.join(listed)}"] if verbs else after
            for name, text in listed.items():
                yield _complete(parser, inner, "-a", name, text)
                yield from fish(action.choices[name], (*verbs, name))
        elif action.help is not SUPPRESS:
            yield from _argument(parser, after, action)


def _argument(parser: ArgumentParser, after: list[str], action: Action) -> Iterator[str]:
    words = list[str]()
    for option in action.option_strings:
        words += ["-l", option[2:]] if option.startswith("--") else ["-s", option[1:]]
    if action.metavar in FILES | FOLDERS:
        words += ["-r", "-F"] if words else ["-F"]
    elif action.choices:
        words += [*(["-x"] if words else []), "-a", " ".join(map(str, action.choices))]
    elif words and action.nargs not in (0, "?"):
        words += ["-x"]
    if words:
        yield _complete(parser, after, *words, action.help)


def _complete(parser: ArgumentParser, after: list[str], *words: str | None) -> str:
    """Return one command; the last of the words is the description, if there is one."""
    *flags, text = words
    described = (*flags, "-d", text) if text else flags
    program = parser.prog.partition(" ")[0]
    return " ".join(["complete", "-c", program, "-n", _quoted("; and ".join(after)), *map(_word, described)])


def _word(word: str | None) -> str:
    text = word or ""
    return text if text.replace("-", "").isalnum() else _quoted(text)


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


if __name__ == "__main__":
    sys.exit(main())
