"""``#cloud-config``: the keys that the model has a place for; each other key is reported once.

Format: cloud-init's module reference. Values of earlier documents (another part, the drive) are kept.
"""

from __future__ import annotations

import shlex

from agent.config.model import File, User
from agent.lib.records import dataclass
from agent.lib.text import WHITE
from agent.reader.common import fields, password_hashes, values
from agent.reader.common.bounds import Unreadable
from agent.reader.common.lenient import part, parts, validate, value
from agent.reader.common.merge import DEFAULT, USERS, PasswordForm
from agent.reader.common.values import Choice
from agent.reader.formats import yaml_events
from agent.reader.formats.gzip_data import gunzip

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agent.reader.common.merge import Draft

#: cloud-init's names of encodings of a file's content.
_PACKED = ("gz", "gzip", "gz+base64", "gzip+base64", "gz+b64", "gzip+b64", "b64", "base64")
_ENCODINGS = Choice(("", "text/plain", *_PACKED))
#: Maximum groups of an account.
_GROUPS = 256
#: Maximum bytes of a file, unpacked.
_FILE = 8 << 20


def command(written: object) -> str:
    """Return a line for the shell: a string unchanged, a list as quoted words."""
    if isinstance(written, list):
        return shlex.join(values.word(one) for one in written if one is not None)
    return values.word(written)


def words(written: object) -> tuple[str, ...]:
    """Return group names, given as a list or separated by commas."""
    named = written if isinstance(written, list) else fields.text(written).split(",", _GROUPS)
    if len(named) > _GROUPS:
        raise ValueError(f"more than {_GROUPS} names; write fewer")
    return tuple(values.group(one) for one in named if one is not None and fields.stripped(one))


def rules(written: object) -> tuple[str, ...]:
    """Return rules of sudoers(5); none for null and false."""
    if written is None or written is False or (isinstance(written, str) and written.lower() == "false"):
        return ()
    return tuple(values.line(one) for one in (written if isinstance(written, list) else [written]))


def content(written: object) -> bytes:
    """Return a file's content, given as text or as YAML's !!binary."""
    return written if isinstance(written, bytes) else fields.text(written).encode()


@dataclass(frozen=True, slots=True)
class Account:
    """``users[]``."""

    name: str | None = value(fields.user)
    groups: tuple[str, ...] = value(words, ())
    sudo: tuple[str, ...] = value(rules, ())
    shell: str | None = value(values.path, None)
    ssh_authorized_keys: tuple[object, ...] = value(fields.items, ())
    passwd: str | None = value(fields.shadow_field, None)
    hashed_passwd: str | None = value(fields.shadow_field, None)
    plain_text_passwd: str = value(fields.text, "")
    lock_passwd: bool = value(values.boolean, default=True)


@dataclass(frozen=True, slots=True)
class Password:
    """``chpasswd.users[]``."""

    name: str | None = value(fields.user)
    password: str = value(fields.text, "")
    type: str = value(Choice(("hash", "text")), "hash")


@dataclass(frozen=True, slots=True)
class Passwords:
    """``chpasswd``."""

    list: tuple[object, ...] = value(fields.items, ())
    users: Any = parts(Password)


@dataclass(frozen=True, slots=True)
class Written:
    """``write_files[]``."""

    path: str = value(values.path)
    content: bytes = value(content, b"", exact=True)
    encoding: str = value(_ENCODINGS, "", exact=True)
    owner: str = value(values.line, "root:root", exact=True)
    permissions: int = value(values.mode, 0o644, exact=True)
    append: bool = value(values.boolean, default=False, exact=True)


@dataclass(frozen=True, slots=True)
class CloudConfig:
    """The document."""

    hostname: str = value(fields.hostname, "")
    fqdn: str = value(fields.hostname, "")
    users: list[Account | None] | None = parts(Account)
    ssh_authorized_keys: tuple[object, ...] = value(fields.items, ())
    password: str = value(fields.text, "")
    chpasswd: Passwords | None = part(Passwords)
    write_files: list[Written | None] | None = parts(Written)
    runcmd: list[str | None] | None = parts(command)
    bootcmd: list[str | None] | None = parts(command)
    timezone: str = value(values.timezone, "")


def parse(text: str, name: str, draft: Draft) -> dict[str, Any] | None:
    """Return the document's values, {} for an empty one; None and a problem if it cannot be read."""
    if not text.strip(WHITE):
        return {}
    count = len(draft.problems)
    document = yaml_events.read(name, text, draft.problems)
    if isinstance(document, dict):
        return document
    if document is None and len(draft.problems) == count:
        return {}
    if document is not None:
        draft.add_problem(name, "not a dictionary: left out", "write keys, each with its value")
    return None


