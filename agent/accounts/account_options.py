"""What few documents deliver of an account: its uid, home, primary group, comment and dates.

For a new account it goes to useradd(8). Afterwards each is an item of its own; the uid and the home of an
existing account are not changed, as its files would keep the old ones.
"""

from __future__ import annotations

from agent.accounts import passwd
from agent.lib.errors import ConfigError
from agent.lib.records import replace
from agent.report import guarded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.accounts.changes import Changes, NewAccount
    from agent.accounts.file_changes import FileChanges
    from agent.accounts.passwd import Account
    from agent.config.model import AccountOptions, User
    from agent.host.host import Host
    from agent.report import Item
    from agent.state.store import State

#: Fields of shadow(5).
_INACTIVE, _EXPIRES = 6, 7
_COMMENT = 4


def for_new_account(host: Host, options: AccountOptions, new: NewAccount) -> NewAccount:
    """Return the new account with these options; a delivered primary group is made if it is missing."""
    if options.primary_group:
        _make_group(host, options)
        new = replace(new, group=options.primary_group, own_group=False)
    elif not options.user_group:
        new = replace(new, group="", own_group=False)
    return replace(
        new,
        uid=options.uid,
        home=options.home,
        shell="" if options.system else new.shell,
        create_home=options.create_home,
        system=options.system,
        log_init=options.log_init,
    )


def reconcile(state: State, user: User) -> Iterator[Item]:
    """Reconcile each delivered option of an existing account."""
    options, there = user.options, passwd.account(state.host, user.name)
    if options is None or there is None:
        return
    given = _Given(state, user.name, options, there)
    for what, wanted, item in (
        ("uid", options.uid is not None, given.uid),
        ("home", options.home, given.home),
        ("primary group", options.primary_group, given.primary_group),
        ("comment", options.gecos is not None, given.comment),
        ("inactive", options.inactive is not None, given.inactive),
        ("expires", options.expires, given.expires),
    ):
        if wanted:
            name = f"account:{user.name}:{what}"
            yield from guarded(name, item(name))


class _Given:
    """The items of one account, each by a method that gets the item's name."""

    def __init__(self, state: State, name: str, options: AccountOptions, there: Account) -> None:
        self.state, self.name, self.options, self.there = state, name, options, there

    @property
    def change(self) -> Changes | FileChanges:
        """What changes the account."""
        from agent.accounts.changes import changes

        return changes(self.state.host)

    def uid(self, item: str) -> Iterator[Item]:
        yield self._item(item, str(self.options.uid), str(self.there.uid))

    def home(self, item: str) -> Iterator[Item]:
        yield self._item(item, self.options.home, self.there.home)

    def primary_group(self, item: str) -> Iterator[Item]:
        host, group = self.state.host, self.options.primary_group
        is_its = passwd.group(host, group) == self.there.gid
        live = group if is_its else str(self.there.gid)

        def change() -> None:
            if not is_its:
                _make_group(host, self.options)
            self.change.set_group(self.name, group)

        yield self._item(item, group, live, change)

    def comment(self, item: str) -> Iterator[Item]:
        live = passwd.field(self.state.host, "/etc/passwd", self.name, _COMMENT)
        comment = self.options.gecos or ""
        yield self._item(item, comment, live, lambda: self.change.set_comment(self.name, comment))

    def inactive(self, item: str) -> Iterator[Item]:
        live = passwd.field(self.state.host, "/etc/shadow", self.name, _INACTIVE)
        days = str(self.options.inactive)
        yield self._item(item, days, live, lambda: self.change.set_inactive(self.name, days))

    def expires(self, item: str) -> Iterator[Item]:
        import datetime

        live = passwd.field(self.state.host, "/etc/shadow", self.name, _EXPIRES)
        # shadow(5) counts the days from the first of January 1970.
        day = str((datetime.date.fromisoformat(self.options.expires) - datetime.date(1970, 1, 1)).days)

        def change() -> None:
            self.change.set_expiry(self.name, day)

        yield self._item(item, self.options.expires, live, change, wanted=day)

    def _item(
        self,
        item: str,
        value: str,
        live: str | None,
        change: Callable[[], None] | None = None,
        *,
        wanted: str = "",
    ) -> Item:
        def apply() -> None:
            if change is None:
                raise ConfigError(
                    f"{self.name} exists with another one, {live}",
                    hint=f"remove the account or change it by hand, or deliver {live}",
                )
            change()

        return self.state.reconcile(item, delivered=value, wanted=wanted or value, live=live, apply=apply)


def _make_group(host: Host, options: AccountOptions) -> None:
    from agent.accounts import shadow

    shadow.make_group(host, options.primary_group, create=options.create_groups)
