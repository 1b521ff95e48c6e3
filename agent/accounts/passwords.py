"""An account's password: a crypt(3) hash, a lock, or a plain one, known again and never stored.

Of each account's last plain password a salted scrypt hash (RFC 7914) lies beside the state: a file that is
stolen costs as much to guess from as /etc/shadow does.
"""

from __future__ import annotations

import json
import os

from agent.accounts import passwd
from agent.lib.canonical_json import canonical
from agent.lib.errors import ConfigError, HostError
from agent.report import Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config.model import User
    from agent.host.host import Host
    from agent.report import Item
    from agent.state.store import State

_FILE = "passwords.json"
#: CPU and memory: 4 MiB and some 10 ms, a few hundred in an emulated guest.
_COST, _BLOCK, _PARALLEL = 1 << 12, 8, 1
_SALT = 16


def settle(state: State, user: User, plain: str | None) -> Iterator[Item]:
    """Settle the password of an account. A plain one counts before a hash; where it is to be locked as well,
    it is set and then locked.
    """
    host, name = state.host, user.name
    live = passwd.password(host, name)
    if plain:
        yield _plain(state, user, plain, live)
    elif user.password is not None:
        hashed = f"!{user.password}" if user.locked else user.password
        yield state.settle(
            f"password:{name}",
            delivered=hashed,
            wanted=hashed,
            live=live,
            apply=lambda: _chpasswd(host, name, hashed, "--encrypted"),
        )
    elif user.locked:
        yield state.settle(
            f"lock:{name}",
            delivered="locked",
            wanted="locked",
            live="locked" if (live or "").startswith(("!", "*")) else "open",
            apply=lambda: _lock(host, name),
        )


def _plain(state: State, user: User, plain: str, live: str | None) -> Item:
    """How it is hashed is the system's affair: what is compared is whether it was delivered before, and
    whether the hash is still the one that the system made of it then.
    """
    if "\n" in plain:
        raise ConfigError("the password has more than one line", hint="deliver another one")
    name, item = user.name, f"password:{user.name}"
    known = recognised(state, name, plain)
    salted = known or hashed(plain)

    def apply() -> None:
        _chpasswd(state.host, name, plain)
        if user.locked:
            state.host.run(("usermod", "--lock", "--", name))
        remember(state, name, salted)

    settled = state.settle(
        item,
        delivered=salted,
        wanted=live if known and live and state.is_ours(item, live) else salted,
        live=live,
        apply=apply,
        left=lambda: passwd.password(state.host, name),
    )
    if settled.outcome is Outcome.KEPT and not known:
        # Seen for the first time, on a machine that was set up before us: known when it comes again.
        remember(state, name, salted)
    return settled


def _chpasswd(host: Host, name: str, password: str, *options: str) -> None:
    host.run(("chpasswd", *options), stdin=f"{name}:{password}\n".encode("utf-8", "surrogateescape"))


def _lock(host: Host, name: str) -> None:
    if passwd.password(host, name):
        host.run(("usermod", "--lock", "--", name))
    else:
        # Nothing to put the lock before, and a bare one keeps an sshd without PAM from accepting keys.
        _chpasswd(host, name, "*", "--encrypted")


def recognised(state: State, account: str, plain: str) -> str | None:
    """The stored hash when ``plain`` is the password that was remembered last for this account, else
    None.
    """
    stored = _stored(state).get(account, "")
    return stored if stored and hashed(plain, stored.partition("$")[0]) == stored else None


def remember(state: State, account: str, salted: str) -> None:
    """Keep what ``hashed`` gave, for ``recognised``."""
    state.host.write(state.file(_FILE), canonical(_stored(state) | {account: salted}), mode=0o600)


def hashed(plain: str, salt: str = "") -> str:
    """The password's hash with its salt, by default a new one: ``salt$hash`` in hexadecimal."""
    from hashlib import scrypt

    salt = salt or os.urandom(_SALT).hex()
    data = scrypt(
        plain.encode("utf-8", "surrogateescape"), salt=salt.encode(), n=_COST, r=_BLOCK, p=_PARALLEL
    )
    return f"{salt}${data.hex()}"


def _stored(state: State) -> dict[str, str]:
    name = f"{state.folder()}/{_FILE}"
    try:
        found = json.loads(state.host.read(name) or "{}")
    except ValueError as error:
        raise HostError(f"{name}: damaged", hint="remove it to start afresh") from error
    return found if isinstance(found, dict) else {}
