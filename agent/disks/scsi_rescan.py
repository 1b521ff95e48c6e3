"""Rescan SCSI disks: the kernel may have missed their new sizes.

A virtio controller has room for eight messages (VIRTIO_SCSI_EVENT_LEN of Linux's virtio_scsi): if more disks
are enlarged at a time, the kernel learns only that a disk changed, and searches for added and removed
disks. Also, a disk that is asked for its size while others are being attached reports that change instead;
after a few such replies the kernel (sd_mod) takes the disk for empty. Neither causes an event. After a
rescan, a new size causes an event as usual.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

from agent.block import storage
from agent.block.transport import Transport, attachment
from agent.host.sysfs import listed
from agent.lib.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.context import Context
    from agent.host.host import Host

#: The kernel's SCSI disks, by host:channel:target:lun.
_DISKS = "/sys/class/scsi_disk"
#: Seconds to pause before each rescan of a disk that seems empty: others may still be being attached.
_PAUSES = (0.0, 0.5, 1.0, 2.0, 4.0)


def controller(host: Host, name: str) -> str:
    """Return the number of the SCSI host of a disk from the platform, or "" for a disk of another kind."""
    path = storage.devpath(host, name)
    if not path or attachment(host, path)[0] is not Transport.SCSI:
        return ""
    return _address(host, name).partition(":")[0]


def rescan(host: Host, controller: str) -> None:
    """Make the kernel read the sizes of all disks of a controller again."""
    for address in listed(host, _DISKS):
        if address.partition(":")[0] == controller:
            with suppress(HostError):  # it has gone since
                _rescan_disk(host, address)


def gets_size(ctx: Context, name: str) -> bool:
    """Return whether a SCSI disk that the kernel takes for empty has a size after some rescans, within
    seconds. The kernel would send no event.
    """
    for pause in _PAUSES:
        ctx.on_wait(f"the size of {name}")
        time.sleep(pause)
        if not storage.devpath(ctx.host, name):
            return False
        with suppress(HostError):  # it has gone since
            _rescan_disk(ctx.host, _address(ctx.host, name))
        if storage.current_size(ctx.host, name):
            return True
    return False


def _address(host: Host, name: str) -> str:
    return os.path.basename(os.path.realpath(host.path(f"{storage.BLOCK}/{name}/device")))


def _rescan_disk(host: Host, address: str) -> None:
    host.sysfs_write(f"{_DISKS}/{address}/device/rescan", "1")
