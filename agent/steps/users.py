"""Step: create the document's accounts, and reconcile their groups, shells, sudo rules, passwords and keys.

An account is created once; after a power cut or on a full disk, the next run makes what is missing of it.
One that the administrator removed stays removed, and nothing else is done for it. A key or a sudo rule that
is no longer delivered is removed if the agent added it, it is unchanged since, and the document was read
without problems (a mistake in it must lock no one out). Accounts and passwords are never removed. Passwords
go to chpasswd(8) on its standard input; keys are written by descriptor (agent/accounts/authorized_keys.py).
"""

from __future__ import annotations

from agent.accounts import authorized_keys, passwd
from agent.accounts.passwd import Account
from agent.config.model import User, merge_parts
from agent.host.sysfs import listed
from agent.lib import public_key
from agent.lib.errors import ConfigError, HostError
from agent.lib.records import replace
from agent.lib.text import BLANKS
from agent.reader.common.problem import shown
from agent.report import Outcome, guarded
from agent.systemd import credentials

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config.model import Group
    from agent.context import Context
    from agent.report import Item

_SHELL = "/bin/bash"
#: Characters that name a key in a report: of its comment, or of its fingerprint ("SHA256:" and 8).
_COMMENT, _FINGERPRINT = 40, 15
#: Account files in /etc, and pam_unix's temporary ones; other names that begin so may be a killed program's.
_FILES = ("passwd", "shadow", "group", "gshadow", "subuid", "subgid", "npasswd", "nshadow")
#: Parts recorded when an item is begun: an account with its home, a membership with its group.
_HOME, _GROUP = "home", "group"


def apply(ctx: Context) -> Iterator[Item]:
    """Reconcile every account, then withdraw the keys and sudo rules that are no longer delivered."""
    config = ctx.config
    if config is None:
        return
    users = merge_users(ctx, config.users)
    yield from _remove_stale_locks(ctx)
    yield from _groups(ctx, config.groups)
    yield from _systemds_keys(ctx)
    for user in users:
        for item in guarded(f"user:{user.name}", _account(ctx, user)):
            yield item
            if item.outcome is Outcome.FAILED and not ctx.host.live:
                # Programs of an image all run with the same PID, which is in the lock file: to the next one,
                # the lock of one that was killed seems to be in use.
                yield from _remove_stale_locks(ctx)
    for group in config.groups:
        for name in group.members:
            yield from guarded(f"group:{name}:{group.name}", _member(ctx, name, group.name))
    if not config.partial:
        yield from _withdraw_undelivered(ctx, users)


def _groups(ctx: Context, groups: tuple[Group, ...]) -> Iterator[Item]:
    """Make the document's groups, before the accounts, which may be in them."""
    for group in groups:
        from agent.accounts.groups import reconcile

        yield from guarded(f"groups:{group.name}", reconcile(ctx.state, group.name))


def _systemds_keys(ctx: Context) -> Iterator[Item]:
    """Leave systemd's credential with root's keys its effect, before the document's are added."""
    if credentials.text(ctx.host, credentials.KEYS):
        from agent.accounts import systemd_keys

        yield from guarded(credentials.KEYS, systemd_keys.write_first(ctx.host))


def _withdraw_undelivered(ctx: Context, users: tuple[User, ...]) -> Iterator[Item]:
    wanted = {_key_item(user.name, key) for user in users for key in user.keys}
    if credentials.text(ctx.host, credentials.KEYS):
        from agent.accounts import systemd_keys

        wanted |= {_key_item("root", key) for key in systemd_keys.keys(ctx.host)}
    wanted |= {f"sudo:{user.name}" for user in users if user.sudo}
    for name in ctx.state.recorded_items("key:"):
        if name not in wanted:
            yield from guarded(name, _withdraw(ctx, name))
    for name in ctx.state.recorded_items("sudo:"):
        if name not in wanted:
            from agent.accounts import sudoers

            yield from guarded(name, sudoers.withdraw(ctx.state, name))


def _remove_stale_locks(ctx: Context) -> Iterator[Item]:
    """Remove what a killed program of the passwd package has left, if a name in /etc looks like it."""
    if any(n.startswith(_FILES) and n.removesuffix("-") not in _FILES[:6] for n in listed(ctx.host, "/etc")):
        from agent.accounts import shadow

        yield from guarded("account files", shadow.remove_stale_locks(ctx.host))


def merge_users(ctx: Context, users: tuple[User, ...]) -> tuple[User, ...]:
    """Return each account once, by name, those with nothing but a delivered password too. The empty name
    stands for CONFIG_DEFAULT_USER, which becomes an administrator.
    """
    default = ctx.settings.default_user
    found = dict[str, User]()
    for user in (*users, *map(User, ctx.secrets)):
        named = user if user.name else replace(user, name=default, admin=True)
        found[named.name] = _merge(found[named.name], named) if named.name in found else named
    return tuple(found.values())


