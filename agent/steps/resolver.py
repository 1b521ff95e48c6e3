"""Step: which resolvers this machine asks, written where this system keeps them.

Whoever owns /etc/resolv.conf is asked in its own way: systemd-resolved gets a drop-in, Debian's
resolvconf its base file, NetworkManager a file of its own; otherwise the file itself is written, and of it
only the lines that we have something to say about.
"""

from __future__ import annotations

import os

from agent.lib.records import dataclass
from agent.lib.text import lines, words
from agent.network.managers import NETWORKMANAGER_UNIT, in_charge
from agent.report import Outcome, skipped
from agent.state.json_file import digest
from agent.systemd import units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.config.model import InstanceConfig
    from agent.context import Context
    from agent.host.host import Host
    from agent.report import Item

RESOLV_CONF = "/etc/resolv.conf"
RESOLVED_DROP_IN = "/etc/systemd/resolved.conf.d/10-gandi.conf"
RESOLVCONF_BASE = "/etc/resolvconf/resolv.conf.d/base"
NETWORKMANAGER_CONF = "/etc/NetworkManager/conf.d/90-gandi-dns.conf"
_HEADER = "# Written by gandi-agent; once changed, it is left alone.\n"
#: resolv.conf(5): one second for each of three tries, and the load spread over the servers.
_OPTIONS = "options timeout:1 attempts:3 rotate"
_RESOLVED = "/usr/lib/systemd/systemd-resolved"
#: The item, and what is remembered of where it was written.
_ITEM, _KEPT_IN = "resolvers", "file of resolvers"
#: How the items begin that keep the resolvers of leases out.
_LEASES = "resolvers of leases"

#: Lines of resolv.conf that are ours where we write it.
_NAMESERVER, _OPTION, _SEARCH = "nameserver", "options", "search"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the machine is to ask: the servers, the domains that a bare name is looked up in, and options of
    resolv.conf(5).
    """

    servers: tuple[str, ...]
    search: tuple[str, ...] = ()
    options: str = ""

    def lines(self) -> str:
        """As resolv.conf(5) has it."""
        search = f"{_SEARCH} {' '.join(self.search)}\n" if self.search else ""
        servers = "".join(f"{_NAMESERVER} {server}\n" for server in self.servers)
        return search + servers + (f"{self.options}\n" if self.options else "")


@dataclass(frozen=True, slots=True)
class Place:
    """Where this system keeps its resolvers. ``whole``: the file is ours; else some of its lines are."""

    path: str
    whole: bool
    render: Callable[[Wanted], str] = Wanted.lines
    #: Whether whoever reads it also knows the resolvers of each NIC, from the NIC's own configuration.
    knows_links: bool = False


def apply(ctx: Context) -> Iterator[Item]:
    """Settle the resolvers as one item."""
    config = ctx.config
    if config is None:
        return
    host, place = ctx.host, _place(ctx)
    wanted = _wanted(config, place)
    if not wanted.servers and not wanted.search:
        if config.nameservers:
            yield skipped("resolvers", "this machine has no IPv4 and all of its resolvers are IPv4")
        return
    current, text = host.read(place.path), place.render(wanted)
    ours = {_NAMESERVER} | ({_OPTION} if wanted.options else set()) | ({_SEARCH} if wanted.search else set())
    live = current if place.whole else _lines(current or "", ours, ours=True) or None
    if live is None and not ctx.state.is_ours(_KEPT_IN, place.path):
        # Nobody took it away: somebody else keeps the resolvers from now on.
        ctx.state.forget(_ITEM)
    item = ctx.state.settle(
        _ITEM,
        delivered="\n".join(sorted(_offered(config, place)) + list(wanted.search)),
        wanted=text,
        live=live,
        apply=lambda: _write(
            host, place.path, text if place.whole else _lines(current or "", ours, ours=False) + text
        ),
        detail=", ".join(wanted.servers),
    )
    if item.outcome is not Outcome.KEPT:
        ctx.state.remember(_KEPT_IN, place.path)
    yield item
    if item.outcome is not Outcome.KEPT:
        yield from _leases(ctx, place)


def _place(ctx: Context) -> Place:
    host = ctx.host
    if _by_resolved(host):
        return Place(RESOLVED_DROP_IN, whole=True, render=drop_in, knows_links=True)
    if _by_resolvconf(host):
        # ifupdown's and dhcpcd's hooks add what each NIC brings.
        return Place(RESOLVCONF_BASE, whole=False, knows_links=True)
    if _by_networkmanager(ctx):
        return Place(NETWORKMANAGER_CONF, whole=True, render=global_dns)
    return Place(RESOLV_CONF, whole=False)


def _offered(config: InstanceConfig, place: Place) -> tuple[str, ...]:
    """The document's servers for all NICs; and those of each NIC, where nobody else tells them."""
    own = () if place.knows_links else (server for nic in config.nics for server in nic.nameservers)
    return tuple(dict.fromkeys((*config.nameservers, *own)))


