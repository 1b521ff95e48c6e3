"""Find out which disks were attached while the machine runs: the kernel counts attachments (diskseq,
Linux 5.15).

So lost and repeated events, and those of ``udevadm trigger``, make no difference.
"""

from __future__ import annotations

from agent.block import storage
from agent.host.sysfs import attribute
from agent.lib.text import number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.host.host import Host

#: Has the count at the start of the mount stage. gandi-check writes it in a boot without stages.
FILE = "/run/gandi/coldplug"


def note_coldplug(host: Host) -> None:
    """Store the present count: all disks up to it count as attached before the boot. Raise HostError."""
    if not host.dry_run:
        counts = (attribute(host, f"{storage.BLOCK}/{name}/diskseq") for name in storage.names(host))
        host.write(FILE, f"{max((number(count) or 0 for count in counts), default=0)}\n")


def is_after_coldplug(host: Host, diskseq: str) -> bool:
    """Return whether a disk with this diskseq was attached after the start of the mount stage; False without
    a diskseq. If no count is stored, store the present one and return False.
    """
    first = number((host.read(FILE) or "").removesuffix("\n"))
    if first is None:
        note_coldplug(host)
        return False
    count = number(diskseq)
    return count is not None and count > first
