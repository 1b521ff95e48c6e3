#!/usr/bin/python3
"""Make ``completions/``, for bash, zsh and fish, from the command's own parser: after each change of that.

bash and zsh are shtab's work (python3-shtab 1.7 of Debian 13; 1.5 of Debian 12 offers only the first of
several choices); it has nothing for fish. What is made is kept: no build of a package needs it then, and
tests/unit/test_completions.py fails where it is not what the parser takes.
"""

from __future__ import annotations

import re
import sys
from argparse import SUPPRESS, Action, ArgumentParser, _SubParsersAction
from collections.abc import Iterable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from agent.cli.arguments import make_parser

#: The words that stand for a name of a file, or a folder, in the command's help.
FILES, FOLDERS = frozenset({"FILE", "PATH", "OUT"}), frozenset({"DIR"})


FOLDER = Path(__file__).parents[1] / "completions"


def main() -> int:
    """Write the three files, each under the name by which its shell finds it."""
    import shtab

    (FOLDER / "gandi-agent").write_text(shtab.complete(_with_files(make_parser()), "bash"))
    (FOLDER / "_gandi-agent").write_text(_zsh(shtab.complete(_for_zsh(_with_files(make_parser())), "zsh")))
    (FOLDER / "gandi-agent.fish").write_text("".join(f"{line}\n" for line in fish(make_parser())))
    return 0


def _with_files(parser: ArgumentParser) -> ArgumentParser:
    import shtab

    for action in _actions(parser):
        if action.metavar in FILES | FOLDERS:
            _complete_by(action, shtab.FILE if action.metavar in FILES else shtab.DIRECTORY)
    return parser


def _complete_by(action: Action, what: dict[str, str]) -> None:
    setattr(action, "complete", what)  # noqa: B010  # shtab's attribute, unknown to argparse


def _actions(parser: ArgumentParser) -> Iterator[Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, _SubParsersAction):
            for verb in action.choices.values():
                yield from _actions(verb)


# -- zsh ------------------------------------------------------------------------------------------


def _for_zsh(parser: ArgumentParser) -> ArgumentParser:
    """Change the parser so that shtab writes what zsh's _arguments needs."""
    for action in _actions(parser):
        if isinstance(action, _SubParsersAction):
            for listed in action._choices_actions:
                action.choices[listed.dest].description = listed.help
        elif not action.option_strings and action.choices:
            # shtab writes an argument with choices twice: zsh would offer a second one.
            _complete_by(action, {"zsh": f"({' '.join(map(str, action.choices))})"})
            action.choices = None
        elif action.option_strings and action.nargs != 0:
            # Also accepted as --format=short; ":" before the name: the value may be omitted.
            action.option_strings = [
                f"{name}=" if name.startswith("--") else name for name in action.option_strings
            ]
            action.dest = f"{':' if action.nargs == '?' else ''}{action.metavar or action.dest}"
    return parser


def _zsh(text: str) -> str:
    """Return shtab's output without escapes that zsh would show, and with any number of files."""
    return re.sub(r"\\([;/='])", r"\1", text).replace('"(*)::', '"*:')


# -- fish -----------------------------------------------------------------------------------------


#: True if the words before the cursor, without options, begin with the command and these verbs.
AFTER = """\
function __gandi_agent_after
    set -l words (commandline -opc | string match -v -- '-*')
    set -l last (math (count $argv) + 1)
    test "$words[2..$last]" = "$argv"
end"""


def fish(parser: ArgumentParser, verbs: tuple[str, ...] = ()) -> Iterator[str]:
    """Return fish's commands for what may follow these verbs."""
    if not verbs:
        yield AFTER
        yield f"complete -c {parser.prog} -f"
    after = f"__gandi_agent_after {' '.join(verbs)}" if verbs else "__fish_use_subcommand"
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            listed = {one.dest: one.help for one in action._choices_actions}
            for name, text in listed.items():
                yield _complete(parser, _first(after, listed) if verbs else after, "-a", name, text)
                yield from fish(action.choices[name], (*verbs, name))
        elif action.help is not SUPPRESS:
            yield from _argument(parser, after, action)


def _first(after: str, words: Iterable[str]) -> str:
    """Return the condition that none of these words has been typed yet."""
    return f"{after}; and not __fish_seen_subcommand_from {' '.join(words)}"


def _argument(parser: ArgumentParser, after: str, action: Action) -> Iterator[str]:
    words = list[str]()
    for option in action.option_strings:
        words += ["-l", option[2:]] if option.startswith("--") else ["-s", option[1:]]
    if action.metavar in FOLDERS:
        words += ["-x", "-a", "(__fish_complete_directories)"]
    elif action.metavar in FILES:
        words += ["-r", "-F"] if words else ["-F"]
    elif action.choices:
        choices = list(map(str, action.choices))
        after = after if words else _first(after, choices)
        words += [*(["-x"] if words else []), "-a", " ".join(choices)]
    elif words and action.nargs not in (0, "?"):
        words += ["-x"]
    if words:
        yield _complete(parser, after, *words, action.help)


def _complete(parser: ArgumentParser, after: str, *words: str | None) -> str:
    """Return one command; the last of the words is the description, if there is one."""
    *flags, text = words
    described = (*flags, "-d", text) if text else flags
    program = parser.prog.partition(" ")[0]
    return " ".join(["complete", "-c", program, "-n", _quoted(after), *map(_word, described)])


def _word(word: str | None) -> str:
    text = word or ""
    return text if text.replace("-", "").isalnum() else _quoted(text)


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


if __name__ == "__main__":
    sys.exit(main())
