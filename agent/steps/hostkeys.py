"""Step: a new instance whose disk was copied gets SSH host keys of its own.

Here they are removed, early; gandi-sshdkeygen.service, which comes after this stage and before sshd, makes
them off the way to the network.
"""

from __future__ import annotations

import os
import re

from agent.host.sysfs import listed
from agent.report import changed, skipped, unchanged
from agent.state import regenerate
from agent.systemd import units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context
    from agent.host.host import Host
    from agent.report import Item

FOLDER = "/etc/ssh"
KEYGEN = "gandi-sshdkeygen.service"
#: What the unit runs.
MAKER = "/usr/lib/gandi-agent/gandi-hostkeys"
_KEY = re.compile(r"ssh_host_.*_key(?:\.pub|-cert\.pub)?")
#: Seconds for three keys on a slow machine.
_TIMEOUT = 300.0


def apply(ctx: Context) -> Iterator[Item]:
    """Remove the keys of the machine that the disk was copied from, once for each instance."""
    if not regenerate.is_due(ctx, regenerate.HOST_KEYS):
        return
    host = ctx.host
    names = keys(host)
    if not ctx.settings.ssh_hostkeys:
        # Said once: a later change of the setting is no reason to change the keys of a machine in use.
        yield skipped("host keys", "CONFIG_SSH_HOSTKEYS=0")
    elif not names:
        yield unchanged("host keys", "none in the image")
    else:
        for name in names:
            host.remove(f"{FOLDER}/{name}")
        # The note of what is due must not leave the disk before the keys do.
        with host.opened(FOLDER, os.O_RDONLY) as folder:
            os.fsync(folder)
        if host.live and (regenerate.is_late(ctx) or not units.enabled(host, KEYGEN)):
            # The unit does not come any more, or not at all.
            host.run((MAKER,), timeout=_TIMEOUT)
            _reload(host)
        yield changed("host keys", "new")
    regenerate.done(ctx, regenerate.HOST_KEYS)


def keys(host: Host) -> list[str]:
    """Return the names of the host keys in FOLDER, of their public halves and of their certificates."""
    return [name for name in listed(host, FOLDER) if _KEY.fullmatch(name)]


def _reload(host: Host) -> None:
    """A server that runs has the old ones in memory."""
    for unit in ("ssh.service", "sshd.service"):
        host.run(("systemctl", "--no-block", "try-reload-or-restart", unit), check=False)
