"""Step: write the kernel parameters of Gandi's images to a sysctl.d(5) file that sorts before the
administrator's; a link has the customer's /etc/gandi/sysctl.conf applied after it.

systemd applies both at each boot; this step applies them only when one of them is new.
"""

from __future__ import annotations

from agent.host.chroot_path import link_target
from agent.report import Outcome, changed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context
    from agent.host.host import Host
    from agent.report import Item

FILE = "/etc/sysctl.d/10-gandi.conf"
CUSTOMERS, LINK = "/etc/gandi/sysctl.conf", "/etc/sysctl.d/90-gandi-customer.conf"
_SYSCTL = "/usr/lib/systemd/systemd-sysctl"
TEXT = """\
# Written by gandi-agent; once changed, it is left alone. Files of /etc/sysctl.d that sort after this one
# have the last word. The dashes: a kernel without that parameter is no error.

# Packets do not choose their own way through this machine.
-net.ipv4.conf.default.accept_source_route = 0
# One packet to a broadcast address must not make a whole network answer to a forged sender.
-net.ipv4.icmp_echo_ignore_broadcasts = 1
# A flood of half-open connections leaves room for real ones.
-net.ipv4.tcp_syncookies = 1
# The dumps of two threads or processes do not overwrite each other.
-kernel.core_uses_pid = 1

# With several NICs in one network, each is asked for with its own address and answers for all of them.
-net.ipv4.conf.all.arp_announce = 2
-net.ipv4.conf.default.arp_announce = 2
-net.ipv4.conf.all.arp_filter = 0
-net.ipv4.conf.default.arp_filter = 0
# A sender must be reachable, but by any NIC: the way back may be another one. New NICs add nothing to that.
-net.ipv4.conf.all.rp_filter = 2
-net.ipv4.conf.default.rp_filter = 0

# The swap disk is on the network: pages go there when memory is short, not before.
-vm.swappiness = 10
"""


def apply(ctx: Context) -> Iterator[Item]:
    """Reconcile the file and the link; apply all files in order when one of the two has changed."""
    host = ctx.host
    items = [_file(ctx)]
    if item := _customers(host):
        items.append(item)
    if host.live and any(item.outcome is Outcome.CHANGED for item in items):
        host.run((_SYSCTL,), check=False)
    yield from items


def _file(ctx: Context) -> Item:
    return ctx.state.system().reconcile(
        "sysctl",
        delivered=FILE,
        wanted=TEXT,
        live=ctx.host.read(FILE),
        apply=lambda: ctx.host.write(FILE, TEXT),
    )


def _customers(host: Host) -> Item | None:
    if host.exists(CUSTOMERS):
        return changed("sysctl.conf", CUSTOMERS) if host.symlink(LINK, CUSTOMERS) else None
    if link_target(host, LINK) == CUSTOMERS and host.remove(LINK):
        return changed("sysctl.conf", "gone")
    return None
