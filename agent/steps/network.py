"""Step: configure the document's NICs, physical and virtual; every other physical NIC gets DHCP.

Files are written for the network manager in charge. At a boot it starts after this stage, so nothing is
applied here. A NIC of the document without an interface on this machine is reported, and its files stay.
Of several files for one NIC, a manager takes the first or merges them: so the files for DHCP are removed as
soon as the document has the NIC, and files for another manager once that is no longer in charge.

When a NIC comes or goes later, the same step runs again over all NICs, and finds the others unchanged. The
files of an unplugged NIC are removed; its number in the document is not given to a NIC that was here before.
"""

from __future__ import annotations

import re
from functools import partial

from agent import network, sources
from agent.config.nics import Kind, to_dict
from agent.lib.canonical_json import canonical
from agent.lib.errors import ConfigError
from agent.lib.records import replace
from agent.network import interfaces, nic_inventory, sysctls, virtio_queues
from agent.network.interfaces import Interface
from agent.network.managers import inactive_with_files, keys
from agent.network.pairing import others_that_match, pair
from agent.network.plan import plan
from agent.reader.common.problem import shown
from agent.report import Outcome, changed, kept, skipped, unchanged
from agent.state import adopted
from agent.systemd import credentials

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from agent.config.nics import Nic
    from agent.context import Context
    from agent.host.host import Host
    from agent.network import Renderer
    from agent.network.interfaces import Link
    from agent.network.pairing import Pairing
    from agent.report import Item

_SYSCTL = "/usr/lib/systemd/systemd-sysctl"


def apply(ctx: Context) -> Iterator[Item]:
    """Configure the network; a changed one is judged, or was refused, by ``rollback``."""
    if nic_inventory.has_guard(ctx):
        from agent.network import rollback

        return rollback.guarded(ctx, configure)
    return configure(ctx)


def configure(
    ctx: Context, before_reload: Callable[[], object] = lambda: None, *, is_resumed: bool = False
) -> Iterator[Item]:
    """Reconcile every NIC; then have a running manager apply what has changed, or everything if
    ``is_resumed``: a run that was cut short may have written files that no manager has read.

    Raise ConfigError if no known manager is in charge, but the document has NICs or one is set in the
    settings.
    """
    if why := sources.why_disabled(ctx):
        yield skipped("network", why)
        return
    if ctx.config and ctx.config.network_disabled:
        yield unchanged("network", "the document leaves it as it is (config: disabled)")
        yield from virtio_queues.reconcile(ctx)
        return
    nics = ctx.config.nics if ctx.config else ()
    try:
        renderer = network.renderer(ctx.host, ctx.settings.renderer)
    except ConfigError as error:
        if nics or ctx.settings.renderer != "auto":
            raise
        yield skipped("network", f"{error.message}, and no document has a NIC: left as it is")
        return
    if why := _by_systemd(ctx.host, renderer):
        yield skipped("network", why)
        return
    stored = ctx.state.nic_pairs() if ctx.config else {}
    there = nic_inventory.wait_for_nics(ctx, _physical(nics), stored, by_name=renderer.BY_NAME)
    pairing = _pair(ctx, nics, there, stored)
    items: list[Item] = []
    pairing, there = _name(ctx, nics, pairing, there, items)
    yield from items
    yield from others_that_match(pairing)
    yield from _remove_inactive_managers_files(ctx, renderer, pairing)
    yield from _remove_stale_fallbacks(ctx, renderer, pairing)
    delivered = plan(nics, pairing.by_number, slaac=ctx.settings.ipv6_slaac)
    touched: list[Link] = []
    yield from _reconcile_delivered(ctx, renderer, delivered, touched)
    gone = nic_inventory.unplugged(ctx.host, there)
    here = {link.nic.number for link in delivered}
    for nic in (nic for nic in nics if nic.number not in here):
        unplugged = (nic.mac or stored.get(nic.number)) in gone
        yield _unplugged(ctx, renderer, nic) if unplugged else _missing(ctx.host, nic)
    if ctx.config and not ctx.config.partial:
        yield from _withdraw(ctx, renderer, "nic:", {f"nic:{nic.number}" for nic in nics})
    left = {one: why for one in pairing.interfaces if (why := _why_unmanaged(ctx, renderer, one))}
    yield from (skipped(one.name, why) for one, why in left.items())
    leased = [one for one in pairing.interfaces if one not in left]
    first = _preferred_interface(ctx.host, renderer, delivered, leased)
    yield from _reconcile_leased(ctx, renderer, leased, first, touched)
    yield from _remove_unplugged(ctx, renderer, gone)
    if ctx.config:
        yield from _withdraw(ctx, renderer, "dhcp:", {f"dhcp:{one.mac}" for one in leased})
        yield from _parameters(ctx, delivered)
    before_reload()
    if is_resumed:
        touched = [*delivered, *(interfaces.fallback_link(one, required=one is first) for one in leased)]
    renderer.reload(ctx.host, touched)
    nic_inventory.record_first_scan(ctx, there)
    yield from virtio_queues.reconcile(ctx)


