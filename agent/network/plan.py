"""Make the links that a renderer writes, from the document's NICs and this machine's interfaces. Pure."""

from __future__ import annotations

from agent.config.nics import Kind
from agent.lib.records import replace
from agent.network.interfaces import LOOPBACK, Interface, Link, with_router_advertisements

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.config.nics import Nic, Route


def plan(nics: Iterable[Nic], physical: Mapping[int, Interface], *, slaac: bool) -> tuple[Link, ...]:
    """Return the links in the order of the document's numbers. ``physical`` maps the number of each physical
    NIC to its interface; ``slaac`` is CONFIG_IPV6_SLAAC.

    Left out: a physical NIC without an interface, and a virtual NIC with none of its parts present.
    """
    ordered = sorted(nics, key=lambda nic: nic.number)
    there = _resolve_interfaces(ordered, physical)
    links = {
        nic.number: Link(
            there[nic.number],
            _with_loopback(nic) if nic.loopback else with_router_advertisements(nic) if slaac else nic,
            f"nic{nic.number}",
            required=False,
            routes=nic.routes,
            metric4=_route_metric(nic, 4),
            metric6=_route_metric(nic, 6),
        )
        for nic in ordered
        if nic.number in there
    }
    planned = _with_required([_with_relations(link, links) for link in links.values()])
    if not any(_has_several_ways(planned, family) for family in (4, 6)):
        return tuple(planned)
    from agent.network import multihoming  # late: most machines have one way out

    return multihoming.with_source_routing(planned)


def _has_several_ways(links: list[Link], family: int) -> bool:
    return sum(not link.master and link.has_default_route(family) for link in links) > 1


def _with_loopback(nic: Nic) -> Nic:
    """Return the loopback NIC without what needs a network: lo has no routers and no DHCP servers."""
    return replace(nic, dhcp4=False, dhcp6=False, accept_ra=False)


def _route_metric(nic: Nic, family: int) -> int | None:
    """Return the metric that the document gives to the routes from DHCP and router advertisements."""
    dhcp = nic.options and (nic.options.dhcp4 if family == 4 else nic.options.dhcp6)
    return dhcp.route_metric if dhcp else None


def _resolve_interfaces(nics: list[Nic], physical: Mapping[int, Interface]) -> dict[int, Interface]:
    """Return the interface of each NIC by number, including the virtual ones that can be made of others."""
    there, virtual = dict(physical), [nic for nic in nics if nic.kind is not Kind.PHYSICAL]
    there |= {nic.number: LOOPBACK for nic in nics if nic.loopback}
    while ready := [nic for nic in virtual if _has_part(nic, there)]:
        there |= {nic.number: Interface(nic.name or "", nic.mac or "") for nic in ready}
        virtual = [nic for nic in virtual if nic.number not in there]
    return there


def _has_part(nic: Nic, there: Mapping[int, Interface]) -> bool:
    parts = nic.ports if nic.parent is None else (nic.parent,)
    return not parts or any(number in there for number in parts)


def _with_relations(link: Link, links: Mapping[int, Link]) -> Link:
    number, others = link.nic.number, links.values()
    return replace(
        link,
        master=next((other for other in others if number in other.nic.ports), None),
        parent=links.get(link.nic.parent) if link.nic.parent is not None else None,
        ports=tuple(links[port] for port in link.nic.ports if port in links),
        vlans=tuple(other.name for other in others if other.nic.parent == number),
    )


def _with_required(links: list[Link]) -> list[Link]:
    """Mark one link as required: the first with a gateway or DHCPv4, else the first.

    Optional links are only considered if all are optional. One is required even then: a manager with no
    NIC to wait for waits until its timeout (systemd-networkd-wait-online: two minutes). lo does not count,
    nor does a link that is not brought up.
    """
    own = [link for link in links if not link.master and not link.nic.loopback and not link.activation_mode]
    candidates = [link for link in own if not link.nic.optional] or own
    uplinks = (link for link in candidates if link.nic.dhcp4 or any(map(_leads_out, link.routes)))
    first = next(uplinks, candidates[0] if candidates else None)
    return [replace(link, required=link is first) for link in links]


def _leads_out(route: Route) -> bool:
    return route.gateway is not None and route.table is None
