"""Step: replace the SSH host keys of a new instance that was copied from another machine's disk.

This step only removes them. gandi-sshdkeygen.service, ordered after this stage and before sshd, makes new
ones while the network starts.
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

    from agent.config.model import InstanceConfig
    from agent.context import Context
    from agent.host.host import Host
    from agent.report import Item

FOLDER = "/etc/ssh"
KEYGEN = "gandi-sshdkeygen.service"
#: The unit's program.
MAKER = "/usr/lib/gandi-agent/gandi-hostkeys"
#: Read by it.
TYPES = "/etc/ssh/.gandi-host-key-types"
_KEY = r"ssh_host_.*_key(?:\.pub|-cert\.pub)?"
#: Seconds to make three keys on a slow machine.
_TIMEOUT = 300.0


def apply(ctx: Context) -> Iterator[Item]:
    """Remove the other machine's keys, once per instance."""
    if not regenerate.is_due(ctx, regenerate.HOST_KEYS):
        return
    sshd = ctx.config.sshd if ctx.config else None
    _write_types(ctx.host, sshd.key_types if sshd else ())
    if not ctx.settings.ssh_hostkeys:
        # Decided once: a later change of the setting must not replace the keys of a machine in use.
        yield skipped("host keys", "CONFIG_SSH_HOSTKEYS=0")
    elif sshd is not None and not sshd.delete_keys:
        yield skipped("host keys", "ssh_deletekeys: false")
    else:
        yield from renew(ctx)
    regenerate.mark_done(ctx, regenerate.HOST_KEYS)


def renew(ctx: Context) -> Iterator[Item]:
    """Remove the keys; if the unit that makes new ones has already run, make them and reload sshd."""
    host, sshd = ctx.host, ctx.config.sshd if ctx.config else None
    names = keys(host, ctx.config)
    if not names:
        yield unchanged("host keys", "none in the image")
        return
    for name in names:
        host.remove(f"{FOLDER}/{name}")
    # The keys must be gone from the disk before the note that they are due for removal is.
    with host.opened(FOLDER, os.O_RDONLY) as folder:
        os.fsync(folder)
    is_made = host.live and not (sshd and sshd.has_keys)
    if is_made and (regenerate.is_late(ctx) or not units.is_enabled(host, KEYGEN)):
        # The unit has already run in this boot, or is not enabled.
        host.run((MAKER,), timeout=_TIMEOUT)
        _reload(host)
    yield changed("host keys", "new")


def _write_types(host: Host, types: tuple[str, ...]) -> None:
    """Write the types of keys to make, one on each line, for MAKER; without types it makes all."""
    if types:
        host.write(TYPES, "".join(f"{one}\n" for one in types))
    else:
        host.remove(TYPES)


def keys(host: Host, config: InstanceConfig | None = None) -> list[str]:
    """Return the names of the host keys in FOLDER, of their public halves and of their certificates, without
    those that the document delivers: a later step writes them.
    """
    delivered = {file.path for file in config.files} if config else set()
    names = (name for name in listed(host, FOLDER) if re.fullmatch(_KEY, name))
    return [name for name in names if f"{FOLDER}/{name}" not in delivered]


def _reload(host: Host) -> None:
    """Reload sshd if it runs: it has read the old keys."""
    for unit in ("ssh.service", "sshd.service"):
        host.run(("systemctl", "--no-block", "try-reload-or-restart", unit), check=False)
