"""Which NICs this machine has: waited for at the boot, and remembered for the rest of it (/run/gandi).

What has been here in this boot tells a NIC that was unplugged from one that is only late, and a new one from
one that was there all the time.
"""

from __future__ import annotations

from agent.network import interfaces
from agent.state import boot_cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from agent.config.model import Nic
    from agent.context import Context
    from agent.host.host import Host
    from agent.network.interfaces import Interface

#: Seconds that the boot waits for the document's NICs to be there.
_PATIENCE = 10.0


def find(ctx: Context, nics: tuple[Nic, ...], stored: dict[int, str], *, by_name: bool) -> list[Interface]:
    """The NICs, once there are as many as the document has and among them those that are known, or udev has
    no more to say: its drivers load late, and another NIC must not take the place of one that does. Where
    names count (in the manager's files, or to tell who configures another NIC), once they have theirs.
    """
    if ctx.host.offline:
        return interfaces.foretold(nics, by_name=by_name)
    gone = set(unplugged(ctx.host, interfaces.physical(ctx.host)))
    macs = (nic.mac or stored.get(nic.number) for nic in nics)
    known = {mac for mac in macs if mac} - gone
    expected = max(sum((nic.mac or stored.get(nic.number)) not in gone for nic in nics), 1)
    found: list[Interface] = []

    def complete() -> bool:
        # What is found complete is used: while udev renames a NIC, the next look may miss it.
        nonlocal found
        found = interfaces.physical(ctx.host)
        # Where one is not alone, its kernel parameters go by its name too.
        if by_name or len(found) > min(len(nics), 1):
            if not all(interfaces.named_by_udev(ctx.host, one) for one in found):
                return False
            # udev's record comes after the name: what was read before it may be the one before.
            found = interfaces.physical(ctx.host)
        return len(found) >= expected and known <= {one.mac for one in found}

    if not complete() and ctx.host.live and not ctx.host.dry_run:
        ctx.waiting(f"udev to find {len(nics) or 'the'} network interfaces")
        interfaces.wait(ctx.host, complete, _PATIENCE)
        ctx.waiting("")
    return found


def begin(ctx: Context, there: Iterable[Interface]) -> None:
    """Remember the NICs of the first look of this boot; who handles one that comes or goes updates it."""
    if not ctx.host.offline and _record(ctx.host) is None:
        store(ctx, there)


def store(ctx: Context, there: Iterable[Interface]) -> None:
    """Remember that these NICs, and no others, are here and were seen to by the settings in force."""
    here = {str(one.index): [one.name, one.mac] for one in there if one.index}
    were = {mac for _name, mac in here.values()} | set((_record(ctx.host) or {}).get("were", ()))
    boot_cache.store(ctx.host, boot_cache.NICS, {"here": here, "were": sorted(were), "by": _settings(ctx)})


def before(host: Host) -> dict[str, tuple[str, str]] | None:
    """Name and MAC by number of the NICs that were here at the last look; None before the first one."""
    found = _record(host)
    return None if found is None else {index: (name, mac) for index, (name, mac) in found["here"].items()}


def outdated(ctx: Context) -> bool:
    """Whether the settings that decide about NICs are others than at the last look."""
    found = _record(ctx.host)
    return found is not None and found.get("by") != _settings(ctx)


def _settings(ctx: Context) -> list[object]:
    now = ctx.settings
    return [now.network, list(now.nodhcp), now.renderer, now.ipv6_slaac, now.sysctl]


def held(host: Host, there: Iterable[Interface]) -> list[Interface]:
    """Those of the NICs that have been here in this boot already."""
    were = set((_record(host) or {}).get("were", ()))
    return [one for one in there if one.mac in were]


def unplugged(host: Host, there: Iterable[Interface]) -> set[str]:
    """The MACs of those that have been here in this boot and are not any more."""
    return set((_record(host) or {}).get("were", ())) - {one.mac for one in there}


def _record(host: Host) -> dict[str, Any] | None:
    found = boot_cache.load(host, boot_cache.NICS)
    return found if found and isinstance(found.get("here"), dict) else None
