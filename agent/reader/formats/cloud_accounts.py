"""The keys of ``#cloud-config`` about accounts: user, users, groups, their passwords and their keys.

Format: cloud-init's module reference. ``default`` and ``user`` are the account of CONFIG_DEFAULT_USER.
"""

from __future__ import annotations

from agent.config.model import AccountOptions, Group, User
from agent.lib.records import dataclass
from agent.lib.text import WHITE
from agent.reader.common import fields, password_hashes, values
from agent.reader.common.bounds import Unreadable
from agent.reader.common.lenient import ITSELF, part, parts, unused, value
from agent.reader.common.merge import DEFAULT, USERS, PasswordForm
from agent.reader.common.values import Choice, Whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from agent.reader.common.merge import Draft

#: The name of the default account in ``users``.
_DEFAULT = "default"
#: Maximum groups of an account, and maximum names in one string.
_GROUPS = 256
#: Top-level keys about accounts that are not handled, with the reason.
REFUSED = {"ssh_import_id": "keys are not fetched from the network; deliver ssh_authorized_keys"}
#: Keys that are read before the document is validated.
_KEYS = ("user", "users", "groups", "name", "packages", "ntp")


# -- readers -------------------------------------------------------------------------


def rules(written: object) -> tuple[str, ...]:
    """Return rules of sudoers(5); none for null and false. An invalid one is not left out alone: the others
    may allow what it forbids.
    """
    if written is None or written is False or (isinstance(written, str) and written.lower() == "false"):
        return ()
    many = written if isinstance(written, list) else [written]
    return tuple(rule for rule in map(values.line, many) if rule)


def comment(written: object) -> str | None:
    """Return the comment field of passwd(5); None for null."""
    if written is None:
        return None
    found = values.line(values.word(written))
    if ":" in found:
        raise ValueError("contains a colon, which separates the fields of /etc/passwd; remove it")
    return found


def date(written: object) -> str:
    """Return a date as YYYY-MM-DD; "" for an empty string or null."""
    found = fields.stripped(written)
    if found:
        import datetime

        try:
            found = datetime.date.fromisoformat(found).isoformat()
        except ValueError:
            raise ValueError("not a date; write for example 2032-09-01") from None
    return found


def optional_path(written: object) -> str:
    """Return an absolute path; "" for an empty string or null."""
    return values.path(written) if fields.stripped(written) else ""


def optional_group(written: object) -> str:
    """Return the name of a group; "" for an empty string or null."""
    return values.group(written) if fields.stripped(written) else ""


def keys(written: object) -> tuple[object, ...]:
    """Return the lines of public keys. A comment with a colon (``ssh:``) makes YAML read a dictionary."""
    many = written if isinstance(written, list) else [written]
    return fields.items([_key_of_dictionary(one) for one in many])


def _key_of_dictionary(written: object) -> object:
    if isinstance(written, dict) and len(written) == 1:
        ((before, after),) = written.items()
        if after is None or isinstance(after, str):
            return f"{before}: {after or ''}".strip(WHITE)
    return written


# -- parts ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Account:
    """``users[]`` and ``user``."""

    name: str | None = value(fields.user)
    uid: int | None = value(Whole(0, (1 << 32) - 2), None, exact=True)
    system: bool = value(values.boolean, default=False, exact=True)
    homedir: str = value(optional_path, "", exact=True)
    no_create_home: bool = value(values.boolean, default=False, exact=True)
    no_user_group: bool = value(values.boolean, default=False, exact=True)
    no_log_init: bool = value(values.boolean, default=False)
    primary_group: str = value(optional_group, "", exact=True)
    groups: list[str | None] | None = parts(values.group)
    create_groups: bool = value(values.boolean, default=True, exact=True)
    gecos: str | None = value(comment, None)
    inactive: int | None = value(Whole(0, 99999), None, exact=True)
    expiredate: str = value(date, "", exact=True)
    sudo: tuple[str, ...] = value(rules, ())
    shell: str = value(optional_path, "", exact=True)
    ssh_authorized_keys: tuple[object, ...] = value(keys, ())
    passwd: str | None = value(fields.shadow_field, None)
    hashed_passwd: str | None = value(fields.shadow_field, None)
    plain_text_passwd: str = value(values.number_or_text, "")
    lock_passwd: bool | None = value(values.boolean, None)


unused(
    Account,
    refused={
        "doas": "rules of doas(1) are not written",
        "selinux_user": "SELinux users are not assigned",
        "snapuser": "accounts of snap are not made",
        "ssh_import_id": "keys are not fetched from the network",
        "ssh_redirect_user": "logins are not redirected to the default user",
    },
)


