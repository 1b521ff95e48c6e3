"""Step: which resolvers this machine asks, written where this system keeps them.

Whoever owns /etc/resolv.conf is asked in its own way: systemd-resolved gets a drop-in, Debian's
resolvconf its base file; otherwise the file itself is written, and of it only the nameserver and options
lines.
"""

from __future__ import annotations

import os

from agent import units
from agent.report import skipped
from agent.state import digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context
    from agent.host import Host
    from agent.model import InstanceConfig
    from agent.report import Item

RESOLV_CONF = "/etc/resolv.conf"
RESOLVED_DROP_IN = "/etc/systemd/resolved.conf.d/10-gandi.conf"
RESOLVCONF_BASE = "/etc/resolvconf/resolv.conf.d/base"
#: resolv.conf(5): one second for each of three tries, and the load spread over the servers.
_OPTIONS = "options timeout:1 attempts:3 rotate"
_RESOLVED = "/usr/lib/systemd/systemd-resolved"


def apply(ctx: Context) -> Iterator[Item]:
    """Settle the resolvers as one item."""
    config = ctx.config
    if config is None or not config.nameservers:
        return
    chosen = choose(config)
    if not chosen:
        yield skipped("resolvers", "this machine has no IPv4 and all of its resolvers are IPv4")
        return
    host, delivered = ctx.host, "\n".join(sorted(config.nameservers))
    if _by_resolved(host):
        path, wanted = RESOLVED_DROP_IN, drop_in(chosen)
        live, text = host.read(path), wanted
    else:
        path = RESOLVCONF_BASE if _by_resolvconf(host) else RESOLV_CONF
        current, wanted = host.read(path) or "", _lines(chosen)
        live, text = _ours(current) or None, _others(current) + wanted
    yield ctx.state.settle(
        "resolvers",
        delivered=delivered,
        wanted=wanted,
        live=live,
        apply=lambda: _write(host, path, text),
        detail=", ".join(chosen),
    )


def choose(config: InstanceConfig) -> tuple[str, ...]:
    """Two IPv4 and one IPv6 resolver on a machine that has any IPv4, else up to three IPv6.

    Which ones is spread over machines and stays the same for one: the order is that of a digest of the
    machine's identity and the resolver, so a resolver that joins or leaves the list moves no other.
    """
    seed = f"{config.identity.source}\n{config.identity.id}\n"
    ranked = sorted(dict.fromkeys(config.nameservers), key=lambda server: digest(seed + server))
    old = [server for server in ranked if ":" not in server]
    new = [server for server in ranked if ":" in server]
    return tuple(old[:2] + new[:1]) if _has_ipv4(config) else tuple(new[:3])


def drop_in(servers: tuple[str, ...]) -> str:
    """The text for systemd-resolved (resolved.conf(5)); timeouts and rotation are its own affair."""
    return f"# Written by gandi-agent; once changed, it is left alone.\n[Resolve]\nDNS={' '.join(servers)}\n"


def _has_ipv4(config: InstanceConfig) -> bool:
    # Without any NIC in the document there is DHCP, which is asked for IPv4.
    return not config.nics or any(
        nic.dhcp4 or any(":" not in address for address in nic.addresses) for nic in config.nics
    )


def _lines(servers: tuple[str, ...]) -> str:
    return "".join(f"nameserver {server}\n" for server in servers) + _OPTIONS + "\n"


def _ours(text: str) -> str:
    return "".join(f"{line}\n" for line in text.splitlines() if _is_ours(line))


def _others(text: str) -> str:
    return "".join(f"{line}\n" for line in text.splitlines() if not _is_ours(line))


def _is_ours(line: str) -> bool:
    return line.split()[:1] in (["nameserver"], ["options"])


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
