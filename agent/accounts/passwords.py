"""Set an account's password: a crypt(3) hash, a lock, or plain text, which is never stored.

To recognise a plain password that is delivered again, a salted scrypt hash (RFC 7914) of each account's last
one is kept beside the state. Guessing from it costs as much as from /etc/shadow.
"""

from __future__ import annotations

import os

from agent.accounts import passwd
from agent.lib.canonical_json import canonical, parsed_object
from agent.lib.errors import AgentError, ConfigError, HostError
from agent.lib.text import WHITE
from agent.report import Outcome, failed, kept, skipped
from agent.systemd import credentials, sealed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.accounts.changes import Changes
    from agent.accounts.file_changes import FileChanges
    from agent.config.model import User
    from agent.host.host import Host
    from agent.report import Item
    from agent.state.store import State

_FILE = "passwords.json"
#: N, r and p of scrypt: 4 MiB of memory and about 10 ms of CPU, a few hundred in an emulated guest.
_COST, _BLOCK, _PARALLEL = 1 << 12, 8, 1
_SALT = 16
#: Most characters of a sealed password, as of a plain one.
_LONGEST = 512


def reconcile(state: State, user: User, plain: str | None) -> Iterator[Item]:
    """Reconcile the password of an account. Plain text takes precedence over a hash. An account that is also
    to be locked gets the password and then the lock.
    """
    host, name = state.host, user.name
    live = passwd.password(host, name)
    if name == "root" and (by := _credential(state, live)):
        yield kept(f"password:{name}", f"systemd has set it, by its credential {by}")
    elif plain:
        yield _plain(state, user, plain, live)
    elif user.sealed:
        item = _sealed(state, user, live)
        yield item
        if user.locked and item.outcome in (Outcome.FAILED, Outcome.SKIPPED):
            yield _locked(state, user, live)
    elif user.password is not None:
        hashed = f"!{user.password}" if user.locked else user.password
        yield state.reconcile(
            f"password:{name}",
            wanted=hashed,
            live=live,
            apply=lambda: _set_hash(host, user, hashed),
            # Recorded as begun: after a power cut the password may be set, and not expired.
            parts="" if _expires(user) else None,
        )
    elif user.locked:
        yield _locked(state, user, live)


def _locked(state: State, user: User, live: str | None) -> Item:
    host, name = state.host, user.name
    # Version 0.1 put the lock before the hash also where another one is delivered.
    field = user.options.lock if user.options else ""
    field = "" if field and state.is_as_applied(f"lock:{name}", "locked") else field
    is_locked = (live or "").startswith(("!", "*"))
    return state.reconcile(
        f"lock:{name}",
        delivered="locked",
        wanted=field or "locked",
        live=live if field else "locked" if is_locked else "open",
        apply=lambda: _lock(host, name, field),
    )


def _sealed(state: State, user: User, live: str | None) -> Item:
    """Reconcile a sealed password. It is opened only to be set: equal sealed text is the same password."""
    name, item = user.name, f"password:{user.name}"
    if state.host.offline:
        return skipped(item, sealed.LEFT)
    delivered = f"sealed {user.sealed}" + " locked" * user.locked
    is_same = state.was_delivered(item, delivered)

    def apply() -> None:
        plain = sealed.opened(state.host, user.sealed, f"the password of {name}")
        if not plain or set(plain) & set("\r\n\0") or len(plain) > _LONGEST:
            hint = f"seal 1 to {_LONGEST} characters, without a line break at the end"
            raise ConfigError("the sealed password is not one line of text", hint=hint)
        _changes(state.host).set_password(name, plain)
        if user.locked:
            _changes(state.host).lock(name)

    try:
        return state.reconcile(
            item,
            delivered=delivered,
            wanted=live if live and is_same and state.is_as_applied(item, live) else delivered,
            live=live,
            apply=apply,
            read_back=lambda: passwd.password(state.host, name),
        )
    except AgentError as error:
        return failed(item, error.message, error.hint)


