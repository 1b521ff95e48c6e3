"""The keys of ``#cloud-config`` about accounts: user, users, groups, their passwords and their keys.

Format: cloud-init's module reference. ``default`` and ``user`` are the account of CONFIG_DEFAULT_USER.
"""

from __future__ import annotations

import re

from agent.config.model import AccountOptions, Group, User
from agent.lib import public_key
from agent.lib.records import dataclass
from agent.lib.text import WHITE
from agent.reader.common import fields, password_hashes, values
from agent.reader.common.lenient import part, parts, unused, value
from agent.reader.common.merge import DEFAULT, PasswordForm
from agent.reader.common.problem import HARMLESS, UNSUPPORTED
from agent.reader.common.values import Choice, Whole
from agent.reader.formats.cloud_account_forms import DEFAULT_NAME, RANDOM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from agent.reader.common.merge import Draft

#: Top-level keys about accounts that are not handled, with the reason.
REFUSED = {"ssh_import_id": "keys are not fetched from the network; deliver ssh_authorized_keys"}
#: Why there is no random password.
_NOT_RANDOM = (
    "a random password could only be shown on the console, for all to read: not set",
    "give the password, or its crypt(3) hash",
)
#: A rule of sudoers(5) says where, and what: HOST = COMMAND.
_RULE = re.compile(r"[^=]+=[^=]")


# -- readers -------------------------------------------------------------------------


def rules(written: object) -> tuple[str, ...]:
    """Return rules of sudoers(5); none for null and false. An invalid one is not left out alone: the others
    may allow what it forbids.
    """
    if written is None or values.is_false(written):
        return ()
    many = written if isinstance(written, list) else [written]
    found = tuple(rule for rule in map(values.line, many) if rule)
    if not all(map(_RULE.match, found)):
        raise ValueError("not a rule of sudoers(5); write for example ALL=(ALL) ALL, or false for none")
    return found


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
    """Return an absolute path for a field of passwd(5); "" for an empty string or null."""
    found = fields.stripped(written)
    if ":" in found:
        raise ValueError("contains a colon, which separates the fields of /etc/passwd; write another path")
    return values.path(found.rstrip("/") or found) if found else ""


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
            # Or a name for the key.
            is_name = public_key.split(before) is None and public_key.split(after or "") is not None
            return after if is_name else f"{before}: {after or ''}".strip(WHITE)
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
    off=("ssh_redirect_user",),
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
    elif user is not None and user.name != DEFAULT_NAME and user.name:
        draft.default_user = draft.default_user or user.name


def _add_account(account: Account, path: str, draft: Draft, *, is_default: bool = False) -> None:
    if account.name is None:
        draft.add_problem(f"{path}.name", "empty: left out", "name the account")
        return
    is_default = is_default or account.name == DEFAULT_NAME
    if other := draft.described_by(DEFAULT if is_default else account.name, path.partition(": ")[0]):
        what = f"not used: {other} describes the account, and has precedence"
        draft.add_problem(path, what, "", severity=HARMLESS)
        draft.plain += bool(account.plain_text_passwd)
        return
    field, plain = _password(account, path, draft)
    hashed, is_locked = password_hashes.shadow_field(field) if field else (None, False)
    # As in cloud-init: locked unless the document says otherwise, even with a password. The default account
    # may be root, and gets its password by other keys.
    locks = account.lock_passwd if account.lock_passwd is not None else account.name != DEFAULT_NAME
    user = User(
        DEFAULT if is_default else account.name,
        password=hashed,
        groups=tuple(filter(None, account.groups or ())),
        shell=account.shell or None,
        sudo=account.sudo,
        locked=locks or is_locked,
        options=_options(account),
    )
    draft.plain += bool(account.plain_text_passwd and not plain)
    draft.add_user(user, plain)
    draft.add_keys(user.name, account.ssh_authorized_keys, f"{path}.ssh_authorized_keys", is_document=True)


def _password(account: Account, path: str, draft: Draft) -> tuple[str, str]:
    """Return the field of shadow(5) and the plain password; only one of them, the one that cloud-init sets
    last.
    """
    plain = account.plain_text_passwd
    if not draft.is_valid_password(plain, f"{path}.plain_text_passwd"):
        plain = ""
    given = {"hashed_passwd": account.hashed_passwd, "plain_text_passwd": plain, "passwd": account.passwd}
    used, *others = [key for key, text in given.items() if text] or [""]
    for other in others:
        if given[other] != given[used]:
            what, hint = f"not used: {used} has precedence", "write one of them"
            draft.add_problem(f"{path}.{other}", what, hint, severity=UNSUPPORTED)
    return ("", plain) if used in ("", "plain_text_passwd") else (given[used] or "", "")


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
    if found.password in RANDOM:
        draft.add_problem(f"{name}: password", *_NOT_RANDOM)
    elif found.password:
        draft.add_password(DEFAULT, found.password, f"{name}: password", expire=given.expire)
    wanted = dict[str, tuple[str, str, PasswordForm]]()
    for place, written, password, form in (*_lines(given), *_entries(given)):
        path = f"{name}: chpasswd.{place}"
        try:
            account = fields.user(fields.stripped(written))
            if account is None:
                raise ValueError("no account; write NAME:PASSWORD")
        except ValueError as error:
            draft.add_refused(path, error, lost="")
            continue
        if password in RANDOM:
            draft.add_problem(path, *_NOT_RANDOM)
        elif not password:
            draft.add_problem(path, "no password: left out", "give the password, or its crypt(3) hash")
        else:
            if account in wanted and wanted[account][1] != password:
                what = "the account appears again: the last password is set"
                draft.add_problem(wanted[account][0], what, "write it once")
            wanted[account] = path, password, form
    for account, (path, password, form) in wanted.items():
        draft.add_password(account, password, path, form=form, expire=given.expire)


def _lines(given: Passwords) -> Iterator[tuple[str, object, str, PasswordForm]]:
    for number, line in enumerate(given.list, start=1):
        if isinstance(line, str) and not line.strip(WHITE):
            continue
        name, _, password = line.partition(":") if isinstance(line, str) else (line, "", "")
        yield f"list line {number}", name, password, PasswordForm.EITHER


def _entries(given: Passwords) -> Iterator[tuple[str, object, str, PasswordForm]]:
    for place, one in enumerate(given.users or ()):
        if one:
            password = "RANDOM" if one.type == "random" else one.password
            form = PasswordForm.PLAIN if one.type == "text" else PasswordForm.HASH
            yield f"users[{place}]", one.name or "", password, form