def _by_systemd(host: Host, renderer: Renderer) -> str:
    """Return why systemd configures the network, "" if it does not: of several files for a NIC, networkd
    takes the first by name, which would be the agent's.
    """
    passed = [name for name in credentials.names(host) if name.startswith(credentials.NETWORK)]
    if not passed or renderer.NAME not in ("networkd", "netplan"):
        return ""
    return f"systemd-networkd configures it, by its credential {', '.join(map(shown, passed))}"


def _reconcile_delivered(
    ctx: Context, renderer: Renderer, delivered: tuple[Link, ...], touched: list[Link]
) -> Iterator[Item]:
    """Reconcile the document's NICs; add those with changed files to ``touched``."""
    for link in delivered:
        yield _collect_changed(_reconcile(ctx, renderer, link, _item(link)), link, touched)
        yield from _unsupported(ctx, renderer, link)
        if not link.is_virtual:
            yield from _replace_fallback(ctx, renderer, link.interface)


def _unsupported(ctx: Context, renderer: Renderer, link: Link) -> Iterator[Item]:
    """Yield an item for each delivered value that the manager in charge cannot express or apply."""
    if interfaces.is_plain(link.nic):
        found = renderer.unsupported(link)
    else:
        from agent.network import limits

        found = limits.unsupported(renderer, link)
    for path, why in (found | renderer.possible(ctx.host, link)[1]).items():
        yield skipped(f"{_item(link)} {path}", f"not applied: {renderer.NAME}: {why}")


def _reconcile_leased(
    ctx: Context, renderer: Renderer, leased: list[Interface], first: Interface | None, touched: list[Link]
) -> Iterator[Item]:
    """Reconcile DHCP on NICs outside the document; the boot waits for ``first`` only. ``touched``: too."""
    for one in leased:
        link = interfaces.fallback_link(one, required=one is first)
        yield _collect_changed(_reconcile(ctx, renderer, link, _item(link)), link, touched)


def _physical(nics: tuple[Nic, ...]) -> tuple[Nic, ...]:
    return tuple(nic for nic in nics if nic.kind is Kind.PHYSICAL and not nic.loopback)


def _pair(ctx: Context, nics: tuple[Nic, ...], there: list[Interface], stored: dict[int, str]) -> Pairing:
    """Pair the document's physical NICs with interfaces, and remember the pairs."""
    if any(nic.match and nic.match.drivers for nic in nics):
        there = interfaces.with_drivers(ctx.host, there)
    pairing = pair(_physical(nics), there, stored, held=nic_inventory.seen_before(ctx.host, there))
    if ctx.host.debug:
        pairs = [(nic.number, nic.mac, nic.name, one.name, one.mac) for nic, one in pairing.pairs]
        ctx.host.debug(
            f"NICs: paired (number, MAC and name in the document, interface, its MAC): {pairs};"
            f" paired before: {stored}; without an interface: {[nic.number for nic in pairing.nics]};"
            f" in no document: {[one.name for one in pairing.interfaces]}"
        )
    if ctx.config:
        ctx.state.store_nic_pairs(stored | {number: one.mac for number, one in pairing.by_number.items()})
    return pairing


def _name(
    ctx: Context, nics: tuple[Nic, ...], pairing: Pairing, there: list[Interface], items: list[Item]
) -> tuple[Pairing, list[Interface]]:
    """Set what udev sets of the NICs; return both arguments with the NICs' new names."""
    if ctx.config is None or not (any(nic.options for nic in nics) or ctx.state.recorded_items("link:")):
        return pairing, there
    from agent.network import link_files

    now = link_files.apply(ctx, nics, pairing.pairs, items)
    pairs = tuple((nic, now.get(one, one)) for nic, one in pairing.pairs)
    return replace(pairing, pairs=pairs), [now.get(one, one) for one in there]


