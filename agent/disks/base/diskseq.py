"""Which disks were attached while the machine runs: the kernel counts attachments (diskseq, Linux 5.15).

So events that are lost, doubled or made by ``udevadm trigger`` make no difference.
"""

from __future__ import annotations

from agent.block import storage
from agent.host.sysfs import attribute
from agent.lib.text import number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.host.host import Host

#: The count when the mount stage began. gandi-check writes it in a boot without stages.
FILE = "/run/gandi/coldplug"


def note_coldplug(host: Host) -> None:
    """Note that each disk that is there now was there before the machine ran. Raises HostError."""
    if not host.dry_run:
        counts = (attribute(host, f"{storage.BLOCK}/{name}/diskseq") for name in storage.names(host))
        host.write(FILE, f"{max((number(count) or 0 for count in counts), default=0)}\n")


def is_after_coldplug(host: Host, sequence: str) -> bool:
    """Return whether the attachment came after the mount stage began; without a count, and before that
    stage, none did.
    """
    first = number((host.read(FILE) or "").removesuffix("\n"))
    if first is None:
        note_coldplug(host)
        return False
    count = number(sequence)
    return count is not None and count > first
