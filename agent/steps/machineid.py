"""Step: replace the machine-id(5) of a new instance that was copied from another machine's disk.

It is done before the network starts, since DHCP and stable IPv6 addresses are derived from it. An id that
systemd made in this boot is kept. The journal's folders are named after the id and are renamed with it:
journalctl(1) shows only those of the current id.
"""

from __future__ import annotations

import os
import re
import time

from agent.host.chroot_path import unfollowed
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
_ID = r"[0-9a-f]{32}"


def apply(ctx: Context) -> Iterator[Item]:
    """Write a new machine-id, once per instance."""
    if not regenerate.is_due(ctx, regenerate.MACHINE_ID):
        return
    if regenerate.is_late(ctx):
        # Services that have started already would go on with the old id.
        yield skipped("machine-id", "replaced at the next boot, before the network starts")
        return
    host = ctx.host
    old = (host.read(FILE) or "").strip(WHITE)
    if not re.fullmatch(_ID, old) or _is_new_this_boot(host):
        regenerate.mark_done(ctx, regenerate.MACHINE_ID)
        yield unchanged("machine-id", "made in this boot")
        return
    new = random_id()
    host.write(FILE, f"{new}\n", mode=0o444)
    if not os.path.islink(unfollowed(host, DBUS)) and host.exists(DBUS):
        host.write(DBUS, f"{new}\n")
    if host.live:
        _move_journal(host, old, new)
    regenerate.mark_done(ctx, regenerate.MACHINE_ID)
    yield changed("machine-id", "new")


def random_id() -> str:
    """Return a random id as systemd makes it: the hex digits of a version 4 UUID (sd-id128(3))."""
    data = bytearray(os.urandom(16))
    data[6] = data[6] & 0x0F | 0x40
    data[8] = data[8] & 0x3F | 0x80
    return data.hex()


def _is_new_this_boot(host: Host) -> bool:
    """Return whether systemd made the machine-id in this boot.

    Either it is a file mounted over /etc/machine-id, as systemd does while / is read-only, or it was written
    between boot time (btime, rounded down to seconds) and now. A time in the future is that of an image:
    this machine's clock is behind.
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
        # journald goes on with the id it started with. Its clients keep their connections over a restart.
        host.run(("systemctl", "--no-block", "restart", "systemd-journald.service"), check=False)
