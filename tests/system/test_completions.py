"""What bash, zsh and fish offer, in the shells themselves: no guest's tree has zsh and fish."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "completions"
#: What is typed after the command, and what the shells offer then.
TYPED = [
    ("st", {"status"}),
    ("status --fo", {"--format"}),
    ("status --format ", {"short", "text", "json"}),
    ("plan m", {"mount"}),
    ("plan config ", set()),
    ("config ", {"show", "validate", "schema"}),
    ("--debug config va", {"validate"}),
    ("dae", set()),
    ("run-", set()),
    ("--de", {"--debug"}),
]
#: Prints what bash offers for the last of these words; its $0 is the file.
ASK_BASH = r"""
. "$0"
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_POINT=${#COMP_LINE}
function=$(complete -p gandi-agent | sed 's/.*-F \([^ ]*\).*/\1/')
"$function" gandi-agent "${@: -1}" "${@: -2:1}"
printf '%s\n' "${COMPREPLY[@]}"
"""
#: Types $2 and a tab in a zsh that has a terminal and the folder $0, and prints what is offered.
ASK_ZSH = r"""
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "fpath=($0 \$fpath); autoload -U compinit; compinit -u -D; comppostfuncs=(exit)"
zpty -w shell "compadd() {
    local -a found
    if [[ \${@[1,(i)(-|--)]} != *-(O|A|D)\ * ]]; then
        builtin compadd -A found \"\$@\"
        print -l -- \$found >>$1
    fi
    builtin compadd \"\$@\"
}"
zpty -w -n shell "$2"$'\t'
while zpty -r shell; do :; done >/dev/null
cat $1
"""


def _offered(argv: list[str | Path], folder: Path) -> set[str]:
    """Return the words that a shell prints; each may be followed by a tab and its description."""
    home = os.environ | {"HOME": str(folder)}
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env=home, timeout=60)
    assert not done.stderr
    return {line.partition("\t")[0] for line in done.stdout.split("\n")} - {"", "-h", "--help"}


@pytest.mark.parametrize(("typed", "offered"), TYPED)
def test_bash_completes(typed: str, offered: set[str], tmp_path: Path) -> None:
    words = ["gandi-agent", *typed.split(" ")]
    assert _offered(["bash", "-c", ASK_BASH, FOLDER / "gandi-agent", *words], tmp_path) == offered


@pytest.mark.parametrize(("typed", "offered"), [*TYPED, ("status --format=", {"short", "text", "json"})])
def test_zsh_completes(typed: str, offered: set[str], tmp_path: Path) -> None:
    out = tmp_path / "offered"
    out.touch()
    found = _offered(["zsh", "-fc", ASK_ZSH, FOLDER, out, f"gandi-agent {typed}"], tmp_path)
    if typed.endswith(" "):  # without any other word, zsh offers the options
        found = {word for word in found if not word.startswith("-")}
    assert found == offered


@pytest.mark.parametrize(("typed", "offered"), TYPED)
def test_fish_completes(typed: str, offered: set[str], tmp_path: Path) -> None:
    ask = f"source {FOLDER}/gandi-agent.fish; complete -C 'gandi-agent {typed}'"
    assert _offered(["fish", "--no-config", "-c", ask], tmp_path) == offered


@pytest.mark.parametrize("typed", ["plan mount ", "rerun script "])
def test_an_argument_is_offered_once(typed: str, tmp_path: Path) -> None:
    test_zsh_completes(typed, set(), tmp_path)
    test_fish_completes(typed, set(), tmp_path)
