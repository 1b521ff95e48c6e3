"""Step: every physical NIC gets the configuration that the document has for it, else DHCP.

Files are written for the manager that runs this system; it starts after this stage, so at a boot nothing
is applied here. A NIC of the document that is not on this machine is named and its file, if there was
one, stays. Of several files for one NIC a manager takes the first, or adds them up, so the one for DHCP goes
as soon as the document has the NIC.
"""

from __future__ import annotations

from functools import partial

from agent import model, network, sources
from agent.errors import ConfigError
from agent.network import links
from agent.network.pairing import pair
from agent.plain import asdict
from agent.report import Outcome, changed, kept, skipped, unchanged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context
    from agent.model import Nic
    from agent.network import Renderer
    from agent.network.links import Interface, Link
    from agent.network.pairing import Pairing
    from agent.report import Item

#: Seconds that the boot waits for the document's NICs to be there.
_PATIENCE = 10.0


def apply(ctx: Context) -> Iterator[Item]:
    """Settle every NIC; then have a manager that runs already apply what has changed."""
    if sources.NONE in ctx.settings.datasource:
        yield skipped("network", "CONFIG_DATASOURCE=none")
        return
    nics = ctx.config.nics if ctx.config else ()
    try:
        renderer = network.renderer(ctx.host, ctx.settings.renderer)
    except ConfigError as error:
        if nics or ctx.settings.renderer != "auto":
            raise
        yield skipped("network", f"{error.message}, and no document has a NIC: left as it is")
        return
    stored = ctx.state.pairs() if ctx.config else {}
    pairing = pair(nics, _interfaces(ctx, renderer, nics, stored), stored)
    if ctx.config:
        ctx.state.store_pairs(stored | {nic.number: one.mac for nic, one in pairing.pairs})
    touched: list[Link] = []
    delivered = _delivered(ctx, pairing)
    for link in delivered:
        yield _note(_settle(ctx, renderer, link, _item(link)), link, touched)
        yield from _replace_fallback(ctx, renderer, link.interface)
    if ctx.config and not ctx.config.partial:
        yield from _withdraw(ctx, renderer, "nic:", {f"nic:{nic.number}" for nic in nics})
    for nic in pairing.nics:
        yield skipped(f"nic:{nic.number}", "no interface on this machine goes with it")
    fallback = list[str]()
    for one in pairing.interfaces:
        why = _left_alone(ctx, renderer, one)
        if why:
            yield skipped(one.name, why)
            continue
        link = links.by_dhcp(one, required=not delivered and not fallback)
        fallback.append(_item(link))
        yield _note(_settle(ctx, renderer, link, _item(link)), link, touched)
    if ctx.config:
        yield from _withdraw(ctx, renderer, "dhcp:", set(fallback))
    renderer.reload(ctx.host, touched)


def _interfaces(
    ctx: Context, renderer: Renderer, nics: tuple[Nic, ...], stored: dict[int, str]
) -> list[Interface]:
    """The NICs, once there are as many as the document has and among them those that are known, or udev has
    no more to say: its drivers load late, and another NIC must not take the place of one that does. Where
    names count (in the manager's files, or to tell who configures another NIC), once they have theirs.
    """
    known = {mac for nic in nics if (mac := nic.mac or stored.get(nic.number))}

    def complete() -> bool:
        found = links.physical(ctx.host)
        by_name = renderer.BY_NAME or len(found) > len(nics)
        named = not by_name or all(links.named_by_udev(ctx.host, one) for one in found)
        return len(found) >= max(len(nics), 1) and known <= {one.mac for one in found} and named

    if ctx.host.live and not ctx.host.dry_run and not complete():
        ctx.waiting(f"udev to find {len(nics) or 'the'} network interfaces")
        links.wait(ctx.host, complete, _PATIENCE)
        ctx.waiting("")
    return links.physical(ctx.host)


def _delivered(ctx: Context, pairing: Pairing) -> list[Link]:
    """The document's NICs; the boot waits for the one that leads out, or else for the first."""
    pairs = pairing.pairs
    leads_out = (nic.number for nic, _ in pairs if nic.dhcp4 or any(r.gateway for r in nic.routes))
    first = next(leads_out, pairs[0][0].number if pairs else None)
    slaac = ctx.settings.ipv6_slaac
    return [
        links.Link(
            one,
            links.with_router_advertisements(nic) if slaac else nic,
            f"nic{nic.number}",
            required=nic.number == first,
        )
        for nic, one in pairs
    ]


def _item(link: Link) -> str:
    return f"dhcp:{link.interface.mac}" if link.fallback else f"nic:{link.nic.number}"


def _settle(ctx: Context, renderer: Renderer, link: Link, name: str) -> Item:
    path, text = renderer.path(link.key), renderer.render(link)
    live = ctx.host.read(path)

    def write() -> None:
        renderer.prepare(ctx.host, link)
        ctx.host.write(path, text)

    if link.fallback and (ctx.config is None or name not in ctx.state.applied(name)):
        # Nothing is remembered of it: a file that is there is as we left it, or the administrator's.
        if live is not None and live not in _fallbacks(renderer, link.interface):
            return kept(name)
        if ctx.config is None:
            if live == text:
                return unchanged(name, link.interface.name)
            write()
            return changed(name, link.interface.name)
    return ctx.state.settle(
        name,
        delivered="dhcp" if link.fallback else model.canonical(asdict(link.nic)).decode(),
        wanted=text,
        live=live,
        apply=write,
        detail=link.interface.name,
    )


def _note(item: Item, link: Link, touched: list[Link]) -> Item:
    if item.outcome is Outcome.CHANGED:
        touched.append(link)
    return item


def _left_alone(ctx: Context, renderer: Renderer, one: Interface) -> str:
    """Why a NIC of no document gets no DHCP from us, or ""."""
    names = links.names(ctx.host, one)
    if names & set(ctx.settings.nodhcp):
        return "in CONFIG_NODHCP"
    found = renderer.configures(ctx.host, names, one.mac)
    return f"configured by {found}" if found else ""


def _fallbacks(renderer: Renderer, one: Interface) -> set[str]:
    """The texts of our own file for DHCP on that NIC."""
    return {renderer.render(links.by_dhcp(one, required=required)) for required in (True, False)}


def _replace_fallback(ctx: Context, renderer: Renderer, one: Interface) -> Iterator[Item]:
    """Remove our file for DHCP on a NIC that the document has, whether or not it is remembered."""
    fallback = links.by_dhcp(one, required=False)
    path = renderer.path(fallback.key)
    if ctx.host.read(path) in _fallbacks(renderer, one):
        ctx.host.remove(path)
        ctx.state.forget(_item(fallback))
        yield changed(_item(fallback), f"{one.name} is in the document now, removed")


def _withdraw(ctx: Context, renderer: Renderer, kind: str, current: set[str]) -> Iterator[Item]:
    """Take back the files of NICs of that kind (in the document, or in none) that are it no more."""
    for name in ctx.state.applied(kind):
        if name not in current:
            key = name.replace("nic:", "nic").replace("dhcp:", links.FALLBACK).replace(":", "")
            path = renderer.path(key)
            yield ctx.state.withdraw(name, live=ctx.host.read(path), undo=partial(ctx.host.remove, path))
