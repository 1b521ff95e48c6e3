"""Mount mode *notify*: announce a data disk to the logged-in users, who mount it themselves. The journal has
the announcement with the device's outcome.
"""

from __future__ import annotations

import os

from agent.disks.base.record import DiskState, Records, renewed
from agent.disks.policy import folder_name
from agent.host.terminal import block
from agent.lib.errors import HostError
from agent.lib.records import replace
from agent.lib.text import gib
from agent.report import changed, skipped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.block.storage import Device, Disk
    from agent.context import Context
    from agent.report import Item

#: Seconds to write to one terminal, and to all of them: one that does not read is skipped.
_TERMINAL, _TIMEOUT = 5, 20.0


def announce(ctx: Context, disk: Disk, device: Device, mountpoint: str) -> Iterator[Item]:
    """Announce the device to the users, once for each attachment."""
    records = Records(ctx.host)
    known = records.current(disk, device)
    if known.state == DiskState.ANNOUNCED:
        yield skipped(device.name, "mount mode notify: announced to the users")
        return
    records.put(
        device.name, replace(renewed(known, disk, device), state=DiskState.ANNOUNCED, mountpoint=mountpoint)
    )
    text = announcement(device.node, device.label, device.size, device.fstype, mountpoint)
    try:
        ctx.host.run(("wall", "--timeout", str(_TERMINAL)), stdin=text.encode(), timeout=_TIMEOUT)
    except HostError as error:
        yield skipped("wall", f"not announced to the users: {error.message}")
    yield changed(
        device.name, f"not mounted (mount mode notify): to mount it, gandi-agent mount {device.name}"
    )


def announcement(node: str, label: bytes, size: int, fstype: str, mountpoint: str) -> str:
    """Return the text for the users' terminals; ``size`` in bytes."""
    name = f" ({folder_name(label)})" if label else ""
    return block(
        f"Disk {node}{name}, {gib(size)}, {fstype}, has been attached.",
        f"To mount it at {mountpoint}: gandi-agent mount {os.path.basename(node)}",
    )
