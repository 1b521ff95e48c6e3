"""Step: set the DNS resolvers, in the place where this system keeps them.

That depends on the program that manages /etc/resolv.conf: a drop-in for systemd-resolved, the base file for
Debian's resolvconf, a configuration file for NetworkManager. Without any of them /etc/resolv.conf itself is
edited; lines of a kind that the document says nothing about stay.
"""

from __future__ import annotations

from agent.host.chroot_path import link_target
from agent.lib.records import dataclass
from agent.lib.text import HEADER, lines, words
from agent.network.managers import NETWORKMANAGER_UNIT, active_manager
from agent.report import Outcome, skipped
from agent.state.json_file import digest
from agent.systemd import credentials, units

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
#: resolv.conf(5): three attempts of one second each, servers used in rotation.
_OPTIONS = "options timeout:1 attempts:3 rotate"
_RESOLVED = "/usr/lib/systemd/systemd-resolved"
#: Names in the state: the item, and the file that it was written to last.
_ITEM, KEPT_IN = "resolvers", "file of resolvers"
#: Prefix of the items that keep DHCP clients from writing /etc/resolv.conf.
_LEASES = "resolvers of leases"

#: First words of the lines of resolv.conf that the agent replaces.
_NAMESERVER, _OPTION, _SEARCH = "nameserver", "options", "search"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Name servers, search domains, and a line of options as in resolv.conf(5)."""

    servers: tuple[str, ...]
    search: tuple[str, ...] = ()
    options: str = ""

    def lines(self) -> str:
        """Return the lines of resolv.conf(5)."""
        search = f"{_SEARCH} {' '.join(self.search)}\n" if self.search else ""
        servers = "".join(f"{_NAMESERVER} {server}\n" for server in self.servers)
        return search + servers + (f"{self.options}\n" if self.options else "")


@dataclass(frozen=True, slots=True)
class Place:
    """The file with this system's resolvers. ``whole``: all of it is the agent's; else some lines are."""

    path: str
    whole: bool
    render: Callable[[Wanted], str] = Wanted.lines
    #: Whether the program that reads it gets each NIC's resolvers from the NIC's own configuration.
    knows_links: bool = False


def apply(ctx: Context) -> Iterator[Item]:
    """Reconcile the resolvers as one item."""
    config = ctx.config
    if config is None:
        return
    host, place = ctx.host, _place(ctx)
    passed = [one for one in credentials.RESOLVERS if credentials.text(host, one)]
    if passed and place.path == RESOLVED_DROP_IN:
        # With a setting of its own, systemd-resolved ignores them (systemd-resolved(8), CREDENTIALS).
        yield skipped(_ITEM, f"systemd-resolved sets them, by its credential {' and '.join(passed)}")
        return
    wanted = _wanted(config, place)
    if not wanted.servers and not wanted.search:
        if config.nameservers:
            yield skipped("resolvers", "this machine has no IPv4 and all of its resolvers are IPv4")
        return
    current, text = host.read(place.path), place.render(wanted)
    ours = {_NAMESERVER} | ({_OPTION} if wanted.options else set()) | ({_SEARCH} if wanted.search else set())
    live = current if place.whole else _lines(current or "", ours, ours=True) or None
    if live is None and not ctx.state.is_as_applied(KEPT_IN, place.path):
        # Not removed by the administrator: another program manages the resolvers from now on.
        ctx.state.forget(_ITEM)
    item = ctx.state.reconcile(
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
        ctx.state.record_value(KEPT_IN, place.path)
    yield item
    if item.outcome is not Outcome.KEPT:
        yield from _leases(ctx, place)


def _place(ctx: Context) -> Place:
    host = ctx.host
    if _by_resolved(host):
        return Place(RESOLVED_DROP_IN, whole=True, render=drop_in, knows_links=True)
    if "resolvconf" in _link(host) and host.exists(RESOLVCONF_BASE.rpartition("/")[0]):
        # ifupdown's and dhcpcd's hooks add what each NIC brings.
        return Place(RESOLVCONF_BASE, whole=False, knows_links=True)
    if _by_networkmanager(ctx):
        return Place(NETWORKMANAGER_CONF, whole=True, render=global_dns)
    return Place(RESOLV_CONF, whole=False)


def _offered(config: InstanceConfig, place: Place) -> tuple[str, ...]:
    """Return the document's global servers, and those of each NIC unless the place gets them by itself."""
    own = () if place.knows_links else (server for nic in config.nics for server in nic.nameservers)
    return tuple(dict.fromkeys((*config.nameservers, *own)))


