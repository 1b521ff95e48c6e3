"""What ifupdown's DHCP clients are told, so that a lease leaves the resolvers of the document alone.

Each client writes /etc/resolv.conf whole where nobody (resolvconf, systemd-resolved, NetworkManager) keeps
the resolvers of several origins. ifupdown passes them no option for that; their own hooks do: of dhcpcd
(dhcpcd-run-hooks(8)) one file for everybody, of dhclient (dhclient-script(8)) a folder.
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
    """A client's hook: the file, and the shell that keeps the client from writing resolvers."""

    client: str
    path: str
    line: str


HOOKS = (
    Hook("dhcpcd", "/etc/dhcpcd.enter-hook", 'skip_hooks="$skip_hooks resolv.conf"\n'),
    Hook("dhclient", "/etc/dhcp/dhclient-enter-hooks.d/gandi-resolvers", "make_resolv_conf() { :; }\n"),
)


def settle(ctx: Context, prefix: str, *, exposed: bool) -> Iterator[Item]:
    """Keep the resolvers of leases out where /etc/resolv.conf is ``exposed`` to the clients; else undo that.

    ``prefix`` begins the names of the items.
    """
    for hook in HOOKS:
        name = f"{prefix} ({hook.client})"
        live, mine, text = ctx.host.read(hook.path), name in ctx.state.applied(name), _HEADER + hook.line
        if mine and not exposed:
            yield ctx.state.withdraw(name, live=live, undo=partial(ctx.host.remove, hook.path))
        elif exposed and live not in (None, text) and not mine:
            if hook.line not in live:
                yield skipped(
                    name, f"{hook.path} is the administrator's; to keep them out it needs: {hook.line[:-1]}"
                )
        elif exposed and ctx.host.which(hook.client):
            yield ctx.state.settle(
                name,
                delivered=hook.line,
                wanted=text,
                live=live,
                apply=partial(ctx.host.write, hook.path, text),
                own=True,
                detail=hook.path,
            )
