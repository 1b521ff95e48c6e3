"""How many queues a virtio NIC uses: as many as there are CPUs online, eight at the most.

The driver chooses when it starts; it does not follow when CPUs are added. Who sets another number by hand
is left with it: the number that was last left here is remembered for this boot.
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
#: VIRTIO_NET_F_MQ of linux/virtio_net.h: the device may have more than one pair.
_MULTIQUEUE = 22


def tune(ctx: Context) -> Iterator[Item]:
    """Give every virtio NIC its number. One that has a single queue costs a look at a file."""
    if not ctx.settings.multiqueue or ctx.host.offline:
        return
    before = boot_cache.load(ctx.host, boot_cache.QUEUES) or {}
    left, cpus = dict[str, int](), len(online_cpus(ctx.host)) or 1
    for one in interfaces.physical(ctx.host):
        if has_several(ctx.host, one):
            item = _settle(ctx.host, one, min(MOST, cpus), before.get(str(one.index)), left)
            if item is not None:
                yield item
    if left != before:
        boot_cache.store(ctx.host, boot_cache.QUEUES, left)


def has_several(host: Host, one: Interface) -> bool:
    """Whether the NIC is a virtio one whose device has several queues."""
    features = attribute(host, f"{_SYS}/{one.name}/device/features")
    return features[_MULTIQUEUE : _MULTIQUEUE + 1] == "1"


def in_use(host: Host, one: Interface) -> int:
    """How many queue pairs it uses now: what is not in use is not in its folder."""
    return sum(name.startswith("tx-") for name in listed(host, f"{_SYS}/{one.name}/queues"))


def _settle(host: Host, one: Interface, wanted: int, last: int | None, left: dict[str, int]) -> Item | None:
    """``left`` gets the number under which a later look finds it ours; None of a NIC that has gone."""
    name, index, live = f"queues:{one.name}", str(one.index), in_use(host, one)
    if not live:
        return None
    if last is not None:
        left[index] = last
    if last not in (None, live) and live != wanted:
        return kept(name)
    from agent.network import ethtool_netlink

    try:
        if live != wanted:
            most = ethtool_netlink.queues(one.index)[1]
            wanted = min(wanted, most)
        if live != wanted:
            ethtool_netlink.set_queues(host, one.index, wanted)
    except HostError as error:
        return failed(name, error.message, "CONFIG_MULTIQUEUE=0 leaves the queues alone")
    left[index] = wanted
    return unchanged(name, f"{live}") if live == wanted else changed(name, f"{live} -> {wanted}")
