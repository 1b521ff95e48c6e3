"""Kernel parameters of single NICs, as a sysctl.d(5) file: systemd's own udev rule applies it to each NIC
as it appears. Pure.

NICs other than the first answer ARP for their own addresses only and take what comes (arp_announce 2,
arp_filter 0, rp_filter 0). Where answers are routed by their source, the reverse path is looked for loosely
(rp_filter 2): the kernel takes the larger of the NIC's value and that of ``all``, so 0 would leave a
strict ``all`` in force, which drops what comes by any way but the first (ip-sysctl.rst).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.network.interfaces import Link

#: Sorts before the administrator's files, which so have the last word.
FILE = "/etc/sysctl.d/10-gandi-nics.conf"
_LOOSE = 2


def render(links: Iterable[Link]) -> str:
    """The file, "" where no NIC needs anything."""
    own = [link for link in links if not link.master]
    # The NICs of an image that does not run have no names yet.
    lines = [line for at, link in enumerate(own) if link.name for line in _lines(link, first=at == 0)]
    header = "# Written by gandi-agent; once changed, it is left alone.\n"
    return header + "".join(f"{line}\n" for line in lines) if lines else ""


def _lines(link: Link, *, first: bool) -> list[str]:
    values = {} if first else {"arp_announce": 2, "arp_filter": 0, "rp_filter": 0}
    if link.table:
        values["rp_filter"] = _LOOSE
    # With slashes: a name may have a dot in it. The dash: a NIC that is not there is no error.
    return [f"-net/ipv4/conf/{link.name}/{key} = {value}" for key, value in values.items()]
