"""Kernel parameters of single NICs, as a sysctl.d(5) file: systemd's own udev rule applies it to each NIC
as it appears. Pure.

NICs other than the first announce only their own addresses by ARP and accept packets from anywhere
(arp_announce 2, arp_filter 0, rp_filter 0). Where replies are routed by their source address, the reverse
path is checked loosely (rp_filter 2): the kernel uses the larger of the NIC's value and that of ``all``, so
0 would leave a strict ``all`` in force, which drops packets that arrive by any NIC but the first
(ip-sysctl.rst).
"""

from __future__ import annotations

from agent.lib.text import HEADER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.network.interfaces import Link

#: Sorts before the administrator's files, which therefore override it.
FILE = "/etc/sysctl.d/10-gandi-nics.conf"
_LOOSE = 2


def render(links: Iterable[Link]) -> str:
    """Return the file's text, "" if no NIC needs a parameter."""
    own = [link for link in links if not link.master and not link.nic.loopback]
    # The NICs of an image that does not run have no names yet.
    lines = [line for at, link in enumerate(own) if link.name for line in _lines(link, first=at == 0)]
    return HEADER + "".join(f"{line}\n" for line in lines) if lines else ""


def _lines(link: Link, *, first: bool) -> list[str]:
    values = {} if first else {"arp_announce": 2, "arp_filter": 0, "rp_filter": 0}
    if link.table:
        values["rp_filter"] = _LOOSE
    # Slashes, because a name may contain a dot; the dash makes a missing NIC no error.
    return [f"-net/ipv4/conf/{link.name}/{key} = {value}" for key, value in values.items()]
