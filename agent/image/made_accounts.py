"""Remove the accounts and the SSH keys that the agent made, from a machine that becomes an image.

Which they are is in the records of all instances of this machine. An account that was there before the
agent is not removed, and root never is.
"""

from __future__ import annotations

import os
import stat

from agent.accounts import authorized_keys, passwd
from agent.block import mounts
from agent.host import logins
from agent.host.host import Host
from agent.host.sysfs import listed
from agent.lib.errors import ConfigError, HostError
from agent.report import changed, failed, kept
from agent.state import json_file
from agent.state.store import State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.accounts.passwd import Account
    from agent.report import Item

_INSTANCES = f"{json_file.FOLDER}/instances"
#: As agent/steps/users.py names the items, and the files of sudo rules.
_USER, _KEY, _SUDO, _SUDOERS = "user:", "key:", "sudo:", "/etc/sudoers.d/90-gandi-agent-"
_HINT = "end it, and run the command from a login of root or of another account; nothing was removed"
#: Seconds for userdel, which removes the home.
_TIMEOUT = 600.0
#: userdel(8): the account is removed, its home or mail spool is not.
_HOME_LEFT = 12
#: Characters of a key's fingerprint that name it ("SHA256:" and 8).
_SHOWN = 15


def accounts(host: Host) -> list[Account]:
    """Return the accounts that the agent made and that exist, by name."""
    names = {name for state in _states(host) for name in _made(state, _USER)}
    found = (passwd.account(host, name) for name in sorted(names))
    return [one for one in found if one is not None and one.uid]


def refuse_if_used(host: Host, them: list[Account]) -> None:
    """Raise ConfigError if one of the accounts is logged in, or runs this command: nothing is removed then.
    An image has no processes.
    """
    if host.offline:
        return
    mine, names = logins.login_uid(), {one.uid: one.name for one in them}
    # In a chroot the login is one of the machine around it, with other accounts.
    if mine in names and host.exists("/run/systemd/system"):
        raise ConfigError(f"clean: this command was run from a login of {names[mine]}", hint=_HINT)
    for uid, pid, program in logins.running_as(names):
        raise ConfigError(f"clean: {names[uid]} is in use: process {pid} ({program})", hint=_HINT)


def remove_accounts(host: Host, them: list[Account]) -> Iterator[Item]:
    """Remove each account with its home, its group and the sudo rules that the agent wrote."""
    for account in them:
        home, why = account.home, _why_left(host, account)
        more = () if why else ("--remove",)
        try:
            done = host.run(("userdel", *more, "--", account.name), timeout=_TIMEOUT, check=False)
            yield from _sudo_rules(host, account.name)
        except HostError as error:
            # userdel removes the home last: another run would not find the account any more.
            is_gone = passwd.account(host, account.name) is None
            yield failed(account.name, error.message, f"remove {home} by hand" if is_gone else error.hint)
            continue
        if done.returncode == _HOME_LEFT:
            why = "userdel did not remove all of it"
        elif done.returncode:
            yield failed(
                account.name,
                f"userdel: exit status {done.returncode}: {done.stderr[-200:]}",
                "correct it, and run the command again",
            )
            continue
        yield changed(
            account.name, f"account removed; {home} is left: {why}" if why else f"removed, with {home}"
        )


def remove_keys(host: Host, removed: list[Account]) -> Iterator[Item]:
    """Remove the keys that the agent added to authorized_keys, unless they were changed; of all accounts but
    those that are ``removed``.
    """
    gone = {one.name for one in removed}
    for state in _states(host):
        for named in _made(state, _KEY):
            name, _, fingerprint = named.partition(":")
            account = passwd.account(host, name)
            if account is None or name in gone:
                continue
            shown = f"key of {name}: {fingerprint[:_SHOWN]}"
            try:
                lines = authorized_keys.lines(host, account)
                ours = [line for line in lines if state.is_as_applied(f"{_KEY}{named}", line)]
                for line in ours:
                    authorized_keys.remove(host, account, line)
            except HostError as error:
                yield failed(shown, error.message, error.hint)
                continue
            if ours:
                yield changed(shown, "removed")


def _states(host: Host) -> list[State]:
    return [State(host, f"{_INSTANCES}/{name}") for name in listed(host, _INSTANCES)]


def _made(state: State, kind: str) -> list[str]:
    """Return the recorded items of a kind that the agent applied, without those that it found so."""
    compared = (state.compared(name, "") for name in state.recorded_items(kind))
    return [one.name.removeprefix(kind) for one in compared if one.is_recorded and not one.is_found]


def _why_left(host: Host, account: Account) -> str:
    """Return why the home must not be removed, "" if it may be: it is the account's alone."""
    home = account.home.rstrip("/")
    if home.count("/") < 2 or ".." in home.split("/"):
        return "it is no folder of one account"
    parent, _, last = home.rpartition("/")
    path = os.path.join(host.path(parent), last)
    try:
        info = os.lstat(path)
    except OSError:
        return ""
    if not stat.S_ISDIR(info.st_mode):
        return "it is not a folder"
    if info.st_uid != account.uid:
        return "it belongs to another user"
    here = os.path.realpath(path)
    if any(f"{mount.mountpoint}/".startswith(f"{here}/") for mount in mounts.mounts(Host())):
        return "a filesystem is mounted there"
    others = (one for one in passwd.accounts(host) if one.name != account.name)
    if any(f"{one.home}/".startswith(f"{home}/") for one in others):
        return "another account has its home there"
    return ""


def _sudo_rules(host: Host, name: str) -> Iterator[Item]:
    path = _SUDOERS + name.replace(".", "%2E")
    text = host.read(path)
    if text is None:
        return
    if any(state.is_as_applied(f"{_SUDO}{name}", text) for state in _states(host)):
        host.remove(path)
        yield changed(path, "removed")
    else:
        yield kept(path)
