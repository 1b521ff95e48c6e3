"""Set the number of queue pairs of each virtio NIC: the number of CPUs online, at most MOST.

The driver chooses a number when it starts, and does not adapt it when CPUs are added. A number that the
administrator sets is kept: the agent records for this boot the number that it last left.
"""

from __future__ import annotations

from agent.host.sysfs import attribute, listed, online_cpus
from agent.lib.errors import HostError
from agent.network import interfaces
from agent.report import changed, failed, kept, unchanged
from agent.state import boot_cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context
    from agent.host.host import Host
    from agent.network.interfaces import Interface
    from agent.report import Item

MOST = 8
_SYS = "/sys/class/net"
#: VIRTIO_NET_F_MQ of linux/virtio_net.h: the device supports several pairs.
_MULTIQUEUE = 22


def reconcile(ctx: Context) -> Iterator[Item]:
    """Set the number of queue pairs of every virtio NIC that supports several."""
    if not ctx.settings.multiqueue or ctx.host.offline:
        return
    before = boot_cache.load(ctx.host, boot_cache.QUEUES) or {}
    left, cpus = dict[str, int](), len(online_cpus(ctx.host)) or 1
    for interface in interfaces.physical(ctx.host):
        if is_multiqueue(ctx.host, interface):
            item = _reconcile(ctx.host, interface, min(MOST, cpus), before.get(str(interface.index)), left)
            if item is not None:
                yield item
    if left != before:
        boot_cache.store(ctx.host, boot_cache.QUEUES, left)


def is_multiqueue(host: Host, interface: Interface) -> bool:
    """Return whether it is a virtio NIC that supports several queue pairs."""
    features = attribute(host, f"{_SYS}/{interface.name}/device/features")
    return features[_MULTIQUEUE : _MULTIQUEUE + 1] == "1"


def queue_count(host: Host, interface: Interface) -> int:
    """Return the number of queue pairs in use: sysfs lists no others."""
    return sum(name.startswith("tx-") for name in listed(host, f"{_SYS}/{interface.name}/queues"))


def _reconcile(
    host: Host, interface: Interface, wanted: int, last: int | None, left: dict[str, int]
) -> Item | None:
    """Set the queue pairs of one NIC; return None if the NIC has gone.

    ``last`` is the number that the agent left before; ``left`` gets the number left now, by ifindex.
    """
    name, index, live = f"queues:{interface.name}", str(interface.index), queue_count(host, interface)
    if not live:
        return None
    if last is not None:
        left[index] = last
    if last not in (None, live) and live != wanted:
        return kept(name)
    from agent.network import ethtool_netlink

    try:
        if live != wanted:
            most = ethtool_netlink.queues(interface.index)[1]
            wanted = min(wanted, most)
        if live != wanted:
            ethtool_netlink.set_queues(host, interface.index, wanted)
    except HostError as error:
        return failed(name, error.message, "CONFIG_MULTIQUEUE=0 leaves the queues alone")
    left[index] = wanted
    return unchanged(name, f"{live}") if live == wanted else changed(name, f"{live} -> {wanted}")