def apply(document: dict[str, Any], name: str, draft: Draft, prefix: str) -> None:
    """Add the document's configuration to the draft; ``prefix`` is that of its programs' names."""
    _normalise_users(document)
    found, problems = validate(CloudConfig, document)
    draft.add_problems(name, problems)
    draft.hostname = draft.hostname or found.hostname or found.fqdn
    draft.timezone = draft.timezone or found.timezone
    _passwords(found, name, draft)
    for place, account in enumerate(found.users or ()):
        if account is not None:
            _account(account, f"{name}: users[{place}]", draft)
    draft.add_keys(DEFAULT, found.ssh_authorized_keys, f"{name}: ssh_authorized_keys")
    for place, file in enumerate(found.write_files or ()):
        if file is not None:
            _file(file, f"{name}: write_files[{place}]", draft)
    for key, boot in (("bootcmd", True), ("runcmd", False)):
        wanted = getattr(found, key) or ()
        if wanted and None not in wanted:
            script = "".join(f"{line}\n" for line in ("#!/bin/sh", *wanted))
            draft.add_program(f"{prefix}{key}", script.encode(), f"{name}: {key}", boot=boot)
        elif wanted:
            draft.add_problem(
                f"{name}: {key}", "a command cannot be read: none of them is run", "correct it"
            )


def _normalise_users(document: dict[str, Any]) -> None:
    """Convert the other forms of ``users`` into a list of dictionaries."""
    users = document.get("users")
    if isinstance(users, dict):
        users = [{"name": name} | (one if isinstance(one, dict) else {}) for name, one in users.items()]
    if isinstance(users, str):
        users = [one.strip(WHITE) for one in users.split(",", USERS)]
        if len(users) > USERS:
            document["users"] = users = Unreadable(f"more than {USERS} names")
    if isinstance(users, list):
        # "default" is the account that gets keys and passwords without a name, with or without this entry.
        users = [{"name": user} if isinstance(user, str) else user for user in users if user != "default"]
        document["users"] = users


def _account(account: Account, path: str, draft: Draft) -> None:
    if account.name is None:
        draft.add_problem(f"{path}.name", "empty: left out", "name the account")
        return
    field, plain = account.passwd or account.hashed_passwd, account.plain_text_passwd
    hashed, is_locked = password_hashes.shadow_field(field) if field else (None, False)
    draft.plain += bool(plain)
    if not draft.is_valid_password(plain, f"{path}.plain_text_passwd"):
        plain = ""
    user = User(
        account.name,
        password=hashed,
        groups=account.groups,
        shell=account.shell,
        sudo=account.sudo,
        # As in cloud-init: locked unless the document says otherwise, even with a password.
        locked=account.lock_passwd or is_locked,
    )
    draft.add_user(user, plain if plain and not field else "")
    draft.add_keys(user.name, account.ssh_authorized_keys, f"{path}.ssh_authorized_keys")


def _passwords(found: CloudConfig, name: str, draft: Draft) -> None:
    if found.password:
        draft.add_password(DEFAULT, found.password, f"{name}: password")
    given = found.chpasswd or Passwords()
    pairs = [
        (
            f"list line {n}",
            *(line.partition(":")[::2] if isinstance(line, str) else (line, "")),
            PasswordForm.EITHER,
        )
        for n, line in enumerate(given.list, start=1)
    ]
    users = [
        (
            f"users[{n}]",
            one.name or "",
            one.password,
            PasswordForm.HASH if one.type == "hash" else PasswordForm.PLAIN,
        )
        for n, one in enumerate(given.users or ())
        if one
    ]
    for place, written, password, form in (*pairs, *users):
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
            what = "a random password: not handled" if password else "no password: left out"
            draft.add_problem(path, what, "give the password, or its crypt(3) hash")
        else:
            draft.add_password(account, password, path, form=form)


def _file(file: Written, path: str, draft: Draft) -> None:
    owner, _, group = file.owner.partition(":")
    try:
        found = _unpacked(file.content, file.encoding)
        made = File(
            file.path,
            "",
            "",
            owner=values.owner(owner or "root"),
            group=values.owner(group or owner or "root"),
            mode=file.permissions,
            append=file.append,
        )
    except ValueError as error:
        what, _, hint = str(error).partition("; ")
        draft.add_problem(path, f"{what}: left out", hint)
    else:
        draft.add_file(made, found, path)


def _unpacked(packed: bytes, encoding: str) -> bytes:
    if "64" in encoding:
        try:
            packed = fields.unpacked(packed)
        except ValueError:
            raise ValueError("its base64 is damaged; encode it again, whole") from None
    return gunzip(packed, _FILE) if encoding.startswith("gz") else packed
