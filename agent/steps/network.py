"""Step: every physical NIC gets the configuration that the document has for it, else DHCP.

Files are written for the manager that runs this system; it starts after this stage, so at a boot nothing
is applied here. A NIC of the document that is not on this machine is named and its file, if there was
one, stays.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from agent import model, network
from agent.network import links
from agent.network.pairing import pair
from agent.report import Outcome, changed, kept, skipped, unchanged

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context
    from agent.network import Renderer
    from agent.network.links import Interface, Link
    from agent.network.pairing import Pairing
    from agent.report import Item

#: Seconds that the boot waits for the document's NICs to be there.
_PATIENCE = 10.0


def apply(ctx: Context) -> Iterator[Item]:
    """Settle every NIC; then have a manager that runs already apply what has changed."""
    renderer = network.renderer(ctx.host, ctx.settings.renderer)
    nics = ctx.config.nics if ctx.config else ()
    stored = ctx.state.pairs() if ctx.config else {}
    pairing = pair(nics, _interfaces(ctx, renderer, len(nics)), stored)
    if ctx.config:
        ctx.state.store_pairs(stored | {nic.number: one.mac for nic, one in pairing.pairs})
    touched: list[Link] = []
    delivered = _delivered(ctx, pairing)
    for link in delivered:
        yield _note(_settle(ctx, renderer, link, _item(link)), link, touched)
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
        yield from _withdraw(ctx, renderer, {*fallback, *(f"nic:{nic.number}" for nic in nics)})
    renderer.reload(ctx.host, touched)


def _interfaces(ctx: Context, renderer: Renderer, expected: int) -> list[Interface]:
    """The NICs, once there are as many as the document has, or udev has no more to say: its drivers load
    late.
    """

    def complete() -> bool:
        found = links.physical(ctx.host)
        named = not renderer.BY_NAME or all(links.named_by_udev(ctx.host, one) for one in found)
        return len(found) >= max(expected, 1) and named

    if ctx.host.live and not ctx.host.dry_run and not complete():
        ctx.waiting(f"udev to find {expected or 'the'} network interfaces")
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

    if ctx.config is None:
        # Nothing is remembered without an instance: a file that is there is the administrator's or as we
        # left it.
        if live is None:
            write()
            return changed(name, link.interface.name)
        return unchanged(name, link.interface.name) if live == text else kept(name)
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


def _withdraw(ctx: Context, renderer: Renderer, current: set[str]) -> Iterator[Item]:
    """Take back the files of NICs that the document had, or that were in none, and are no more."""
    for name in (*ctx.state.applied("nic:"), *ctx.state.applied("dhcp:")):
        if name not in current:
            path = renderer.path(name.replace("nic:", "nic").replace("dhcp:", "dhcp-").replace(":", ""))
            live = ctx.host.read(path)
            yield ctx.state.withdraw(name, live=live, undo=lambda path=path: ctx.host.remove(path))  # type: ignore[misc]