def _missing(host: Host, nic: Nic) -> Item:
    why = "no interface on this machine matches it"
    if host.offline:
        why = "set up at the first boot, when the machine's interfaces are known"
    elif nic.kind is not Kind.PHYSICAL:
        why = f"{nic.name}: none of the interfaces below it is on this machine"
    return skipped(f"nic:{nic.number}", why)


def _unplugged(ctx: Context, renderer: Renderer, nic: Nic) -> Item:
    """Remove the files of a NIC that was here in this boot; they are written again when it is plugged in."""
    name = f"nic:{nic.number}"
    undo = partial(_remove, ctx.host, renderer.paths(_key(name)))
    live = _live(ctx.host, renderer, _key(name))
    return ctx.state.withdraw(name, live=live, undo=undo, detail="unplugged, removed")


def _preferred_interface(
    host: Host, renderer: Renderer, delivered: tuple[Link, ...], leased: list[Interface]
) -> Interface | None:
    """Return the NIC for the preferred default route; None if one of the document's is required, or for
    no NIC.

    It is the one that its files name already, so that a NIC added before it on the bus takes no connection
    away; else the first.
    """
    if any(link.required for link in delivered):
        return None
    for one in leased:
        link = interfaces.fallback_link(one, required=True)
        if _live(host, renderer, link.key) == _text(renderer, link):
            return one
    return next(iter(leased), None)


def _remove_unplugged(ctx: Context, renderer: Renderer, gone: set[str]) -> Iterator[Item]:
    """Remove the agent's DHCP files of unplugged NICs, also of those that no instance's state records."""
    for name, mac in (nic_inventory.recorded(ctx.host) or {}).values():
        one = Interface(name, mac)
        key = interfaces.fallback_link(one, required=False).key
        if mac in gone and _live(ctx.host, renderer, key) in _fallbacks(renderer, one):
            _remove(ctx.host, renderer.paths(key))
            yield changed(f"dhcp:{mac}", f"{name} was unplugged, removed")


def _item(link: Link) -> str:
    return f"dhcp:{link.interface.mac}" if link.fallback else f"nic:{link.nic.number}"


def _key(name: str) -> str:
    """Return the key of a NIC's files from the name of its item."""
    return name.replace("nic:", "nic").replace("dhcp:", interfaces.FALLBACK).replace(":", "")


def _live(host: Host, renderer: Renderer, key: str) -> str | None:
    """Return the content of a NIC's files, joined; None if it has none."""
    texts = [text for path in renderer.paths(key) if (text := host.read(path)) is not None]
    return "".join(texts) if texts else None


def _text(renderer: Renderer, link: Link) -> str:
    return "".join(file.text for file in renderer.render(link))


def _remove(host: Host, paths: Iterable[str]) -> None:
    for path in paths:
        host.remove(path)


def _reconcile(ctx: Context, renderer: Renderer, link: Link, name: str) -> Item:
    delivered = "dhcp" if link.fallback else canonical(to_dict(link.nic)).decode()
    link, _ = renderer.possible(ctx.host, link)
    files, wanted = renderer.render(link), _text(renderer, link)
    live = _live(ctx.host, renderer, link.key)

    def write() -> None:
        renderer.prepare(ctx.host, link)
        _remove(ctx.host, set(renderer.paths(link.key)) - {file.path for file in files})
        for file in files:
            ctx.host.write(file.path, file.text, mode=file.mode)

    if link.fallback and (ctx.config is None or name not in ctx.state.recorded_items(name)):
        # No record of it: a file that is there is either as the agent writes it, or the administrator's.
        if live is not None and live not in _fallbacks(renderer, link.interface):
            return kept(name)
        if ctx.config is None:
            if live == wanted:
                return unchanged(name, link.name)
            write()
            return changed(name, link.name)
    return ctx.state.reconcile(
        name,
        delivered=delivered,
        wanted=wanted,
        live=live,
        apply=write,
        exclusive=True,
        detail=link.name,
    )


def _collect_changed(item: Item, link: Link, touched: list[Link]) -> Item:
    if item.outcome is Outcome.CHANGED:
        touched.append(link)
    return item


def _why_unmanaged(ctx: Context, renderer: Renderer, interface: Interface) -> str:
    """Return why a NIC that is in no document is not configured, or ""."""
    names = interfaces.names(ctx.host, interface)
    if names & set(ctx.settings.nodhcp):
        return "in CONFIG_NODHCP"
    if found := renderer.configures(ctx.host, names, interface.mac):
        return f"configured by {found}"
    return "as it was before the agent" if interface.mac in adopted.nic_macs(ctx.host) else ""


