"""Compare each item with what the agent left, by a dry run of the steps: the same code as at a boot reads
the live values, and ``State.reconcile`` compares them. Nothing is changed.

The stored document is taken, and no medium is looked for: what counts is what was applied.
"""

from __future__ import annotations

import os
import stat
from functools import partial

from agent import sources, stages
from agent.accounts import passwd
from agent.config.settings import variable
from agent.context import Context, context
from agent.host.host import File, Host
from agent.lib.errors import AgentError
from agent.lib.records import dataclass, field
from agent.report import Item, Outcome
from agent.state import json_file
from agent.steps import resolver

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from agent.state.compared import Compared
    from agent.state.store import State

#: The steps that give their items to State.reconcile.
STEPS = frozenset(
    {
        *("hostname", "network", "resolver", "users", "files", "mounts", "ssh", "sysctl", "system files"),
        *("cron", "timezone", "locale", "keyboard", "ntp", "ca certificates", "swap file", "apt", "motd"),
        *("deferred files", "fsck", "serial consoles"),
    }
)
#: Files of the items that programs of the passwd package change.
_ACCOUNT_FILES = {
    **dict.fromkeys(("user", "shell", "account"), "/etc/passwd"),
    **dict.fromkeys(("password", "lock"), "/etc/shadow"),
    **dict.fromkeys(("group", "groups"), "/etc/group"),
}
#: Where the agent keeps its own files; those of this boot.
_OWN = (f"{json_file.FOLDER}/", "/run/")
GONE, CHANGED = "removed", "changed"
_NOT_REACHED = "the document does not have it any more, or its step did not reach it"


@dataclass(frozen=True, slots=True)
class Finding:
    """One item as it is now. ``change``: how it differs from what the agent left, "" if it does not."""

    name: str
    stage: str
    step: str
    change: str = ""
    #: What the step says of it (the interface of a NIC, the servers), without a secret.
    detail: str = ""
    #: The files that it is in.
    files: tuple[str, ...] = ()
    #: Unix time in seconds when it was applied, None if unknown.
    applied: int | None = None
    #: "": the agent has applied it; else why it has not.
    note: str = ""
    #: The settings that switch its step off.
    settings: tuple[str, ...] = ()


@dataclass(slots=True)
class Comparison:
    """The result. ``left_out``: what could not be compared, and why; ``has_failed``: some of it could not
    be read.
    """

    ctx: Context
    findings: list[Finding] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    has_failed: bool = False

    def found(self, name: str) -> Finding | None:
        """Return the finding of an item."""
        return next((one for one in self.findings if one.name == name), None)

    def is_intact(self, name: str) -> bool:
        """Return whether the agent has applied the item, and it is as it was left."""
        one = self.found(name)
        return one is not None and not one.change and not one.note


class _Noting(Host):
    """A dry run that notes what an item writes to which file, also where nothing would change; None for a
    link.
    """

    def __init__(self, host: Host) -> None:
        super().__init__(host.root, dry_run=True, offline=host.offline, debug=host.debug)
        self.noted: dict[str, File | None] = {}

    def write(
        self,
        name: str,
        data: str | bytes,
        *,
        mode: int = 0o644,
        owner: tuple[int, int] = (0, 0),
        sync: bool = False,
    ) -> bool:
        content = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
        self.noted[name] = File(content, mode, owner)
        return super().write(name, data, mode=mode, owner=owner, sync=sync)

    def symlink(self, name: str, target: str, *, owner: tuple[int, int] = (0, 0)) -> bool:
        self.noted[name] = None
        host = Host
        return host.symlink(self, name, target, owner=owner)


def compare(host: Host) -> Comparison:
    """Return every item that the steps reach, and the recorded ones that they do not. Raise HostError if the
    stored document cannot be read.
    """
    noting = _Noting(host)
    ctx = context(noting)
    result, unread = Comparison(ctx), dict[str, Item]()
    why_disabled = sources.why_disabled(ctx)
    ctx.config = None if why_disabled else ctx.state.config()
    for stage, steps in stages.STAGES.items():
        for step in steps:
            if step.name not in STEPS or not stages.is_due(ctx, step):
                continue
            seen: list[tuple[Compared, Mapping[str, File | None]]] = []
            ctx.state.watch = partial(_watch, noting, seen)
            report = stages.run_step(ctx, step)
            ctx.state.watch = None
            said = {item.name: item for item in report.items}
            place = partial(
                Finding, stage=stage, step=step.name, settings=tuple(map(variable, step.settings))
            )
            for compared, files in seen:
                item = said.get(compared.name)
                detail = item.detail if item and item.outcome is Outcome.UNCHANGED else ""
                result.findings.append(_finding(ctx, compared, files, detail, place))
            for item in report.items:
                if item.outcome in (Outcome.SKIPPED, Outcome.FAILED):
                    unread[item.name] = item
    _add_plain_passwords(result)
    _add_left_out(result, unread, why_disabled)
    return result