def _wanted(config: InstanceConfig, place: Place) -> Wanted:
    own = () if place.knows_links else (domain for nic in config.nics for domain in nic.search)
    search = tuple(dict.fromkeys((*config.search, *own)))
    if config.identity.source == "gandi":
        return Wanted(choose(config), search, _OPTIONS)
    if place.path == NETWORKMANAGER_CONF and not config.nameservers:
        # With global servers set, NetworkManager would ignore those of each NIC.
        return Wanted(())
    return Wanted(_offered(config, place), search)


def choose(config: InstanceConfig) -> tuple[str, ...]:
    """Return a Gandi machine's resolvers: two IPv4 and one IPv6 if it has any IPv4, else up to three IPv6.

    The choice differs between machines and is constant on one: resolvers are ordered by a digest of the
    machine's identity and the resolver, so adding or removing one moves no other. The lists of other
    platforms are used as they are.
    """
    seed = f"{config.identity.source}\n{config.identity.id}\n"
    ranked = sorted(dict.fromkeys(config.nameservers), key=lambda server: digest(seed + server))
    old = [server for server in ranked if ":" not in server]
    new = [server for server in ranked if ":" in server]
    return tuple(old[:2] + new[:1]) if _has_ipv4(config) else tuple(new[:3])


def drop_in(wanted: Wanted) -> str:
    """Return the text for systemd-resolved (resolved.conf(5)); it has its own timeouts and rotation."""
    lines = [f"DNS={' '.join(wanted.servers)}"] if wanted.servers else []
    lines += [f"Domains={' '.join(wanted.search)}"] if wanted.search else []
    return HEADER + "[Resolve]\n" + "".join(f"{line}\n" for line in lines)


def global_dns(wanted: Wanted) -> str:
    """Return the text for NetworkManager (NetworkManager.conf(5), global-dns), which writes resolv.conf."""
    lists = {"searches": wanted.search, "options": tuple(words(wanted.options)[1:])}
    lines = "".join(f"{key}={','.join(values)}\n" for key, values in lists.items() if values)
    return f"{HEADER}[global-dns]\n{lines}\n[global-dns-domain-*]\nservers={','.join(wanted.servers)}\n"


def _has_ipv4(config: InstanceConfig) -> bool:
    # Without a NIC in the document, all get DHCP, which includes IPv4.
    return not config.nics or any(
        nic.dhcp4 or any(":" not in address for address in nic.addresses) for nic in config.nics
    )


def _lines(text: str, kinds: set[str], *, ours: bool) -> str:
    """Return the lines that begin with one of these words; with ``ours=False``, the others."""
    kept = (line for line in lines(text) if bool(kinds & set(words(line)[:1])) is ours)
    return "".join(f"{line}\n" for line in kept)


def _link(host: Host) -> str:
    """Return the link target of /etc/resolv.conf, "" if it is a file or missing."""
    return link_target(host, RESOLV_CONF) or ""


def _by_resolved(host: Host) -> bool:
    # Whether the target exists does not count: systemd-resolved makes it later in the boot.
    link = _link(host)
    ours = "systemd/resolve/" in link or link.endswith("lib/systemd/resolv.conf")
    return ours and host.exists(_RESOLVED) and not units.is_masked(host, "systemd-resolved.service")


def _by_networkmanager(ctx: Context) -> bool:
    """Return whether NetworkManager replaces /etc/resolv.conf when it starts."""
    manager = active_manager(ctx.host, ctx.settings.renderer)
    return manager in ("networkmanager", "netplan") and units.is_enabled(ctx.host, NETWORKMANAGER_UNIT)


def _leases(ctx: Context, place: Place) -> Iterator[Item]:
    """Keep ifupdown's DHCP clients from replacing /etc/resolv.conf while the agent writes that file; undo it
    once another program does.
    """
    exposed = place.path == RESOLV_CONF and active_manager(ctx.host, ctx.settings.renderer) == "ifupdown"
    if exposed or ctx.state.recorded_items(_LEASES):
        from agent.network import dhcp_leases

        yield from dhcp_leases.reconcile(ctx, _LEASES, exposed=exposed)


def _write(host: Host, path: str, text: str) -> None:
    link = _link(host)
    if path == RESOLV_CONF and ("systemd/resolve/" in link or "resolvconf" in link):
        # The link leads below /run, to the file of a program that is not in use: what is written through it
        # would be gone at the next boot.
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
        # Its unit's reload goes over D-Bus, which it is on once it has started.
        host.run(("systemctl", "--no-block", "try-reload-or-restart", NETWORKMANAGER_UNIT), check=False)