def _merge(one: User, other: User) -> User:
    """Merge two entries for one account; if they differ, the first counts."""
    first = one if one.password is not None or one.sealed else other
    return replace(
        one,
        password=first.password,
        sealed=first.sealed,
        shell=one.shell or other.shell,
        options=merge_parts(one.options, other.options),
        admin=one.admin or other.admin,
        locked=one.locked or other.locked,
        keys=tuple(dict.fromkeys((*one.keys, *other.keys))),
        groups=tuple(dict.fromkeys((*one.groups, *other.groups))),
        sudo=tuple(dict.fromkeys((*one.sudo, *other.sudo))),
    )


def _account(ctx: Context, user: User) -> Iterator[Item]:
    name = user.name
    if name != "root":
        made = _reconcile_account(ctx, user)
        yield made
        if made.outcome is Outcome.KEPT:
            return
        yield from guarded(f"group:{name}", _admin(ctx, user))
        is_made = user.options is None or user.options.create_groups
        for group in user.groups:
            yield from guarded(f"group:{name}:{group}", _member(ctx, name, group, create=is_made))
    if user.options:
        from agent.accounts import account_options

        yield from account_options.reconcile(ctx.state, user)
    yield from guarded(f"shell:{name}", _shell(ctx, user))
    yield from guarded(f"password:{name}", _password(ctx, user))
    if user.sudo:
        from agent.accounts import sudoers

        yield from guarded(f"sudo:{name}", sudoers.reconcile(ctx.state, user))
    for key in user.keys:
        known_as = _key_shown(name, key)
        for item in guarded(known_as, _key(ctx, name, key)):
            yield replace(item, name=known_as)


def _reconcile_account(ctx: Context, user: User) -> Item:
    there = passwd.account(ctx.host, user.name)
    if there is not None and not (there.is_regular_user or _is_named_system_account(user, there)):
        raise ConfigError(
            f"{user.name} is a system account (uid {there.uid})", hint="deliver another user name"
        )
    return ctx.state.reconcile(
        f"user:{user.name}",
        delivered=user.name,
        wanted="there",
        live="there" if there else None,
        apply=lambda: _create(ctx, user),
        parts="" if there else _parts(ctx, user),
    )


def _is_named_system_account(user: User, there: Account) -> bool:
    return user.options is not None and (user.options.system or user.options.uid == there.uid)


def _parts(ctx: Context, user: User) -> str:
    """Return the parts to complete: the home, unless it exists before the account or is not to be made."""
    from agent.accounts import homes

    if user.options and not user.options.create_home:
        return ""
    home = (user.options and user.options.home) or homes.new_home(ctx.host, user.name)
    return "" if ctx.host.exists(home) else _HOME


def _create(ctx: Context, user: User) -> None:
    from agent.accounts import shadow

    item = f"user:{user.name}"
    home = ctx.state.begun_parts(item) == _HOME
    if passwd.account(ctx.host, user.name) is None:
        try:
            _useradd(ctx, user)
        except HostError:
            if passwd.account(ctx.host, user.name) is None:
                # Nothing was made: an account that appears later is the administrator's.
                ctx.state.clear_begun(item)
            raise
    shadow.complete_account(ctx.host, user.name, home=home)


def _useradd(ctx: Context, user: User) -> None:
    from agent.accounts.changes import NewAccount, changes

    shell = _SHELL if ctx.host.exists(_SHELL) else ""
    group = passwd.admin_group(ctx.host) if user.admin else None
    # The group may exist without the account; useradd would refuse to create it.
    has_group = passwd.group(ctx.host, user.name) is not None
    new = NewAccount(
        user.name,
        group=user.name if has_group else "",
        own_group=not has_group,
        member_of=group or "",
        shell=shell,
    )
    if user.options:
        from agent.accounts import account_options

        new = account_options.for_new_account(ctx.host, user.options, new)
    changes(ctx.host).add(new)


def _admin(ctx: Context, user: User) -> Iterator[Item]:
    group = passwd.admin_group(ctx.host)
    if user.admin and group:
        yield _join(ctx, f"group:{user.name}", "admin", user.name, group)


def _member(ctx: Context, name: str, group: str, *, create: bool = True) -> Iterator[Item]:
    yield _join(ctx, f"group:{name}:{group}", group, name, group, create=create)


def _join(ctx: Context, item: str, delivered: str, name: str, group: str, *, create: bool = True) -> Item:
    def apply() -> None:
        from agent.accounts.changes import changes

        _owner(ctx, name)
        if passwd.group(ctx.host, group) is None or ctx.state.begun_parts(item) == _GROUP:
            from agent.accounts import shadow

            shadow.make_group(ctx.host, group, create=create)
            shadow.complete_group(ctx.host, group)
        changes(ctx.host).join(name, group)

    return ctx.state.reconcile(
        item,
        delivered=delivered,
        wanted=group,
        live=group if passwd.is_in_group(ctx.host, name, group) else None,
        apply=apply,
        parts="" if passwd.group(ctx.host, group) is not None else _GROUP,
    )


