"""NICs that come and go while the machine runs.

A physical NIC that is new gets what the document has for it, else DHCP: that is the network step once more,
over all NICs, as at the boot. What is compared is who was here at the last look and who is here now, by the
kernel's number (ifindex): a driver that is loaded again brings a new one, a rename or another MAC does not.
"""

from __future__ import annotations

import threading

from agent.lib.text import WHITE
from agent.network import interfaces, nic_inventory, virtio_queues
from agent.report import Outcome, unchanged
from agent.udev import database

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from agent.context import Context
    from agent.host.host import Host
    from agent.network.interfaces import Interface
    from agent.report import Item

#: Seconds that a new NIC's name is waited for.
_PATIENCE = 10.0
_turn = threading.Lock()


def first(ctx: Context) -> None:
    """The first look of a boot, where the network step did not look: who is here now was here from the
    start.
    """
    nic_inventory.begin(ctx, present(ctx.host))


def present(host: Host) -> list[Interface]:
    """The physical NICs that are here; one that goes while it is looked at is not."""
    return [one for one in interfaces.physical(host) if one.index and one.mac]


def differ(ctx: Context) -> bool:
    """Whether others are here than were seen to, or the settings by which they were have changed."""
    before = nic_inventory.before(ctx.host)
    return before is not None and (before != _by_number(present(ctx.host)) or nic_inventory.outdated(ctx))


def handle(ctx: Context, configure: Callable[[], Iterable[Item]]) -> Iterator[Item]:
    """See to the NICs that have come or gone; ``configure`` is the network step.

    What failed is done again at the next look: these NICs are not remembered as seen to.
    """
    with _turn:
        first(ctx)
        _named(ctx)
        if differ(ctx):
            yield from _follow(ctx, configure)
        else:
            yield unchanged("network interfaces", f"{len(present(ctx.host))}, none has come or gone")
        yield from virtio_queues.tune(ctx)


def _named(ctx: Context) -> None:
    """Wait until udev has given the new ones their names; its event for another NIC may have come first."""
    before = nic_inventory.before(ctx.host) or {}

    def unnamed() -> list[str]:
        new = (one for one in present(ctx.host) if str(one.index) not in before)
        return [one.name for one in new if not interfaces.named_by_udev(ctx.host, one)]

    if ctx.host.live and (waiting := unnamed()):
        ctx.waiting(f"udev to name {', '.join(waiting)}")
        interfaces.wait(ctx.host, lambda: not unnamed(), _PATIENCE)
        ctx.waiting("")


def _follow(ctx: Context, configure: Callable[[], Iterable[Item]]) -> Iterator[Item]:
    from agent.programs import hooks

    before, there = nic_inventory.before(ctx.host) or {}, present(ctx.host)
    now, broken = _by_number(there), False
    for item in configure():
        broken = broken or item.outcome is Outcome.FAILED
        yield item
    for index, (name, _mac) in before.items():
        if index not in now:
            yield from hooks.run(
                ctx, "post-iface-detach", environment={"ACTION": "remove", "INTERFACE": name}
            )
    for one in there:
        if str(one.index) not in before:
            yield from hooks.run(ctx, "post-iface-attach", environment=_environment(ctx.host, one))
    if not broken:
        nic_inventory.store(ctx, there)


def _environment(host: Host, one: Interface) -> dict[str, str]:
    return database.interface(host, one.index) | {"ACTION": "add", "INTERFACE": one.name}


def _by_number(there: Iterable[Interface]) -> dict[str, tuple[str, str]]:
    return {str(one.index): (one.name, one.mac) for one in there}


def survey(ctx: Context) -> Iterator[tuple[str, str, str, str]]:
    """Each physical NIC for ``gandi-agent resources``: its name, state, what is done about it, and why."""
    host, settings = ctx.host, ctx.settings
    before = nic_inventory.before(host) or {}
    pairs = ctx.state.pairs() if ctx.state.identity() else {}
    documented = {mac: number for number, mac in pairs.items()}
    for one in present(host):
        state = (host.read(f"/sys/class/net/{one.name}/operstate") or "").strip(WHITE) or "unknown"
        if virtio_queues.has_several(host, one):
            state += f", {virtio_queues.in_use(host, one)} queues"
        if not settings.network:
            answer = "leave", "CONFIG_NETWORK=0"
        elif one.mac in documented:
            answer = "configure", f"NIC {documented[one.mac]} of the document"
        elif interfaces.names(host, one) & set(settings.nodhcp):
            answer = "leave", "in CONFIG_NODHCP"
        else:
            answer = "DHCP", "in no document, unless somebody else configures it"
        if str(one.index) not in before:
            answer = answer[0], f"{answer[1]}; not seen to yet"
        yield (one.name, state, *answer)
