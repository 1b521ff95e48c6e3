"""From the document's NICs and this machine's interfaces to the links that a renderer writes. Pure."""

from __future__ import annotations

from agent.config.model import Kind
from agent.lib.records import replace
from agent.network import multihoming
from agent.network.interfaces import Interface, Link, with_router_advertisements

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.config.model import Nic


def plan(nics: Iterable[Nic], physical: Mapping[int, Interface], *, slaac: bool) -> tuple[Link, ...]:
    """The links by the document's numbers; ``physical`` says which interface each physical NIC is.

    Left out: a physical NIC without an interface, and a virtual one of which nothing is there.
    """
    ordered = sorted(nics, key=lambda nic: nic.number)
    there = _made(ordered, physical)
    found = {
        nic.number: Link(
            there[nic.number],
            with_router_advertisements(nic) if slaac else nic,
            f"nic{nic.number}",
            required=False,
            routes=nic.routes,
        )
        for nic in ordered
        if nic.number in there
    }
    return multihoming.routed(_awaited([_related(link, found) for link in found.values()]))


def _made(nics: list[Nic], physical: Mapping[int, Interface]) -> dict[int, Interface]:
    """Every NIC's interface: with those that are made on top of others."""
    found, waiting = dict(physical), [nic for nic in nics if nic.kind is not Kind.PHYSICAL]
    while ready := [nic for nic in waiting if _has_something(nic, found)]:
        found |= {nic.number: Interface(nic.name or "", nic.mac or "") for nic in ready}
        waiting = [nic for nic in waiting if nic.number not in found]
    return found


def _has_something(nic: Nic, found: Mapping[int, Interface]) -> bool:
    wanted = nic.ports if nic.parent is None else (nic.parent,)
    return not wanted or any(number in found for number in wanted)


def _related(link: Link, found: Mapping[int, Link]) -> Link:
    number, others = link.nic.number, found.values()
    return replace(
        link,
        master=next((one for one in others if number in one.nic.ports), None),
        parent=found.get(link.nic.parent) if link.nic.parent is not None else None,
        ports=tuple(found[port] for port in link.nic.ports if port in found),
        vlans=tuple(one.name for one in others if one.nic.parent == number),
    )


def _awaited(found: list[Link]) -> list[Link]:
    """The boot waits for one: the first that leads out, or else the first.

    Where all are optional too: a manager that is told to wait for none waits for the end of its patience
    (systemd-networkd-wait-online: two minutes).
    """
    own = [link for link in found if not link.master]
    eager = [link for link in own if not link.nic.optional] or own
    leads_out = (link for link in eager if link.nic.dhcp4 or any(route.gateway for route in link.routes))
    first = next(leads_out, eager[0] if eager else None)
    return [replace(link, required=link is first) for link in found]
