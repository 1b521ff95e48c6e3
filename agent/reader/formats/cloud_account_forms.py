"""The other forms of ``user``, ``users`` and ``groups`` of ``#cloud-config``, converted before validation.

Format: cloud-init's module reference (cc_users_groups).
"""

from __future__ import annotations

from agent.lib.text import WHITE, delivered_lines
from agent.reader.common.bounds import Typed, Unreadable
from agent.reader.common.lenient import plain
from agent.reader.common.merge import USERS
from agent.reader.common.password_hashes import is_lock, is_meant
from agent.reader.common.problem import Problem, path
from agent.reader.common.values import is_false

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

#: The name of the default account in ``users``.
DEFAULT_NAME = "default"
#: Maximum groups of an account, and maximum names in one string.
_GROUPS = 256
#: Keys that are read before the document is validated.
_KEYS = ("user", "users", "groups", "name", "packages", "ntp", "growpart", "vendor_data")
_CHPASSWD = "chpasswd"
#: Passwords that ask for a random one.
RANDOM = ("R", "RANDOM")
#: Keys of an account of which each entry adds more.
_ADDED = ("groups", "ssh_authorized_keys")


def normalise(document: dict[str, Any]) -> list[Problem]:
    """Convert them into dictionaries and lists of them, with one entry for each account. Return a problem
    for each value that is not used, as there are two of it.
    """
    _spell(document)
    if document.get("user") in (None, "", [], {}):
        document.pop("user", None)
    if user := document.get("user"):
        document["user"] = {"name": user.strip(WHITE)} if isinstance(user, str) else user
        if isinstance(user, dict):
            _spell(user)
            user.setdefault("name", DEFAULT_NAME)
    problems: list[Problem] = []
    if "users" in document:
        document["users"] = _users(document["users"], problems)
    if "groups" in document:
        document["groups"] = in_place(map(_groups, listed(document["groups"])))
    for account in (document.get("user"), *document.get("users", ())):
        if isinstance(account, dict):
            _spell(account)
            if "groups" in account:
                account["groups"] = _names(account["groups"])
    return [*problems, *_joined(document.get("user"), document.get("users", []))]


def has_plain_password(written: Any, *, below: str = "") -> bool:
    """Return whether there is a password in plain text, or what may be one, also in items that are left out;
    ``below``: the key that it is the value of.
    """
    if isinstance(written, dict):
        return any(
            has_plain_password(one, below=below if below == _CHPASSWD else plain(key))
            for key, one in written.items()
            if below != _CHPASSWD or plain(key) not in ("name", "type", "expire")
        )
    if isinstance(written, list):
        return any(has_plain_password(one, below=below) for one in written)
    if not isinstance(written, str) or "passw" not in below or below.startswith("lock"):
        return False
    lines = [line for line in delivered_lines(written) if line]
    if below == _CHPASSWD:
        lines = [line.partition(":")[2] or line for line in lines]
    return not all(is_meant(line.lstrip("!")) or is_lock(line) or line in RANDOM for line in lines)


def _spell(document: dict[str, Any]) -> None:
    """Spell the keys that are read here as they are declared."""
    for key in [key for key in document if key not in _KEYS]:
        name = plain(key)
        if name in _KEYS and name not in document:
            document[name] = document.pop(key)


def in_place(lists: Iterable[list[Any]]) -> list[Any]:
    """Return the items of the lists: the first of each at the place of its list, which messages name, and
    the others after them.
    """
    first, more = [], []
    for found in lists:
        first.append(found[0] if found else None)
        more += found[1:]
    return [*first, *more]


def listed(written: Any) -> list[Any]:
    """Return a list, or one of its only item."""
    return written if isinstance(written, list) else [written]


def _users(written: Any, problems: list[Problem]) -> list[Any]:
    """Return each account as a dictionary, and what cannot be one unchanged. ``default`` alone says nothing:
    keys and passwords without a name are that account's in any case.
    """
    if isinstance(written, dict):
        is_account = any(plain(key) == "name" and isinstance(one, str) for key, one in written.items())
        return [written] if is_account else list(_users_of_dictionary(written, problems))
    if isinstance(written, Typed):
        wrong = Unreadable("not an account", "write its name, or a list of accounts")
        return [] if is_false(written) else [wrong]
    return in_place(map(_accounts, listed(written)))


def _accounts(written: Any) -> list[Any]:
    if not isinstance(written, str):
        return [written]
    return [{"name": name} for name in _split(written, USERS) if name != DEFAULT_NAME]


def _users_of_dictionary(written: dict[str, Any], problems: list[Problem]) -> Iterator[Any]:
    for name, one in written.items():
        if isinstance(one, dict):
            yield {"name": name} | one
        elif is_false(one):
            continue
        elif one is not None and str(one).lower() not in ("true", "yes", "on", "1"):
            what = "neither a dictionary nor true or false: left out"
            problems.append(Problem(path(("users", name)), what, "write the account's keys, or true"))
        elif name != DEFAULT_NAME:
            yield {"name": name}


def _joined(user: Any, users: list[Any]) -> Iterator[Problem]:
    """Join the entries of each account in the first, of which the values count, as in cloud-init; yield a
    problem for each other value.
    """
    known: dict[str, tuple[str, dict[str, Any]]] = {}
    if isinstance(user, dict):
        known = {name: ("user", user) for name in (DEFAULT_NAME, _name(user)) if name}
    for place, account in enumerate(users):
        name = _name(account) if isinstance(account, dict) else ""
        if name in known:
            users[place] = None
            yield from _join(*known[name], f"users[{place}]", account)
        elif name:
            known[name] = f"users[{place}]", account


def _name(account: dict[str, Any]) -> str:
    name = account.get("name")
    return name.strip(WHITE) if isinstance(name, str) else ""


def _join(at: str, first: dict[str, Any], other_at: str, other: dict[str, Any]) -> Iterator[Problem]:
    # Null is a default, but for sudo it says that there is no rule.
    spelled = {plain(key): key for key, given in first.items() if given is not None or plain(key) == "sudo"}
    for key, given in other.items():
        mine = spelled.get(plain(key))
        if mine is None:
            first[key] = given
        elif plain(mine) in _ADDED:
            first[mine] = [*listed(first[mine]), *listed(given)]
        elif mine != "name" and given is not None and given != first[mine]:
            what = f"not used: the account has another value in {at}"
            yield Problem(f"{other_at}.{key}", what, "write the account once")


def _groups(written: Any) -> list[Any]:
    """Return the groups of one item."""
    if isinstance(written, dict) and "name" in written and {"gid", "members"} & set(map(plain, written)):
        return [Unreadable("keys that a group does not have", "write NAME: [MEMBER, …]")]
    if isinstance(written, dict):
        return [{"name": name, "members": _names(members)} for name, members in written.items()]
    if isinstance(written, str):
        return [{"name": name} for name in _split(written, _GROUPS)]
    return [written]


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
    if isinstance(written, dict) and all(one is None for one in written.values()):
        written = list(written)
    if not isinstance(written, list):
        return written
    found = [one for one in written if one is not None and one != ""]
    return found if len(found) <= _GROUPS else Unreadable(f"more than {_GROUPS} names")
