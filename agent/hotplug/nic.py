"""NICs that are added and removed while the machine runs.

A new physical NIC gets its configuration from the document, else DHCP: the network step is run again over
all NICs, as at the boot. The NICs of the last scan are compared with those present by ifindex. A driver that
is loaded again makes a new ifindex; a rename or another MAC does not.
"""

from __future__ import annotations

import threading

from agent.lib.errors import HostError
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

#: Seconds to wait until udev has named a new NIC.
_TIMEOUT = 10.0
_lock = threading.Lock()


def record_first_scan(ctx: Context) -> None:
    """Record the present NICs as present from the start, unless the network step has recorded them."""
    nic_inventory.record_first_scan(ctx, present(ctx.host))


def present(host: Host) -> list[Interface]:
    """Return the physical NICs that are present, without those removed during the scan."""
    return [nic for nic in interfaces.physical(host) if nic.index and nic.mac]


def has_changes(ctx: Context) -> bool:
    """Return whether NICs, or settings that concern them, have changed since they were last
    handled, or a changed network has yet to be judged."""
    before = nic_inventory.recorded(ctx.host)
    return before is not None and (
        before != _by_index(present(ctx.host))
        or nic_inventory.have_settings_changed(ctx)
        or _is_undecided(ctx)
    )


def _is_undecided(ctx: Context) -> bool:
    try:
        if not nic_inventory.has_guard(ctx):
            return False
        from agent.network import rollback

        return rollback.is_undecided(ctx)
    except HostError:  # damaged state: the network step reports it
        return False


def handle(ctx: Context, configure: Callable[[], Iterable[Item]]) -> Iterator[Item]:
    """Handle the NICs that were added or removed; ``configure`` is the network step.

    After a failure they are not recorded as handled, so the next event tries again.
    """
    with _lock:
        record_first_scan(ctx)
        _wait_for_names(ctx)
        if has_changes(ctx):
            yield from _configure(ctx, configure)
        else:
            yield unchanged("network interfaces", f"{len(present(ctx.host))} present, none added or removed")
        yield from virtio_queues.reconcile(ctx)


def _wait_for_names(ctx: Context) -> None:
    """Wait until udev has named all new NICs: the event may be that of another one."""
    before = nic_inventory.recorded(ctx.host) or {}

    def unnamed() -> list[str]:
        new = (nic for nic in present(ctx.host) if str(nic.index) not in before)
        return [nic.name for nic in new if not interfaces.is_named_by_udev(ctx.host, nic)]

    if ctx.host.live and (waiting := unnamed()):
        with ctx.waiting(f"udev to name {', '.join(waiting)}"):
            interfaces.wait_for_change(ctx.host, lambda: not unnamed(), _TIMEOUT)


def _configure(ctx: Context, configure: Callable[[], Iterable[Item]]) -> Iterator[Item]:
    from agent.programs import hooks

    before, there = nic_inventory.recorded(ctx.host) or {}, present(ctx.host)
    now, broken = _by_index(there), False
    for item in configure():
        broken = broken or item.outcome is Outcome.FAILED
        yield item
    for index, (name, _mac) in before.items():
        if index not in now:
            yield from hooks.run(
                ctx, "post-iface-detach", environment={"ACTION": "remove", "INTERFACE": name}
            )
    for nic in there:
        if str(nic.index) not in before:
            facts = database.interface(ctx.host, nic.index) | {"ACTION": "add", "INTERFACE": nic.name}
            yield from hooks.run(ctx, "post-iface-attach", environment=facts)
    if not broken:
        nic_inventory.store(ctx, there)


def _by_index(there: Iterable[Interface]) -> dict[str, tuple[str, str]]:
    return {str(nic.index): (nic.name, nic.mac) for nic in there}


def survey(ctx: Context) -> Iterator[tuple[str, str, str, str]]:
    """Yield the rows of ``gandi-agent resources``: name, state, action and reason of each physical NIC."""
    host, settings = ctx.host, ctx.settings
    before = nic_inventory.recorded(host) or {}
    pairs = ctx.state.nic_pairs() if ctx.state.identity() else {}
    documented = {mac: number for number, mac in pairs.items()}
    for nic in present(host):
        state = (host.read(f"/sys/class/net/{nic.name}/operstate") or "").strip(WHITE) or "unknown"
        if virtio_queues.is_multiqueue(host, nic):
            state += f", {virtio_queues.queue_count(host, nic)} queues"
        if not settings.network:
            answer = "leave", "CONFIG_NETWORK=0"
        elif nic.mac in documented:
            answer = "configure", f"NIC {documented[nic.mac]} of the document"
        elif interfaces.names(host, nic) & set(settings.nodhcp):
            answer = "leave", "in CONFIG_NODHCP"
        else:
            answer = "DHCP", "not in the document; only if nothing else configures it"
        if str(nic.index) not in before:
            answer = answer[0], f"{answer[1]}; not handled yet"
        yield (nic.name, state, *answer)