@dataclass(frozen=True, slots=True)
class Password:
    """``chpasswd.users[]``."""

    name: str | None = value(fields.user)
    password: str = value(values.number_or_text, "")
    type: str = value(Choice(("hash", "text", "random")), "hash", exact=True)


@dataclass(frozen=True, slots=True)
class Passwords:
    """``chpasswd``."""

    list: tuple[object, ...] = value(fields.items, ())
    users: Any = parts(Password)
    expire: bool = value(values.boolean, default=True)


@dataclass(frozen=True, slots=True)
class GroupEntry:
    """An item of ``groups``, as ``normalise`` writes it."""

    name: str = value(values.group)
    members: list[str | None] | None = parts(values.group)


unused(Password)
unused(Passwords, unknown=ITSELF)
unused(GroupEntry)


@dataclass(frozen=True, slots=True)
class Accounts:
    """The keys of the document about accounts."""

    user: Account | None = part(Account)
    users: list[Account | None] | None = parts(Account)
    groups: list[GroupEntry | None] | None = parts(GroupEntry)
    ssh_authorized_keys: tuple[object, ...] = value(keys, ())
    allow_public_ssh_keys: bool = value(values.boolean, default=True)
    password: str = value(values.number_or_text, "")
    chpasswd: Passwords | None = part(Passwords)


# -- other forms ---------------------------------------------------------------------


def normalise(document: dict[str, Any]) -> None:
    """Convert the other forms of ``user``, ``users`` and ``groups`` into dictionaries and lists of them."""
    _spell(document)
    if document.get("user") in (None, "", [], {}):
        document.pop("user", None)
    if user := document.get("user"):
        document["user"] = {"name": user.strip(WHITE)} if isinstance(user, str) else user
        if isinstance(user, dict):
            _spell(user)
            user.setdefault("name", _DEFAULT)
    if "users" in document:
        document["users"] = list(_users(document["users"]))
    if "groups" in document:
        document["groups"] = list(_groups(document["groups"]))
    for account in (document.get("user"), *_listed(document.get("users"))):
        if isinstance(account, dict):
            _spell(account)
            if "groups" in account:
                account["groups"] = _names(account["groups"])


def _spell(document: dict[str, Any]) -> None:
    """Spell the keys that are read here as they are declared."""
    for key in [key for key in document if key not in _KEYS]:
        name = key.strip(WHITE).lower()
        if name in _KEYS and name not in document:
            document[name] = document.pop(key)


def _listed(written: Any) -> list[Any]:
    return written if isinstance(written, list) else []


def _users(written: Any) -> Iterator[Any]:
    """Yield each account as a dictionary, and what cannot be one unchanged. ``default`` alone says nothing:
    keys and passwords without a name are that account's in any case.
    """
    if isinstance(written, dict):
        yield from _users_of_dictionary(written)
        return
    for one in written if isinstance(written, list) else [written]:
        if isinstance(one, str):
            yield from ({"name": name} for name in _split(one, USERS) if name != _DEFAULT)
        elif one is not None:
            yield one


def _users_of_dictionary(written: dict[str, Any]) -> Iterator[Any]:
    for name, one in written.items():
        if isinstance(one, dict):
            yield {"name": name} | one
        elif name != _DEFAULT and not _is_false(one):
            yield {"name": name}


def _groups(written: Any) -> Iterator[Any]:
    for one in written if isinstance(written, list) else [written]:
        if isinstance(one, dict):
            yield from ({"name": name, "members": _names(members)} for name, members in one.items())
        elif isinstance(one, str):
            yield from ({"name": name} for name in _split(one, _GROUPS))
        elif one is not None:
            yield one


def _split(written: str, most: int) -> Iterator[str | Unreadable]:
    """Yield the names in a string with commas between them."""
    for name in written.split(",", most):
        if "," in name:
            yield Unreadable(f"more than {most} names")
        elif name.strip(WHITE):
            yield name.strip(WHITE)


def _names(written: Any) -> Any:
    """Return a list of the names in a string with commas, in a list or in the keys of a dictionary."""
    if isinstance(written, str):
        written = list(_split(written, _GROUPS))
    if isinstance(written, dict):
        written = list(written)
    if not isinstance(written, list):
        return written
    found = [one for one in written if one is not None and one != ""]
    return found if len(found) <= _GROUPS else Unreadable(f"more than {_GROUPS} names")


def _is_false(written: Any) -> bool:
    return written is False or (isinstance(written, str) and written.lower() in ("false", "no", "off"))


# -- the draft -----------------------------------------------------------------------


