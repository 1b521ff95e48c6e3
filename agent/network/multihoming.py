"""Several NICs with a gateway each: which one the machine's own traffic takes, and that an answer leaves
through the NIC by which the question came. Pure.

The default routes are ordered by metric: the document's where it has some, then by number. What comes from
an address of another NIC than the first looks for its way in that NIC's own table. What comes from the
first does so only towards the networks of the others: everything else finds in the main table what
containers and tunnels have added there.
"""

from __future__ import annotations

from agent.config.model import Route
from agent.lib.records import replace
from agent.network.interfaces import Link, Rule, Table, family, is_default

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

#: A NIC's table is this and its number: clear of the kernel's (253 to 255) and of what people choose.
_TABLES = 10_000
#: Of every rule: before that of the main table (32766).
PRIORITY = 10_000
#: Between the ways out.
_STEP = 100
_FAMILIES = (4, 6)


def routed(links: Iterable[Link]) -> tuple[Link, ...]:
    """The links with what several ways out take; as they are where each family has one."""
    found = {link.nic.number: link for link in links}
    for wanted in _FAMILIES:
        ways = [link for link in found.values() if not link.master and link.way_out(wanted)]
        if len(ways) > 1:
            ways = _by_metric(ways, wanted)
            found |= {link.nic.number: link for link in _with_tables(ways, wanted)}
    return tuple(found.values())


def _by_metric(ways: list[Link], wanted: int) -> list[Link]:
    """The ways out in their order, each with a metric of its own."""
    ordered, last = list[Link](), 0
    for link in sorted(ways, key=lambda one: (_metric(one, wanted) or 0, one.nic.number)):
        given = _metric(link, wanted)
        last = given if given is not None and given > last else last + _STEP
        routes = tuple(
            replace(route, metric=last) if is_default(route, wanted) else route for route in link.routes
        )
        moved = replace(link, routes=routes)
        ordered.append(replace(moved, metric4=last) if wanted == 4 else replace(moved, metric6=last))
    return ordered


def _metric(link: Link, wanted: int) -> int | None:
    return next((route.metric for route in link.routes if is_default(route, wanted)), None)


def _with_tables(ways: list[Link], wanted: int) -> list[Link]:
    """Those whose gateway is known, with tables; the first of the ways leads, also where only a lease will
    tell its gateway.
    """
    known = [link for link in ways if any(is_default(route, wanted) for route in link.nic.routes)]
    others = [net for link in known if link is not ways[0] for net in _networks(link, wanted)]
    tables = dict[int, Link]()
    for link in known:
        targets = dict.fromkeys(others) if link is ways[0] else {None: None}
        rules = [Rule(a, to) for a in _addresses(link, wanted) for to in targets]
        own = [Route(net) for net in _networks(link, wanted)]
        own += [replace(route, metric=None) for route in link.nic.routes if _of(route, wanted)]
        tables[link.nic.number] = _add(link, own, rules)
    return [tables.get(link.nic.number, link) for link in ways]


def _add(link: Link, routes: list[Route], rules: list[Rule]) -> Link:
    """The link with more in its table; without a rule, nobody would look there."""
    if not rules:
        return link
    have = link.table or Table(_TABLES + link.nic.number, (), ())
    more = replace(have, routes=have.routes + tuple(routes), rules=have.rules + tuple(rules))
    return replace(link, table=more)


def _of(route: Route, wanted: int) -> bool:
    return family(route.destination) == wanted


def _addresses(link: Link, wanted: int) -> list[str]:
    own = (address.partition("/")[0] for address in link.nic.addresses if family(address) == wanted)
    # A link-local address is the same on every NIC: it belongs to none.
    return [address for address in own if not address.lower().startswith("fe80:")]


def _networks(link: Link, wanted: int) -> list[str]:
    """The networks that its addresses are in; an address alone (/32, /128) is in none."""
    import ipaddress

    found = (ipaddress.ip_interface(a).network for a in link.nic.addresses if family(a) == wanted)
    return list(dict.fromkeys(str(net) for net in found if net.num_addresses > 1 and not net.is_link_local))
