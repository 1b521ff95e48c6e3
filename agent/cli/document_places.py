"""Name the place in the document that an item comes from: the path of a value, never the value. Pure.

Paths are those of the native document and of ``config show``; an account is named in place of its number.
"""

from __future__ import annotations

from agent.accounts import passwd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.config.model import InstanceConfig, User

#: Item -> field of the document that it comes from.
_WHOLE = {
    "hostname": ("hostname", "naming"),
    "kernel's hostname": ("hostname", "naming"),
    "hosts": ("hostname", "naming"),
    "mailname": ("hostname", "naming"),
    "resolvers": ("nameservers", "search"),
    "timezone": ("timezone",),
    "sshd:options": ("sshd",),
    "locale": ("system.locale",),
    "keyboard": ("system.keyboard",),
    "ntp": ("system.ntp",),
    "ca certificates": ("system.ca_certs",),
    "swap file": ("system.swap",),
}
#: Kind of an item of an account -> the field of the account.
_OF_ACCOUNT = {"shell": "shell", "password": "password", "lock": "locked", "sudo": "sudo"}


def places(config: InstanceConfig | None, name: str, default_user: str) -> tuple[str, ...]:
    """Return the paths of the values that an item comes from, () for one of the agent's own.

    ``default_user``: the account that an empty name stands for.
    """
    if config is None:
        return ()
    if name in _WHOLE:
        return tuple(path for path in _WHOLE[name] if _value(config, path)) or _by_nics(config, name)
    kind, _, rest = name.partition(":")
    if kind.startswith("resolvers of leases"):
        return ("nameservers",)
    find = _KINDS.get(kind)
    return tuple(dict.fromkeys(find(config, kind, rest, default_user))) if find else ()


def _value(config: InstanceConfig, path: str) -> object:
    value: object = config
    for part in path.split("."):
        value = getattr(value, part, None)
    return value


def _by_nics(config: InstanceConfig, name: str) -> tuple[str, ...]:
    if name != "resolvers":
        return ()
    return tuple(f"nics[{at}].nameservers" for at, nic in enumerate(config.nics) if nic.nameservers)


def _account(config: InstanceConfig, kind: str, rest: str, default_user: str) -> Iterator[str]:
    name, _, more = rest.partition(":")
    for user in config.users:
        if (user.name or default_user) == name:
            base = f"users[{name}]"
            yield from (f"{base}{path}" for path in _of_user(user, kind, more, default=not user.name))
    for at, group in enumerate(config.groups):
        if kind == "group" and group.name == more and name in group.members:
            yield f"groups[{at}].members[{group.members.index(name)}]"


def _of_user(user: User, kind: str, more: str, *, default: bool) -> Iterator[str]:
    """Yield the paths of an item below its account. ``default``: that is the one of CONFIG_DEFAULT_USER."""
    match kind:
        case "user":
            yield ""
        case "group" if not more and (user.admin or default):
            yield ".admin" if user.admin else ""
        case "group" if more in user.groups:
            yield f".groups[{user.groups.index(more)}]"
        case "account":
            yield f".options.{more}"
        case "key":
            yield from (f".keys[{at}]" for at, key in enumerate(user.keys) if fingerprint(key) == more)
        case _ if kind in _OF_ACCOUNT:
            yield f".{_OF_ACCOUNT[kind]}"


def fingerprint(key: str) -> str:
    """Return a public key's fingerprint, "" if it is no key."""
    try:
        return passwd.fingerprint(key)
    except ValueError:
        return ""


def _group(config: InstanceConfig, _kind: str, rest: str, _default: str) -> Iterator[str]:
    yield from (f"groups[{at}]" for at, group in enumerate(config.groups) if group.name == rest)


def _file(config: InstanceConfig, _kind: str, rest: str, _default: str) -> Iterator[str]:
    for field, files in (("files", config.files), ("deferred", config.deferred)):
        yield from (f"{field}[{at}]" for at, file in enumerate(files) if file.path == rest)


def _nic(config: InstanceConfig, kind: str, rest: str, _default: str) -> Iterator[str]:
    for at, nic in enumerate(config.nics):
        if str(nic.number) == rest:
            yield f"nics[{at}]" + (".options" if kind == "link" else "")


def _address(config: InstanceConfig, _kind: str, rest: str, _default: str) -> Iterator[str]:
    for at, nic in enumerate(config.nics):
        yield from (f"nics[{at}].addresses[{n}]" for n, one in enumerate(nic.addresses) if one == rest)


def _mount(config: InstanceConfig, _kind: str, rest: str, _default: str) -> Iterator[str]:
    for at, mount in enumerate(config.system.mounts if config.system else ()):
        if rest in (mount.mountpoint, mount.spec):
            yield f"system.mounts[{at}]"


def _swap(config: InstanceConfig, _kind: str, rest: str, _default: str) -> Iterator[str]:
    if config.system and config.system.swap and config.system.swap.path == rest:
        yield "system.swap"


def _apt(config: InstanceConfig, kind: str, rest: str, _default: str) -> Iterator[str]:
    apt = config.system.apt if config.system else None
    if apt is None:
        return
    if kind == "apt mirror":
        yield "system.apt.archive" if apt.archive else "system.apt.mirrors"
        return
    stem = rest.rpartition("/")[2]
    names = (f"gandi-{one.name}" for one in apt.sources)
    found = [at for at, name in enumerate(names) if stem in (f"{name}.sources", f"{name}.asc")]
    yield from (f"system.apt.sources[{at}]" for at in found)
    if not found:
        yield "system.apt.conf" if stem == "94gandi" else "system.apt.proxies"


_KINDS: dict[str, Callable[[InstanceConfig, str, str, str], Iterator[str]]] = {
    **dict.fromkeys(("user", "group", "account", "key", *_OF_ACCOUNT), _account),
    "groups": _group,
    "file": _file,
    **dict.fromkeys(("nic", "link"), _nic),
    "address": _address,
    "mount": _mount,
    "mounted": _mount,
    "swap": _swap,
    **dict.fromkeys(("apt", "apt mirror"), _apt),
}
