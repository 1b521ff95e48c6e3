"""The system credentials of this machine (systemd.system-credentials(7)): what the platform passed to PID 1,
by strings of SMBIOS, QEMU's fw_cfg or the kernel command line.
"""

from __future__ import annotations

import os
import stat

from agent.host.sysfs import listed
from agent.lib.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.host.host import Host

#: Where PID 1 puts them, and where the daemon sees them: systemd hides the first folder from every service
#: with a mount namespace (BindReadOnlyPaths= in gandi-agent.service).
FOLDERS = ("/run/credentials/@system", "/run/gandi/credentials")
#: Most bytes of one: as of a file on a drive. systemd itself takes 1 MiB.
LIMIT = 16 << 20
#: Those that systemd's own programs apply, and that the steps respect: lines for fstab(5); root's keys and
#: password, as a hash or plain; beginnings of the names of networkd's files; resolvers.
FSTAB, KEYS = "fstab.extra", "ssh.authorized_keys.root"
HASHED, PLAIN = "passwd.hashed-password.root", "passwd.plaintext-password.root"
NETWORK, RESOLVERS = "network.network.", ("network.dns", "network.search_domains")
_HINT = "make it a file of root with mode 0400"


def names(host: Host) -> list[str]:
    """Return the names of the system credentials, sorted; none in an image, which is not running."""
    return [] if host.offline else sorted({name for folder in FOLDERS for name in listed(host, folder)})


def text(host: Host, name: str) -> str:
    """Return the text of a credential that a program of systemd applies, "" without it. Raise HostError."""
    if host.offline:
        return ""
    paths = (f"{folder}/{name}" for folder in FOLDERS)
    return next((found for path in paths if (found := host.read(path))), "")


def read(host: Host, name: str) -> bytes | None:
    """Return a system credential, None if it was not passed. Raise HostError as ``read_private``."""
    if host.offline:
        return None
    paths = (f"{folder}/{name}" for folder in FOLDERS)
    path = next(filter(host.exists, paths), "")
    return read_private(host, path) if path else None


def read_private(host: Host, path: str) -> bytes:
    """Return the content of a file that only root can read.

    Raise HostError if it is not such a file, cannot be read, or is larger than ``LIMIT``.
    """
    with host.opened(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK) as descriptor:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            raise HostError(f"{path}: not a file: not used", hint=_HINT)
        if info.st_uid not in (0, os.geteuid()) or info.st_mode & 0o077:
            raise HostError(f"{path}: open to other users than root: not used", hint=_HINT)
        content = bytearray()
        try:
            while len(content) <= LIMIT and (chunk := os.read(descriptor, 1 << 16)):
                content += chunk
        except OSError as error:
            raise HostError(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > LIMIT:
        raise HostError(
            f"{path}: larger than {LIMIT >> 20} MiB: not used", hint="deliver a smaller document"
        )
    return bytes(content)
