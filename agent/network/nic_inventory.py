"""The NICs of this machine: waited for at the boot, then recorded below /run/gandi.

The record of NICs seen in this boot distinguishes an unplugged NIC from one that appears late, and a new one
from one that was present from the start.
"""

from __future__ import annotations

from agent.network import interfaces
from agent.state import boot_cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from agent.config.nics import Nic
    from agent.context import Context
    from agent.host.host import Host
    from agent.network.interfaces import Interface

#: Seconds that the boot waits for the document's NICs to appear.
_TIMEOUT = 10.0


def wait_for_nics(
    ctx: Context, nics: tuple[Nic, ...], stored: dict[int, str], *, by_name: bool
) -> list[Interface]:
    """Wait for the document's NICs, then return the physical NICs of this machine.

    The wait ends when there are as many NICs as in the document, among them all with a known MAC (the
    document's, or ``stored`` by number), or when udev is idle: a driver may load late, and another NIC must
    not take the place of its NIC. Where names count (``by_name``, in the document, or with several NICs),
    udev must also have named each.
    """
    if ctx.host.offline:
        return interfaces.identified_by_document(nics, by_name=by_name)
    gone = set(unplugged(ctx.host, interfaces.physical(ctx.host)))
    macs = [nic.mac or stored.get(nic.number) for nic in nics]
    awaited = {mac for mac in macs if mac} - gone
    expected = max(sum(mac not in gone for mac in macs), 1)
    named = any(nic.name or nic.match or interfaces.given_name(nic) for nic in nics)
    present: list[Interface] = []

    def complete() -> bool:
        # The list that was complete is returned: a NIC that udev renames may be missing from a later one.
        nonlocal present
        present = interfaces.physical(ctx.host)
        # With several NICs, kernel parameters are written by name too.
        if by_name or named or len(present) > min(len(nics), 1):
            if not all(interfaces.is_named_by_udev(ctx.host, interface) for interface in present):
                return False
            # udev writes its record after the rename: a name read before the record may be the old one.
            present = interfaces.physical(ctx.host)
        return len(present) >= expected and awaited <= {interface.mac for interface in present}

    if not complete() and ctx.host.live and not ctx.host.dry_run:
        with ctx.waiting(f"udev to find {len(nics) or 'the'} network interfaces"):
            interfaces.wait_for_change(ctx.host, complete, _TIMEOUT)
    return present


def record_first_scan(ctx: Context, there: Iterable[Interface]) -> None:
    """Record the NICs present at the first scan of this boot; later, only ``store`` changes the record."""
    if not ctx.host.offline and _record(ctx.host) is None:
        store(ctx, there)


def store(ctx: Context, there: Iterable[Interface]) -> None:
    """Record that exactly these NICs are present and were handled with the current settings."""
    here = {str(nic.index): [nic.name, nic.mac] for nic in there if nic.index}
    were = {mac for _name, mac in here.values()} | set((_record(ctx.host) or {}).get("were", ()))
    boot_cache.store(ctx.host, boot_cache.NICS, {"here": here, "were": sorted(were), "by": _settings(ctx)})


def recorded(host: Host) -> dict[str, tuple[str, str]] | None:
    """Return name and MAC by ifindex of the NICs at the last scan; None before the first scan."""
    record = _record(host)
    return None if record is None else {index: (name, mac) for index, (name, mac) in record["here"].items()}


def have_settings_changed(ctx: Context) -> bool:
    """Return whether the settings that concern NICs have changed since the last scan."""
    record = _record(ctx.host)
    return record is not None and record.get("by") != _settings(ctx)


def _settings(ctx: Context) -> list[object]:
    now = ctx.settings
    return [now.network, list(now.nodhcp), now.renderer, now.ipv6_slaac, now.sysctl]


def seen_before(host: Host, there: Iterable[Interface]) -> list[Interface]:
    """Return those of the NICs that were seen in this boot before."""
    were = set((_record(host) or {}).get("were", ()))
    return [nic for nic in there if nic.mac in were]


def unplugged(host: Host, there: Iterable[Interface]) -> set[str]:
    """Return the MACs seen in this boot that none of the NICs has now."""
    return set((_record(host) or {}).get("were", ())) - {nic.mac for nic in there}


def guard_file(ctx: Context) -> str:
    """Return the path of the record of a changed network (rollback.py)."""
    return f"{ctx.state.folder()}/network.json"


def has_guard(ctx: Context) -> bool:
    """Return whether a changed network was not applied or judged yet, or was refused."""
    return ctx.state.identity() is not None and ctx.host.exists(guard_file(ctx))


def _record(host: Host) -> dict[str, Any] | None:
    record = boot_cache.load(host, boot_cache.NICS)
    return record if record and isinstance(record.get("here"), dict) else None
