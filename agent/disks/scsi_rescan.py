"""SCSI disks whose sizes the kernel may have missed, and which are asked again.

A virtio controller has room for eight messages (VIRTIO_SCSI_EVENT_LEN of Linux's virtio_scsi): of more disks
that are enlarged at a time the kernel hears only that there was something, and looks for disks that came or
went. And a disk that is asked for its size while others are being attached answers with that news instead;
after a few such answers the kernel (sd_mod) takes it for empty. No event tells of either. A rescan has the
kernel ask once more, and a size that is new then comes as an event like any other.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

from agent.block import storage
from agent.block.transport import Bus, attachment
from agent.host.sysfs import listed
from agent.lib.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.context import Context
    from agent.host.host import Host

#: What the kernel knows as SCSI disks, by host:channel:target:lun.
_DISKS = "/sys/class/scsi_disk"
#: Seconds before each time that a disk which seems empty is asked: others may still be coming.
_PAUSES = (0.0, 0.5, 1.0, 2.0, 4.0)


def controller(host: Host, name: str) -> str:
    """The number of the SCSI host that a disk of the platform's is on, "" for a disk of another kind."""
    path = storage.devpath(host, name)
    if not path or attachment(host, path)[0] is not Bus.SCSI:
        return ""
    return _address(host, name).partition(":")[0]


def rescan(host: Host, controller: str) -> None:
    """Have the kernel ask all disks of a controller for their sizes."""
    for address in listed(host, _DISKS):
        if address.partition(":")[0] == controller:
            with suppress(HostError):  # it has gone meanwhile
                _ask(host, address)


def is_filled(ctx: Context, name: str) -> bool:
    """Whether a SCSI disk that the kernel takes for empty has a size after all, for which it is asked some
    times within seconds: no event would tell.
    """
    for pause in _PAUSES:
        ctx.waiting(f"the size of {name}")
        time.sleep(pause)
        if not storage.devpath(ctx.host, name):
            return False
        with suppress(HostError):  # it has gone meanwhile
            _ask(ctx.host, _address(ctx.host, name))
        if storage.size_now(ctx.host, name):
            return True
    return False


def _address(host: Host, name: str) -> str:
    return os.path.basename(os.path.realpath(host.path(f"{storage.BLOCK}/{name}/device")))


def _ask(host: Host, address: str) -> None:
    host.sysfs_write(f"{_DISKS}/{address}/device/rescan", "1")