def apply(found: Accounts, name: str, draft: Draft, *, names_user: bool) -> None:
    """Add the accounts to the draft; ``names_user``: the document has a ``user``, perhaps an invalid one."""
    _add_default_user(found.user, name, draft, names_user=names_user)
    for group in found.groups or ():
        if group is not None:
            members = tuple(filter(None, group.members or ()))
            draft.add_group(Group(group.name, members), f"{name}: groups")
    _add_passwords(found, name, draft)
    if found.user is not None:
        _add_account(found.user, f"{name}: user", draft, is_default=True)
    for place, account in enumerate(found.users or ()):
        if account is not None:
            _add_account(account, f"{name}: users[{place}]", draft)
    keys_path = f"{name}: ssh_authorized_keys"
    draft.add_keys(DEFAULT, found.ssh_authorized_keys, keys_path, is_document=True)
    draft.platform_keys = draft.platform_keys and found.allow_public_ssh_keys


def _add_default_user(user: Account | None, name: str, draft: Draft, *, names_user: bool) -> None:
    if user is None and names_user:
        draft.add_problem(
            f"{name}: user",
            "cannot be used: passwords and keys without an account's name are left out",
            "correct it; they must not go to another account",
        )
        draft.lose_default_user()
    elif user is not None and user.name != _DEFAULT and user.name:
        draft.default_user = draft.default_user or user.name


def _add_account(account: Account, path: str, draft: Draft, *, is_default: bool = False) -> None:
    if account.name is None:
        draft.add_problem(f"{path}.name", "empty: left out", "name the account")
        return
    is_default = is_default or account.name == _DEFAULT
    field, plain = account.passwd or account.hashed_passwd, account.plain_text_passwd
    hashed, is_locked = password_hashes.shadow_field(field) if field else (None, False)
    draft.plain += bool(plain)
    if not draft.is_valid_password(plain, f"{path}.plain_text_passwd"):
        plain = ""
    # As in cloud-init: locked unless the document says otherwise, even with a password. The default account
    # may be root, and gets its password by other keys.
    locks = account.lock_passwd if account.lock_passwd is not None else account.name != _DEFAULT
    user = User(
        DEFAULT if is_default else account.name,
        password=hashed,
        groups=tuple(filter(None, account.groups or ())),
        shell=account.shell or None,
        sudo=account.sudo,
        locked=locks or is_locked,
        options=_options(account),
    )
    draft.add_user(user, plain if plain and not field else "")
    draft.add_keys(user.name, account.ssh_authorized_keys, f"{path}.ssh_authorized_keys", is_document=True)


def _options(account: Account) -> AccountOptions | None:
    """Return what useradd(8) is asked for beyond its defaults, None for nothing."""
    options = AccountOptions(
        uid=account.uid,
        system=account.system,
        home=account.homedir,
        # As in cloud-init: a system account gets no home.
        create_home=not (account.no_create_home or account.system),
        user_group=not account.no_user_group,
        log_init=not account.no_log_init,
        primary_group=account.primary_group,
        create_groups=account.create_groups,
        gecos=account.gecos,
        inactive=account.inactive,
        expires=account.expiredate,
    )
    return options if options != AccountOptions() else None


def _add_passwords(found: Accounts, name: str, draft: Draft) -> None:
    given = found.chpasswd or Passwords()
    if found.password:
        draft.add_password(DEFAULT, found.password, f"{name}: password", expire=given.expire)
    for place, written, password, form in (*_lines(given), *_entries(given)):
        path = f"{name}: chpasswd.{place}"
        try:
            account = fields.user(fields.stripped(written))
            if account is None:
                raise ValueError("no account; write NAME:PASSWORD")
        except ValueError as error:
            what, _, hint = str(error).partition("; ")
            draft.add_problem(path, what, hint)
            continue
        if password in ("", "R", "RANDOM"):
            random = "a random password could only be shown on the console, for all to read: not set"
            what = random if password else "no password: left out"
            draft.add_problem(path, what, "give the password, or its crypt(3) hash")
        else:
            draft.add_password(account, password, path, form=form, expire=given.expire)


def _lines(given: Passwords) -> Iterator[tuple[str, object, str, PasswordForm]]:
    for number, line in enumerate(given.list, start=1):
        name, _, password = line.partition(":") if isinstance(line, str) else (line, "", "")
        yield f"list line {number}", name, password, PasswordForm.EITHER


def _entries(given: Passwords) -> Iterator[tuple[str, object, str, PasswordForm]]:
    for place, one in enumerate(given.users or ()):
        if one:
            password = "RANDOM" if one.type == "random" else one.password
            form = PasswordForm.PLAIN if one.type == "text" else PasswordForm.HASH
            yield f"users[{place}]", one.name or "", password, form
