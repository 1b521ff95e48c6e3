"""Routing for several NICs with a gateway each: one carries the machine's own traffic, and a reply leaves by
the NIC on which the request arrived. Pure.

The default routes are ordered by metric: the document's metrics, then the NICs' numbers. Packets from an
address of a NIC other than the first are routed by that NIC's own table. Packets from an address of the
first NIC use its table only towards the networks of the others: all else uses the main table, where
containers and tunnels add their routes.

A document with rules for a family does the policy routing of that family itself: the agent adds no tables
and rules to it.
"""

from __future__ import annotations

from agent.config.nics import Route, Rule
from agent.lib.records import replace
from agent.network.interfaces import Link, Table, family, is_default, rule_family

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

#: Number of a NIC's table: a multiple of this plus the NIC's number, beyond the kernel's (253 to 255) and
#: usual choices.
_TABLES = 10_000
#: Priority of every rule: before the main table's (32766).
PRIORITY = 10_000
#: Difference between the metrics of two default routes.
_STEP = 100
_FAMILIES = (4, 6)


def with_source_routing(links: Iterable[Link]) -> tuple[Link, ...]:
    """Return the links with metrics, tables and rules for each family with several default routes; links of
    other families are unchanged.
    """
    by_number = {link.nic.number: link for link in links}
    for wanted in _FAMILIES:
        ways = [link for link in by_number.values() if not link.master and link.has_default_route(wanted)]
        if len(ways) > 1:
            ways = _by_metric(ways, wanted)
            if not any(
                rule_family(rule) == wanted for link in by_number.values() for rule in link.nic.rules
            ):
                ways = _with_tables(ways, wanted, _first_table(by_number.values()))
            by_number |= {link.nic.number: link for link in ways}
    return tuple(by_number.values())


def _first_table(links: Iterable[Link]) -> int:
    """Return the number of the table of NIC 0, so that no NIC's table is one of the document's."""
    nics = [link.nic for link in links]
    taken = {route.table for nic in nics for route in nic.routes}
    taken |= {rule.table for nic in nics for rule in nic.rules}
    first = _TABLES
    while any(first + nic.number in taken for nic in nics):
        first += _TABLES
    return first


def _by_metric(ways: list[Link], wanted: int) -> list[Link]:
    """Return the links in the order of their default routes, each with a metric of its own."""
    ordered, last = list[Link](), 0
    for link in sorted(ways, key=lambda link: (_metric(link, wanted) or 0, link.nic.number)):
        given = _metric(link, wanted)
        last = given if given is not None and given > last else last + _STEP
        routes = tuple(
            replace(route, metric=last) if is_default(route, wanted) else route for route in link.routes
        )
        moved = replace(link, routes=routes)
        ordered.append(replace(moved, metric4=last) if wanted == 4 else replace(moved, metric6=last))
    return ordered


def _metric(link: Link, wanted: int) -> int | None:
    leased = link.metric4 if wanted == 4 else link.metric6
    return next((route.metric for route in link.routes if is_default(route, wanted)), leased)


def _with_tables(ways: list[Link], wanted: int, first: int) -> list[Link]:
    """Return ``ways`` with a table for each link that has a gateway in the document. The first link stays
    the first even if its gateway only comes with a lease.
    """
    static = [link for link in ways if any(is_default(route, wanted) for route in link.nic.routes)]
    others = [net for link in static if link is not ways[0] for net in _networks(link, wanted)]
    tables = dict[int, Link]()
    for link in static:
        targets = dict.fromkeys(others) if link is ways[0] else {None: None}
        table = first + link.nic.number
        rules = [Rule(table, a, to, PRIORITY) for a in _addresses(link, wanted) for to in targets]
        own = [Route(net, table=table) for net in _networks(link, wanted)]
        main = (route for route in link.nic.routes if _of(route, wanted) and route.table is None)
        own += [replace(route, metric=None, table=table) for route in main]
        tables[link.nic.number] = _add(link, table, own, rules)
    return [tables.get(link.nic.number, link) for link in ways]


def _add(link: Link, number: int, routes: list[Route], rules: list[Rule]) -> Link:
    """Return the link with these added to its table; unchanged without a rule, as nothing would use it."""
    if not rules:
        return link
    have = link.table or Table(number, (), ())
    more = replace(have, routes=have.routes + tuple(routes), rules=have.rules + tuple(rules))
    return replace(link, table=more)


def _of(route: Route, wanted: int) -> bool:
    return family(route.destination) == wanted


def _addresses(link: Link, wanted: int) -> list[str]:
    own = (address.partition("/")[0] for address in link.nic.addresses if family(address) == wanted)
    # The link-local network is the same on every NIC: such an address selects none of them.
    return [address for address in own if not address.lower().startswith("fe80:")]


def _networks(link: Link, wanted: int) -> list[str]:
    """Return the networks of the NIC's addresses, except link-local and single ones (/32, /128)."""
    import ipaddress

    nets = (ipaddress.ip_interface(a).network for a in link.nic.addresses if family(a) == wanted)
    return list(dict.fromkeys(str(net) for net in nets if net.num_addresses > 1 and not net.is_link_local))
