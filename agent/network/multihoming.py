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

from collections import Counter

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
    """Return the links in the order of their default routes, each with metrics of its own. Several routes of
    one link keep their order.
    """
    given = [(link, metric) for link in ways for metric in _metrics(link, wanted)]
    last, made = 0, dict[int, dict[int | None, int]]()
    for link, metric in sorted(given, key=lambda one: (one[1] or 0, one[0].nic.number)):
        last = metric if metric is not None and metric > last else last + _STEP
        made.setdefault(link.nic.number, {})[metric] = last
    ordered = list[Link]()
    for number, metrics in made.items():
        link = next(one for one in ways if one.nic.number == number)
        routes = tuple(
            replace(route, metric=metrics[route.metric]) if is_default(route, wanted) else route
            for route in link.routes
        )
        moved, first = replace(link, routes=routes), min(metrics.values())
        ordered.append(replace(moved, metric4=first) if wanted == 4 else replace(moved, metric6=first))
    return ordered


def _metrics(link: Link, wanted: int) -> list[int | None]:
    """Return the metrics of the link's default routes, else that of the route that it may get."""
    leased = link.metric4 if wanted == 4 else link.metric6
    routes = [route.metric for route in link.routes if is_default(route, wanted)]
    return list(dict.fromkeys(routes)) or [leased]


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
        own += _in_table([route for route in link.nic.routes if family(route.destination) == wanted], table)
        tables[link.nic.number] = _add(link, table, own, rules)
    return [tables.get(link.nic.number, link) for link in ways]


def _in_table(routes: Iterable[Route], table: int) -> list[Route]:
    """Return the routes of the main table as those of another one. A metric is needed only beside another
    route to the same destination.
    """
    main = [route for route in routes if route.table is None]
    ways = Counter(route.destination for route in main)
    return [
        replace(route, metric=route.metric if ways[route.destination] > 1 else None, table=table)
        for route in main
    ]


def _add(link: Link, number: int, routes: list[Route], rules: list[Rule]) -> Link:
    """Return the link with these added to its table; unchanged without a rule, as nothing would use it."""
    if not rules:
        return link
    have = link.table or Table(number, (), ())
    more = replace(have, routes=have.routes + tuple(routes), rules=have.rules + tuple(rules))
    return replace(link, table=more)


def _addresses(link: Link, wanted: int) -> list[str]:
    own = (address.partition("/")[0] for address in link.nic.addresses if family(address) == wanted)
    # The link-local network is the same on every NIC: such an address selects none of them.
    return [address for address in own if not address.lower().startswith("fe80:")]


def _networks(link: Link, wanted: int) -> list[str]:
    """Return the networks of the NIC's addresses, except link-local and single ones (/32, /128)."""
    import ipaddress

    nets = (ipaddress.ip_interface(a).network for a in link.nic.addresses if family(a) == wanted)
    return list(dict.fromkeys(str(net) for net in nets if net.num_addresses > 1 and not net.is_link_local))
