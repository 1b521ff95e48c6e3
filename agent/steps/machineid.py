"""Step: a machine-id of its own (machine-id(5)) for a new instance whose disk was copied, before the network
starts: DHCP and stable IPv6 addresses are made of it.

One that this boot has made is nobody else's. The journal goes with the new one: its folders are named by
it, and whoever reads it sees only those.
"""

from __future__ import annotations

import os
import re
import time

from agent.lib.text import WHITE
from agent.report import changed, skipped, unchanged
from agent.state import regenerate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context
    from agent.host.host import Host
    from agent.report import Item

FILE, DBUS = "/etc/machine-id", "/var/lib/dbus/machine-id"
_JOURNALS = ("/run/log/journal", "/var/log/journal")
_ID = re.compile(r"[0-9a-f]{32}")


def apply(ctx: Context) -> Iterator[Item]:
    """Write a new one, once for each instance."""
    if not regenerate.is_due(ctx, regenerate.MACHINE_ID):
        return
    if regenerate.is_late(ctx):
        # Half of the system would know itself by the one, half by the other.
        yield skipped("machine-id", "replaced at the next boot, before the network starts")
        return
    host = ctx.host
    old = (host.read(FILE) or "").strip(WHITE)
    if not _ID.fullmatch(old) or _made_now(host):
        regenerate.done(ctx, regenerate.MACHINE_ID)
        yield unchanged("machine-id", "made in this boot")
        return
    new = random_id()
    host.write(FILE, f"{new}\n", mode=0o444)
    if not os.path.islink(os.path.join(host.path("/var/lib/dbus"), "machine-id")) and host.exists(DBUS):
        host.write(DBUS, f"{new}\n")
    if host.live:
        _move_journal(host, old, new)
    regenerate.done(ctx, regenerate.MACHINE_ID)
    yield changed("machine-id", "new")


def random_id() -> str:
    """128 random bits as a UUID of version 4, as systemd makes them (sd-id128(3))."""
    data = bytearray(os.urandom(16))
    data[6] = data[6] & 0x0F | 0x40
    data[8] = data[8] & 0x3F | 0x80
    return data.hex()


def _made_now(host: Host) -> bool:
    """Whether systemd made it at this boot: it lies in a file of its own until / can be written, or was
    written between the boot, whose second is rounded down, and now. One from the future is an image's: this
    machine's clock is behind.
    """
    if not host.live:
        return False
    file, folder = os.stat(host.path(FILE)), os.stat(host.path("/etc"))
    if file.st_dev != folder.st_dev:
        return True
    times = re.search(r"^btime ([0-9]+)$", host.read("/proc/stat") or "", re.MULTILINE)
    return times is not None and int(times[1]) <= file.st_mtime <= time.time()


def _move_journal(host: Host, old: str, new: str) -> None:
    moved = False
    for folder in _JOURNALS:
        if host.exists(f"{folder}/{old}"):
            host.run(("mv", "-T", f"{folder}/{old}", f"{folder}/{new}"), check=False)
            moved = True
    if moved:
        # It keeps the id that it began with. Those who write to it keep their connections.
        host.run(("systemctl", "--no-block", "restart", "systemd-journald.service"), check=False)
