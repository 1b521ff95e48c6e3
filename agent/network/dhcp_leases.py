"""Hooks for ifupdown's DHCP clients that keep a lease from replacing the resolvers of the document.

Where no resolvconf, systemd-resolved or NetworkManager merges resolvers of several origins, each client
replaces /etc/resolv.conf. ifupdown passes no option against that; the clients' own hooks can prevent it:
dhcpcd (dhcpcd-run-hooks(8)) has one file that all packages share, dhclient (dhclient-script(8)) a folder.
"""

from __future__ import annotations

from functools import partial

from agent.lib.records import dataclass
from agent.report import skipped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context
    from agent.report import Item

_HEADER = "# Written by gandi-agent: the resolvers are its document's. Once changed, it is left alone.\n"


@dataclass(frozen=True, slots=True)
class Hook:
    """A client's hook: the file, and the line of shell that keeps the client from writing resolvers."""

    client: str
    path: str
    line: str


HOOKS = (
    Hook("dhcpcd", "/etc/dhcpcd.enter-hook", 'skip_hooks="$skip_hooks resolv.conf"\n'),
    Hook("dhclient", "/etc/dhcp/dhclient-enter-hooks.d/gandi-resolvers", "make_resolv_conf() { :; }\n"),
)


def reconcile(ctx: Context, prefix: str, *, exposed: bool) -> Iterator[Item]:
    """Install the hooks if /etc/resolv.conf is ``exposed`` to the clients; otherwise remove them.

    A hook file that the administrator wrote is kept. ``prefix`` begins the names of the items.
    """
    for hook in HOOKS:
        name = f"{prefix} ({hook.client})"
        live, written, text = (
            ctx.host.read(hook.path),
            name in ctx.state.recorded_items(name),
            _HEADER + hook.line,
        )
        if written and not exposed:
            yield ctx.state.withdraw(name, live=live, undo=partial(ctx.host.remove, hook.path))
        elif exposed and live not in (None, text) and not written:
            if hook.line not in live:
                yield skipped(
                    name,
                    f"{hook.path} was not written by the agent: kept;"
                    f" to ignore the resolvers of leases, add the line: {hook.line[:-1]}",
                )
        elif exposed and ctx.host.which(hook.client):
            yield ctx.state.reconcile(
                name,
                delivered=hook.line,
                wanted=text,
                live=live,
                apply=partial(ctx.host.write, hook.path, text),
                exclusive=True,
                detail=hook.path,
            )
