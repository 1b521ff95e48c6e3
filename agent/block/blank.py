"""Check that a device is blank before a filesystem or swap is made on it."""

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


def why_not_blank(host: Host, device: Device) -> str:
    """Return why the device may not be treated as blank, or "".

    A blank device is writable; has no partitions, no holders and no exclusive opener; libblkid finds no
    signature and no partition table on it (now, not in udev's database); and its first and last EDGE bytes
    are zero. Raise HostError if libblkid does not end.
    """
    if device.readonly:
        return "it is read-only"
    path = storage.devpath(host, device.name)
    inside = [] if device.partition else [n for n in listed(host, path) if n.startswith(device.name)]
    if inside or device.holders:
        return f"in use: {', '.join(inside or device.holders)}"
    if keys := {key for key in storage.probe(host, device.node) if not key.startswith("ID_PART_ENTRY_")}:
        return f"it has a signature ({', '.join(sorted(keys))})"
    try:
        with host.opened(device.node, os.O_RDONLY | os.O_EXCL) as descriptor:
            for offset in (0, max(0, device.size - EDGE)):
                if any(os.pread(descriptor, EDGE, offset)):
                    return f"its first or last {EDGE >> 20} MiB are not all zero"
    except (HostError, OSError):
        # A device that is opened exclusively, or cannot be read, is not known to be blank.
        return "it is in exclusive use, or cannot be read"
    return ""
