"""Step: set the time servers (cloud-config's ``ntp``), for systemd-timesyncd or chrony.

The client is the document's; else chrony if it is installed, which then is the one in use, else timesyncd.
The document's servers replace those of chrony.conf; timesyncd gets a drop-in.
"""

from __future__ import annotations

from agent.lib.errors import ConfigError
from agent.lib.text import HEADER, lines, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config.system import Ntp
    from agent.context import Context
    from agent.host.host import Host
    from agent.report import Item

TIMESYNCD, CHRONY = "systemd-timesyncd", "chrony"
_TIMESYNCD = "/usr/lib/systemd/systemd-timesyncd"
DROP_IN = "/etc/systemd/timesyncd.conf.d/50-gandi.conf"
#: Debian's file, and that of the RPM systems.
_CHRONY_CONF = ("/etc/chrony/chrony.conf", "/etc/chrony.conf")
#: Lines of chrony.conf(5) that name a server.
_SERVERS = ("server", "pool", "peer")


def apply(ctx: Context) -> Iterator[Item]:
    """Reconcile the servers. Raise ConfigError if the document's client is not installed."""
    ntp = ctx.config.system.ntp if ctx.config and ctx.config.system else None
    if ntp is None:
        return
    client = _client(ctx.host, ntp)
    path = DROP_IN if client == TIMESYNCD else _chrony_conf(ctx.host)
    text = ctx.host.read(path)
    if client == CHRONY and text is None:
        raise ConfigError(f"{path}: missing", hint="install chrony again, or write ntp_client: auto")
    wanted = _drop_in(ntp) if client == TIMESYNCD else _chrony(text or "", ntp)
    yield ctx.state.reconcile(
        "ntp",
        delivered="\n".join((*ntp.servers, "", *ntp.pools)),
        wanted=wanted,
        live=text,
        apply=lambda: _set(ctx, path, wanted, client),
        detail=f"{client}: {', '.join((*ntp.servers, *ntp.pools)) or 'its own servers'}",
    )


def _client(host: Host, ntp: Ntp) -> str:
    there = {CHRONY: bool(host.which("chronyd")), TIMESYNCD: host.exists(_TIMESYNCD)}
    wanted = ntp.client or next((name for name, is_there in there.items() if is_there), TIMESYNCD)
    if not there[wanted]:
        raise ConfigError(
            f"ntp: {wanted} is not installed", hint="use an image with it, or write ntp_client: auto"
        )
    return wanted


def _chrony_conf(host: Host) -> str:
    return next((path for path in _CHRONY_CONF if host.exists(path)), _CHRONY_CONF[0])


def _drop_in(ntp: Ntp) -> str:
    servers = " ".join((*ntp.servers, *ntp.pools))
    # An empty assignment removes the servers of the files before.
    return f"{HEADER}[Time]\n" + (f"NTP=\nNTP={servers}\n" if servers else "")


def _chrony(text: str, ntp: Ntp) -> str:
    """Return the configuration with the document's servers in place of its own."""
    if not (ntp.servers or ntp.pools):
        return text
    kept = [line for line in lines(text) if words(line)[:1] not in [[word] for word in _SERVERS]]
    servers = [f"server {one} iburst" for one in ntp.servers] + [f"pool {one} iburst" for one in ntp.pools]
    return "".join(f"{line}\n" for line in (*kept, *servers))


def _set(ctx: Context, path: str, text: str, client: str) -> None:
    ctx.host.write(path, text)
    if not ctx.host.live:
        return
    service = f"{client}.service"
    if client == CHRONY and not ctx.host.exists("/usr/lib/systemd/system/chrony.service"):
        service = "chronyd.service"
    # A client that is to start later in this boot reads the file then.
    ctx.host.run(("systemctl", "--no-block", "try-restart", service))