def _wanted(config: InstanceConfig, place: Place) -> Wanted:
    own = () if place.knows_links else (domain for nic in config.nics for domain in nic.search)
    search = tuple(dict.fromkeys((*config.search, *own)))
    if config.identity.source == "gandi":
        return Wanted(choose(config), search, _OPTIONS)
    if place.path == NETWORKMANAGER_CONF and not config.nameservers:
        # It knows those of each NIC, and would ask none of them beside ours.
        return Wanted(())
    return Wanted(_offered(config, place), search)


def choose(config: InstanceConfig) -> tuple[str, ...]:
    """Gandi's rule: two IPv4 and one IPv6 resolver on a machine that has any IPv4, else up to three IPv6.

    Which ones is spread over machines and stays the same for one: the order is that of a digest of the
    machine's identity and the resolver, so a resolver that joins or leaves the list moves no other.
    Other platforms deliver exactly what they want to be asked, in its order.
    """
    seed = f"{config.identity.source}\n{config.identity.id}\n"
    ranked = sorted(dict.fromkeys(config.nameservers), key=lambda server: digest(seed + server))
    old = [server for server in ranked if ":" not in server]
    new = [server for server in ranked if ":" in server]
    return tuple(old[:2] + new[:1]) if _has_ipv4(config) else tuple(new[:3])


def drop_in(wanted: Wanted) -> str:
    """The text for systemd-resolved (resolved.conf(5)); timeouts and rotation are its own affair."""
    lines = [f"DNS={' '.join(wanted.servers)}"] if wanted.servers else []
    lines += [f"Domains={' '.join(wanted.search)}"] if wanted.search else []
    return _HEADER + "[Resolve]\n" + "".join(f"{line}\n" for line in lines)


def global_dns(wanted: Wanted) -> str:
    """The text for NetworkManager (NetworkManager.conf(5), global-dns), which writes /etc/resolv.conf."""
    lists = {"searches": wanted.search, "options": tuple(words(wanted.options)[1:])}
    lines = "".join(f"{key}={','.join(values)}\n" for key, values in lists.items() if values)
    return f"{_HEADER}[global-dns]\n{lines}\n[global-dns-domain-*]\nservers={','.join(wanted.servers)}\n"


def _has_ipv4(config: InstanceConfig) -> bool:
    # Without any NIC in the document there is DHCP, which is asked for IPv4.
    return not config.nics or any(
        nic.dhcp4 or any(":" not in address for address in nic.addresses) for nic in config.nics
    )


def _lines(text: str, kinds: set[str], *, ours: bool) -> str:
    """The lines of these kinds, or the others."""
    kept = (line for line in lines(text) if bool(kinds & set(words(line)[:1])) is ours)
    return "".join(f"{line}\n" for line in kept)


def _link(host: Host) -> str:
    """What /etc/resolv.conf points to, "" for a file or nothing."""
    try:
        return os.readlink(os.path.join(host.path("/etc"), "resolv.conf"))
    except OSError:
        return ""


def _by_resolved(host: Host) -> bool:
    # The target is not looked at: at this time of the boot systemd-resolved has not made it yet.
    link = _link(host)
    ours = "systemd/resolve/" in link or link.endswith("lib/systemd/resolv.conf")
    return ours and host.exists(_RESOLVED) and not units.masked(host, "systemd-resolved.service")


def _by_resolvconf(host: Host) -> bool:
    return "resolvconf" in _link(host) and host.exists(RESOLVCONF_BASE.rpartition("/")[0])


def _by_networkmanager(ctx: Context) -> bool:
    """Whether NetworkManager writes /etc/resolv.conf: what stands there would be gone when it starts."""
    manager = in_charge(ctx.host, ctx.settings.renderer)
    return manager in ("networkmanager", "netplan") and units.enabled(ctx.host, NETWORKMANAGER_UNIT)


def _leases(ctx: Context, place: Place) -> Iterator[Item]:
    """Keep ifupdown's DHCP clients from writing the file after us; take that back where it is not ours to
    write any more.
    """
    exposed = place.path == RESOLV_CONF and in_charge(ctx.host, ctx.settings.renderer) == "ifupdown"
    if exposed or ctx.state.applied(_LEASES):
        from agent.network import dhcp_leases

        yield from dhcp_leases.settle(ctx, _LEASES, exposed=exposed)


def _write(host: Host, path: str, text: str) -> None:
    link = _link(host)
    if path == RESOLV_CONF and ("systemd/resolve/" in link or "resolvconf" in link):
        # The owner of the link's target is not there: what is written through it would be gone at the
        # next boot.
        host.remove(RESOLV_CONF)
    host.write(path, text)
    if not host.live:
        return
    if path == RESOLVED_DROP_IN:
        host.run(
            ("systemctl", "--no-block", "try-reload-or-restart", "systemd-resolved.service"), check=False
        )
    elif path == RESOLVCONF_BASE:
        host.run(("resolvconf", "-u"))
    elif path == NETWORKMANAGER_CONF:
        # Once it has started it is on the bus, which its unit's reload needs.
        host.run(("systemctl", "--no-block", "try-reload-or-restart", NETWORKMANAGER_UNIT), check=False)
