"""Step: the accounts of the document, their passwords and their keys.

An account is created once. One that the administrator removed stays removed, and nothing more is done
for it. A key that the platform delivers no longer is removed if we had added it and its line is still as
we wrote it, and nothing was wrong in the document (a mistake in it must lock nobody out); an account or a
password never is. Hashes reach the system on chpasswd's standard input,
keys by descriptor (see homefile).
"""

from __future__ import annotations

from agent import accounts, homefile
from agent.accounts import Account
from agent.errors import ConfigError
from agent.parse.problem import shown
from agent.plain import replace
from agent.report import Outcome, guarded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context
    from agent.model import User
    from agent.report import Item

_SHELL = "/bin/bash"
#: Characters of a key's comment, and of its fingerprint ("SHA256:" and 8), that stand for it in a report.
_COMMENT, _FINGERPRINT = 40, 15


def apply(ctx: Context) -> Iterator[Item]:
    """Settle every account, then take back the keys that are delivered no longer."""
    config = ctx.config
    if config is None:
        return
    for user in config.users:
        yield from guarded(f"user:{user.name}", _account(ctx, user))
    if config.partial:
        return
    wanted = {_key_item(user.name, key) for user in config.users for key in user.keys}
    for name in ctx.state.applied("key:"):
        if name not in wanted:
            yield from guarded(name, _withdraw(ctx, name))


def _account(ctx: Context, user: User) -> Iterator[Item]:
    if user.name != "root":
        made = _settle_account(ctx, user)
        yield made
        if made.outcome is Outcome.KEPT:
            return
        yield from _admin(ctx, user)
    if user.password is not None:
        yield _password(ctx, user.name, user.password)
    for key in user.keys:
        name = _key_shown(user.name, key)
        for item in guarded(name, _key(ctx, user.name, key)):
            yield replace(item, name=name)


def _settle_account(ctx: Context, user: User) -> Item:
    there = accounts.account(ctx.host, user.name)
    if there is not None and not there.ordinary:
        raise ConfigError(
            f"vm_conf.user: {user.name} is a system account (uid {there.uid})", hint="choose another name"
        )
    return ctx.state.settle(
        f"user:{user.name}",
        delivered=user.name,
        wanted="there",
        live="there" if there else None,
        apply=lambda: _create(ctx, user),
    )


def _create(ctx: Context, user: User) -> None:
    shell = ("--shell", _SHELL) if ctx.host.exists(_SHELL) else ()
    group = accounts.admin_group(ctx.host) if user.admin else None
    also = ("--groups", group) if group else ()
    # A group of that name may be there without the account; useradd would refuse to make it again.
    own = ("--user-group",) if not accounts.has_group(ctx.host, user.name) else ("--gid", user.name)
    ctx.host.run(("useradd", "--create-home", *shell, *also, *own, user.name))


def _admin(ctx: Context, user: User) -> Iterator[Item]:
    group = accounts.admin_group(ctx.host)
    if user.admin and group:
        yield ctx.state.settle(
            f"group:{user.name}",
            delivered="admin",
            wanted=group,
            live=group if accounts.in_group(ctx.host, user.name, group) else None,
            apply=lambda: ctx.host.run(("usermod", "--append", "--groups", group, user.name)),
        )


def _password(ctx: Context, name: str, hashed: str) -> Item:
    return ctx.state.settle(
        f"password:{name}",
        delivered=hashed,
        wanted=hashed,
        live=accounts.password(ctx.host, name),
        apply=lambda: ctx.host.run(("chpasswd", "--encrypted"), stdin=f"{name}:{hashed}\n".encode()),
    )


# -- keys ----------------------------------------------------------------------------


def _key_item(name: str, key: str) -> str:
    """The name under which it is remembered."""
    return f"key:{name}:{accounts.fingerprint(key)}"


def _key_shown(name: str, key: str) -> str:
    """How people know it: by its comment, else by the beginning of its fingerprint."""
    comment = shown(accounts.comment(key))[:_COMMENT]
    return f"key:{name}:{comment or accounts.fingerprint(key)[:_FINGERPRINT]}"


def _key(ctx: Context, name: str, key: str) -> Iterator[Item]:
    owner = _owner(ctx, name)
    lines = _lines(ctx, owner)
    there = any(accounts.blob(line) == accounts.blob(key) for line in lines)
    yield ctx.state.settle(
        _key_item(name, key),
        # The comment at its end is not the key: a changed one brings no removed key back.
        delivered=accounts.blob(key) or key,
        wanted=key.strip(),
        live=key.strip() if there else None,
        apply=lambda: _store(ctx, owner, [*lines, key.strip()]),
    )


def _withdraw(ctx: Context, item: str) -> Iterator[Item]:
    _, name, wanted = item.split(":", 2)
    owner = accounts.account(ctx.host, name)
    lines = _lines(ctx, owner) if owner else []
    line = next((line for line in lines if _is(line, wanted)), None)

    def undo() -> None:
        if owner:
            _store(ctx, owner, [other for other in lines if other != line])

    known_as = _key_shown(name, line) if line else f"key:{name}:{wanted[:_FINGERPRINT]}"
    yield replace(ctx.state.withdraw(item, live=line, undo=undo), name=known_as)


def _is(line: str, fingerprint: str) -> bool:
    try:
        return accounts.fingerprint(line) == fingerprint
    except ValueError:
        return False


def _owner(ctx: Context, name: str) -> Account:
    owner = accounts.account(ctx.host, name)
    if owner is None and ctx.host.dry_run:
        return Account(name, 0, 0, f"/home/{name}")  # the account that would have been made
    if owner is None:
        raise ConfigError(f"{name}: no such account", hint="see why it was not created, above")
    return owner


def _lines(ctx: Context, owner: Account) -> list[str]:
    path = accounts.keys_file(ctx.host, owner)
    inside = _below_home(path, owner)
    if inside is None:
        data = ctx.host.read_bytes(path)
    else:
        data = homefile.read(ctx.host, owner.home, inside, (owner.uid, owner.gid))
    return (data or b"").decode("utf-8", "surrogateescape").splitlines()


def _store(ctx: Context, owner: Account, lines: list[str]) -> None:
    path = accounts.keys_file(ctx.host, owner)
    content = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
    inside = _below_home(path, owner)
    if inside is None:
        # Outside the home the folder is the administrator's; sshd reads the file as the user.
        ctx.host.write(path, content)
    else:
        homefile.write(ctx.host, owner.home, inside, content, (owner.uid, owner.gid))


def _below_home(path: str, owner: Account) -> tuple[str, ...] | None:
    """The path's parts below the account's home; None for a place elsewhere."""
    home = owner.home.rstrip("/")
    return tuple(path.removeprefix(f"{home}/").split("/")) if path.startswith(f"{home}/") else None