def _shell(ctx: Context, user: User) -> Iterator[Item]:
    shell, there = user.shell, passwd.account(ctx.host, user.name)
    if not shell:
        return
    # A missing one of these refuses logins as it would itself; the default shell would accept them.
    if not ctx.host.exists(shell) and not shell.endswith(("/nologin", "/false")):
        raise ConfigError(f"{shell} is not on this machine", hint="install it, or deliver another shell")

    def apply() -> None:
        from agent.accounts.changes import changes

        changes(ctx.host).set_shell(user.name, shell)

    yield ctx.state.reconcile(
        f"shell:{user.name}", wanted=shell, live=there.shell if there else None, apply=apply
    )


def _password(ctx: Context, user: User) -> Iterator[Item]:
    if user.password is None and not user.locked and not user.sealed and not ctx.secrets:
        return
    from agent.accounts import passwords

    default = ctx.secrets.get("") if user.name == ctx.settings.default_user else None
    yield from passwords.reconcile(ctx.state, user, ctx.secrets.get(user.name) or default)


# -- keys ----------------------------------------------------------------------------


def _key_item(name: str, key: str) -> str:
    """Return the key's name in the state."""
    return f"key:{name}:{passwd.fingerprint(key)}"


def _key_shown(name: str, key: str) -> str:
    """Return the key's name in reports: by its comment, else the beginning of its fingerprint."""
    comment = shown(passwd.key_comment(key))[:_COMMENT]
    return f"key:{name}:{comment or passwd.fingerprint(key)[:_FINGERPRINT]}"


def _key(ctx: Context, name: str, key: str) -> Iterator[Item]:
    owner, line = _owner(ctx, name), key.strip(BLANKS)
    lines = authorized_keys.lines(ctx.host, owner)
    there = any(passwd.key_blob(other) == passwd.key_blob(line) for other in lines)

    def add() -> None:
        if not there:
            authorized_keys.add(ctx.host, owner, line)

    item = ctx.state.reconcile(
        _key_item(name, key),
        # Without the comment, so that a changed one does not bring back a key that was removed.
        delivered=passwd.key_blob(key) or key,
        wanted=line,
        live=line if there else None,
        apply=add,
        # Recorded as begun: a key without a record, after a power cut, could not be withdrawn.
        parts="",
    )
    options = _key_options(ctx, owner, line)
    yield options if options and options.outcome is not Outcome.UNCHANGED else item


def _key_options(ctx: Context, owner: Account, line: str) -> Item | None:
    """Reconcile the options before a key, which restrict it; None without a key, or without options. They
    are an item of their own, so that a key that the administrator removed is not brought back with them.
    """
    item, options = _options_item(owner.name, line), public_key.options(line)
    lines = authorized_keys.lines(ctx.host, owner)
    live = {public_key.options(other) for other in lines if passwd.key_blob(other) == passwd.key_blob(line)}
    if not live or not (options or ctx.state.recorded_items(item)):
        return None
    return ctx.state.reconcile(
        item,
        wanted=options,
        live="\n".join(sorted(live)),
        apply=lambda: authorized_keys.replace(ctx.host, owner, line),
    )


def _options_item(name: str, key: str) -> str:
    return f"key options:{name}:{passwd.fingerprint(key)}"


def _withdraw(ctx: Context, item: str) -> Iterator[Item]:
    _, name, wanted = item.split(":", 2)
    owner = passwd.account(ctx.host, name)
    lines = authorized_keys.lines(ctx.host, owner) if owner else []
    same = [line for line in lines if _is(line, wanted)]
    # Of several lines with the key, prefer the one that the agent wrote.
    line = next((line for line in same if ctx.state.is_as_applied(item, line)), same[0] if same else None)

    def undo() -> None:
        if owner and line is not None:
            authorized_keys.remove(ctx.host, owner, line)
            ctx.state.forget(_options_item(name, line))

    known_as = _key_shown(name, line) if line else f"key:{name}:{wanted[:_FINGERPRINT]}"
    yield replace(ctx.state.withdraw(item, live=line, undo=undo), name=known_as)


def _is(line: str, fingerprint: str) -> bool:
    try:
        return passwd.fingerprint(line) == fingerprint
    except ValueError:
        return False


def _owner(ctx: Context, name: str) -> Account:
    owner = passwd.account(ctx.host, name)
    if owner is None and ctx.host.dry_run:
        return Account(name, 0, 0, f"/home/{name}")  # the account that would have been made
    if owner is None:
        raise ConfigError(f"{name}: no such account", hint="see why it was not created, above")
    return owner