def _watch(
    host: _Noting,
    seen: list[tuple[Compared, Mapping[str, File | None]]],
    compared: Compared,
    apply: Callable[[], object],
) -> None:
    host.noted = {}
    try:
        apply()
    except (AgentError, OSError) as error:
        # It could not be applied now, for example where a file that it makes is there: only its files are
        # not known then.
        if host.debug:
            host.debug(f"item {compared.name}: its files are not known: {type(error).__name__}")
    seen.append((compared, host.noted))


def _finding(
    ctx: Context,
    compared: Compared,
    written: Mapping[str, File | None],
    detail: str,
    place: Callable[..., Finding],
) -> Finding:
    files = {name: what for name, what in written.items() if not name.startswith(_OWN)}
    note = ""
    if compared.is_before_us:
        note = "as it was before the agent"
    elif not compared.is_recorded:
        note = "never applied"
    elif compared.is_found:
        note = "was as delivered when it was first compared"
    change = ""
    if compared.is_recorded and not compared.is_found:
        modes = (_mode(ctx.host, name, what) for name, what in files.items())
        change = next(filter(None, modes), "")
    if compared.has_drifted and not change:
        change = GONE if compared.live == "missing" else CHANGED
    return place(
        compared.name,
        change=change,
        detail=detail,
        files=tuple(files) or _known_files(ctx, compared.name),
        applied=compared.at,
        note=note,
    )


def _mode(host: Host, name: str, left: File | None) -> str:
    """Return how mode and owner of a file with the content that was left differ, "" if they do not."""
    try:
        there = host.read_file(name) if left else None
    except AgentError:  # no regular file: its content is not the one that was left
        return ""
    if left is None or there is None or there.content != left.content:
        return ""
    if there.mode != left.mode:
        return f"mode {stat.S_IMODE(there.mode):04o}, left as {left.mode:04o}"
    if os.geteuid() == 0 and there.owner != left.owner:
        now, then = (f"{uid}:{gid}" for uid, gid in (there.owner, left.owner))
        return f"owner {now}, left as {then}"
    return ""


def _known_files(ctx: Context, name: str) -> tuple[str, ...]:
    """Return the file of an item that Host does not write."""
    kind, _, rest = name.partition(":")
    if kind == "key" and (owner := passwd.account(ctx.host, rest.partition(":")[0])):
        return (passwd.keys_file(ctx.host, owner),)
    swap = ctx.config.system.swap if ctx.config and ctx.config.system else None
    if kind == "swap file" and swap:
        return (swap.path,)
    return (_ACCOUNT_FILES[kind],) if kind in _ACCOUNT_FILES else ()


def _recorded(ctx: Context) -> dict[str, State]:
    system = ctx.state.system()
    found = dict.fromkeys(system.recorded_items(""), system)
    if ctx.state.identity() is not None:
        found |= dict.fromkeys(ctx.state.recorded_items(""), ctx.state)
    found.pop(resolver.KEPT_IN, None)
    return found


def _add_plain_passwords(result: Comparison) -> None:
    """Compare the passwords that were delivered as plain text: no step has the delivered value any more."""
    ctx = result.ctx
    place = partial(Finding, stage=stages.Stage.BOOTSTRAP, step="users")
    for name in filter(lambda name: name.startswith("password:"), _recorded(ctx)):
        account = name.partition(":")[2]
        if result.found(name) or passwd.account(ctx.host, account) is None:
            continue
        compared = ctx.state.compared(name, passwd.password(ctx.host, account))
        detail = "delivered as plain text, which is not stored"
        result.findings.append(_finding(ctx, compared, {}, detail, place))


def _add_left_out(result: Comparison, unread: Mapping[str, Item], why_disabled: str) -> None:
    """Add the recorded items that were not compared. ``unread``: items and steps, skipped or failed."""
    compared = {one.name for one in result.findings}
    accounts = (one for one in result.findings if one.name.startswith("user:"))
    gone = {one.name.partition(":")[2] for one in accounts if one.change}
    for name in sorted(_recorded(result.ctx).keys() - compared):
        kind, _, rest = name.partition(":")
        if kind in (*_ACCOUNT_FILES, "key", "sudo") and rest.partition(":")[0] in gone:
            continue  # the account is gone, and is an item itself
        why = unread.get(name) or unread.get(step_of(name))
        result.has_failed |= why is not None and why.outcome is Outcome.FAILED
        result.left_out[name] = why.detail if why else why_disabled or _NOT_REACHED


def step_of(name: str) -> str:
    """Return the step of a recorded item."""
    kind = name.partition(":")[0].partition(" (")[0]
    return _STEP_OF.get(kind, kind)


_STEP_OF = {
    **dict.fromkeys((*_ACCOUNT_FILES, "key", "sudo"), "users"),
    **dict.fromkeys(("hosts", "mailname"), "hostname"),
    **dict.fromkeys(("nic", "dhcp", "link", "nic parameters"), "network"),
    **dict.fromkeys(("resolvers", "resolvers of leases"), "resolver"),
    **dict.fromkeys(("localhost", "fstab"), "system files"),
    "file": "files",
    "mount": "mounts",
    "sshd": "ssh",
    "apt mirror": "apt",
}


def changes(findings: Iterable[Finding]) -> list[Finding]:
    """Return those that are no longer as the agent left them."""
    return [one for one in findings if one.change]