def _credential(state: State, live: str | None) -> str:
    """Return the system credential of which systemd has made root's present password, "" if there is none.

    systemd-sysusers and systemd-firstboot set it only where root has none yet. What they make of a plain one
    is not known: any password then counts that the agent has not set.
    """
    host = state.host
    if not live or live.startswith(("!", "*")):
        return ""
    if credentials.text(host, credentials.HASHED).strip(WHITE) == live:
        return credentials.HASHED
    is_plain = credentials.text(host, credentials.PLAIN) and not state.is_as_applied("password:root", live)
    return credentials.PLAIN if is_plain else ""


def _plain(state: State, user: User, plain: str, live: str | None) -> Item:
    """Reconcile a plain password. The system hashes it, so compare whether the same password was delivered
    before, and whether the system's hash is still the one that it made then.
    """
    if "\n" in plain:
        raise ConfigError("the password has more than one line", hint="deliver another one")
    name, item = user.name, f"password:{user.name}"
    known = delivered_hash(state, name, plain)
    salted = known or scrypt_hash(plain)

    def apply() -> None:
        _changes(state.host).set_password(name, plain)
        if user.locked:
            _changes(state.host).lock(name)
        _expire(state.host, user)
        record_hash(state, name, salted)

    result = state.reconcile(
        item,
        delivered=salted,
        wanted=live if known and live and state.is_as_applied(item, live) else salted,
        live=live,
        apply=apply,
        read_back=lambda: passwd.password(state.host, name),
        parts="" if _expires(user) else None,
    )
    if result.outcome is Outcome.KEPT and not known:
        # First delivery, on a machine that was set up before the agent: recognise the next one.
        record_hash(state, name, salted)
    return result


def _changes(host: Host) -> Changes | FileChanges:
    from agent.accounts.changes import changes  # late: most boots change no password

    return changes(host)


def _set_hash(host: Host, user: User, hashed: str) -> None:
    _changes(host).set_hash(user.name, hashed)
    _expire(host, user)


def _expires(user: User) -> bool:
    return bool(user.options and user.options.expire_password)


def _expire(host: Host, user: User) -> None:
    """Have the account change its password at the next login, if that is delivered (shadow(5), field 3)."""
    if _expires(user):
        _changes(host).expire_password(user.name)


def _lock(host: Host, name: str, field: str) -> None:
    """Lock the account: put the delivered field in place of its hash, or the lock before the hash."""
    if field:
        _changes(host).set_hash(name, field)
    elif passwd.password(host, name):
        _changes(host).lock(name)
    else:
        # There is no hash to put the lock before, and with "!" alone an sshd without PAM refuses keys too.
        _changes(host).set_hash(name, "*")


def delivered_hash(state: State, account: str, plain: str) -> str | None:
    """Return the stored hash if ``plain`` is the password that was last stored for the account, else
    None.
    """
    stored = _stored_hashes(state).get(account, "")
    return stored if stored and scrypt_hash(plain, stored.partition("$")[0]) == stored else None


def record_hash(state: State, account: str, salted: str) -> None:
    """Store the result of ``scrypt_hash`` for ``delivered_hash``."""
    state.host.write(
        state.path_for_writing(_FILE), canonical(_stored_hashes(state) | {account: salted}), mode=0o600
    )


def scrypt_hash(plain: str, salt: str = "") -> str:
    """Return the password's scrypt hash as ``salt$hash`` in hexadecimal, by default with a new salt."""
    from hashlib import scrypt

    salt = salt or os.urandom(_SALT).hex()
    data = scrypt(
        plain.encode("utf-8", "surrogateescape"), salt=salt.encode(), n=_COST, r=_BLOCK, p=_PARALLEL
    )
    return f"{salt}${data.hex()}"


def _stored_hashes(state: State) -> dict[str, str]:
    name = f"{state.folder()}/{_FILE}"
    found = parsed_object(state.host.read(name) or "{}")
    if found is None or not all(isinstance(one, str) and one.isascii() for one in found.values()):
        raise HostError(f"{name}: damaged", hint="remove it to start afresh")
    return found
