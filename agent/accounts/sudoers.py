"""The sudo rules of an account: a file in /etc/sudoers.d, which visudo checks before it is written."""

from __future__ import annotations

import re
from functools import partial

from agent.lib.errors import ConfigError, NeedsProgram
from agent.report import skipped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config.model import User
    from agent.host.host import Host
    from agent.report import Item
    from agent.state.store import State

#: sudo ignores files with a dot in their names in this folder.
_SUDOERS = "/etc/sudoers.d/90-gandi-agent-"
#: The rules of which visudo need not be asked (sudoers(5)): for all hosts; for all users, or one by name;
#: with tags; for all commands, or some by plain paths, with plain arguments.
_NAME = r"(?:ALL|[a-z_][a-z0-9_-]*)"
_TAG = r"(?:NOPASSWD|PASSWD|NOEXEC|EXEC|SETENV|NOSETENV)"
_COMMAND = r"(?:ALL|(?:/[A-Za-z0-9_.-]+)+(?: [A-Za-z0-9_./@-]+)*)"
_PLAIN = rf"ALL ?= ?(?:\({_NAME}(?: ?: ?{_NAME})?\) ?)?(?:{_TAG} ?: ?)*{_COMMAND}(?: ?, ?{_COMMAND})*"


def reconcile(state: State, user: User) -> Iterator[Item]:
    """Reconcile the rules of an account, as one file."""
    host, item, path = state.host, f"sudo:{user.name}", _file(user.name)
    if not host.which("visudo"):
        yield skipped(item, "sudo is not installed")
        return
    # A word in capitals is an alias, unless it is quoted.
    name = f'"{user.name}"' if user.name.isupper() else user.name
    text = "".join(f"{name} {rule}\n" for rule in user.sudo)

    def write() -> None:
        _check(host, user.sudo, text)
        host.write(path, text, mode=0o440)

    live = host.read(path)
    yield state.reconcile(item, wanted=text, live=live, apply=write, exclusive=True)


def withdraw(state: State, item: str) -> Iterator[Item]:
    """Remove the rules that are no longer delivered."""
    path = _file(item.partition(":")[2])
    yield state.withdraw(item, live=state.host.read(path), undo=partial(state.host.remove, path))


def _check(host: Host, rules: tuple[str, ...], text: str) -> None:
    """Raise ConfigError for a wrong rule: one line would make sudo refuse every user. Raise NeedsProgram for
    one that only visudo can judge.
    """
    if not host.runs_programs:
        if all(re.fullmatch(_PLAIN, rule) for rule in rules):
            return
        raise NeedsProgram("visudo")
    if host.run(("visudo", "-c", "-f", "-"), stdin=text.encode(), check=False, changes=False).returncode:
        raise ConfigError("visudo refuses the rules", hint="write them as in sudoers(5)")


def _file(name: str) -> str:
    return _SUDOERS + name.replace(".", "%2E")