def _fallbacks(renderer: Renderer, interface: Interface) -> set[str]:
    """Return the texts that the agent may have written for DHCP on that NIC."""
    return {
        _text(renderer, interfaces.fallback_link(interface, required=required)) for required in (True, False)
    }


def _replace_fallback(ctx: Context, renderer: Renderer, interface: Interface) -> Iterator[Item]:
    """Remove the agent's DHCP files of a NIC that the document has now, recorded or not."""
    fallback = interfaces.fallback_link(interface, required=False)
    if _live(ctx.host, renderer, fallback.key) in _fallbacks(renderer, interface):
        _remove(ctx.host, renderer.paths(fallback.key))
        ctx.state.forget(_item(fallback))
        yield changed(_item(fallback), f"{interface.name} is in the document now, removed")


def _withdraw(ctx: Context, renderer: Renderer, kind: str, current: set[str]) -> Iterator[Item]:
    """Withdraw the items of a kind ("nic:" or "dhcp:") that are not in ``current``, with their files."""
    for name in ctx.state.recorded_items(kind):
        if name not in current:
            live = _live(ctx.host, renderer, _key(name))
            undo = partial(_remove, ctx.host, renderer.paths(_key(name)))
            yield ctx.state.withdraw(name, live=live, undo=undo)


def _remove_inactive_managers_files(ctx: Context, renderer: Renderer, pairing: Pairing) -> Iterator[Item]:
    """Remove the agent's files for managers that are no longer in charge."""
    for other in map(network.load, inactive_with_files(ctx.host, renderer.NAME)):
        if ctx.config:
            for name in (*ctx.state.recorded_items("nic:"), *ctx.state.recorded_items("dhcp:")):
                live = _live(ctx.host, other, _key(name))
                if live is None:
                    continue
                if ctx.state.is_as_applied(name, live):
                    yield _remove_files(ctx.host, other, _key(name))
                # Also where the administrator changed it: the manager in charge needs it written again.
                ctx.state.forget(name)
        for one in pairing.interfaces:
            key = interfaces.fallback_link(one, required=False).key
            if _live(ctx.host, other, key) in _fallbacks(other, one):
                yield _remove_files(ctx.host, other, key)


def _remove_stale_fallbacks(ctx: Context, renderer: Renderer, pairing: Pairing) -> Iterator[Item]:
    """Remove DHCP files for an absent NIC that has the name of a present one (an image was booted, and then
    copied): a manager that matches by name would configure the present one twice.
    """
    here = (*(one for _, one in pairing.pairs), *pairing.interfaces)
    own = {interfaces.fallback_link(one, required=False).key for one in here}
    for key in keys(ctx.host, renderer.NAME) if renderer.BY_NAME else ():
        if not key.startswith(interfaces.FALLBACK) or key in own:
            continue
        mac = ":".join(re.findall("..", key.removeprefix(interfaces.FALLBACK)))
        live = _live(ctx.host, renderer, key)
        if any(live in _fallbacks(renderer, replace(one, mac=mac)) for one in here):
            _remove(ctx.host, renderer.paths(key))
            if ctx.config:
                ctx.state.forget(f"dhcp:{mac}")
            yield changed(f"dhcp:{mac}", "there is another NIC of that name now, removed")


def _remove_files(host: Host, other: Renderer, key: str) -> Item:
    _remove(host, other.paths(key))
    return changed(other.paths(key)[-1], f"{other.NAME} is no longer in charge, removed")


def _parameters(ctx: Context, delivered: tuple[Link, ...]) -> Iterator[Item]:
    """Reconcile the sysctl.d(5) file of single NICs' kernel parameters; udev applies it to later NICs."""
    if not ctx.settings.sysctl:
        return
    name, wanted, live = "nic parameters", sysctls.render(delivered), ctx.host.read(sysctls.FILE)
    if wanted:
        yield ctx.state.reconcile(
            name,
            delivered=wanted,
            wanted=wanted,
            live=live,
            apply=partial(_set, ctx.host, wanted),
            exclusive=True,
        )
    elif name in ctx.state.recorded_items(name):
        yield ctx.state.withdraw(name, live=live, undo=partial(ctx.host.remove, sysctls.FILE))


def _set(host: Host, text: str) -> None:
    host.write(sysctls.FILE, text)
    if host.live:
        # Apply the NIC parameters of all files in order, so that the administrator's override the agent's.
        host.run((_SYSCTL, "--prefix=/net/ipv4/conf"), check=False)
