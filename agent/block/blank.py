"""Is a device blank? The proof that is asked for before a filesystem or swap is made on one."""

from __future__ import annotations

import os

from agent.block import storage
from agent.host.sysfs import listed
from agent.lib.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.block.storage import Device
    from agent.host.host import Host

#: Bytes at each end of a device that must be zero.
EDGE = 4 << 20


def why_not(host: Host, device: Device) -> str:
    """What speaks against it that the device is blank and nobody's, "" when nothing does.

    Blank is: both ends zero, no signature and no partition table that libblkid knows (asked now, not
    remembered by udev), no partitions, no holders, writable, and nobody has it open for himself.
    """
    if device.readonly:
        return "it is read-only"
    path = storage.devpath(host, device.name)
    inside = [] if device.partition else [n for n in listed(host, path) if n.startswith(device.name)]
    if inside or device.holders:
        return f"in use: {', '.join(inside or device.holders)}"
    if found := {key for key in storage.probe(host, device.node) if not key.startswith("ID_PART_ENTRY_")}:
        return f"it has a signature ({', '.join(sorted(found))})"
    try:
        with host.opened(device.node, os.O_RDONLY | os.O_EXCL) as descriptor:
            for place in (0, max(0, device.size - EDGE)):
                if any(os.pread(descriptor, EDGE, place)):
                    return "something was written to it"
    except (HostError, OSError):
        # What cannot be read to its ends, or is somebody's for himself, is not known to be blank.
        return "somebody uses it, or it cannot be read"
    return ""
