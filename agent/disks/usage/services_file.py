"""Read ``.gandi/services`` of a data disk: the services that use it, one a line. It is read when the disk is
mounted; a detach stops those of them that really use the disk.

The disk may come from any user: its file is only a list of names, and no link on it is followed.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat

from agent.lib.text import WHITE, lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.host.host import Host

FOLDER, FILE = ".gandi", "services"
#: Maximum number of bytes that are read, and of services that are used.
_LONGEST, _MOST = 16384, 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9:_.@\\-]{0,240}")
#: A foreign disk must not stop these (``ssh`` is sshd's too).
_NEVER = ("ssh", "gandi-", "systemd-")


def read(host: Host, mountpoint: str) -> tuple[str, ...]:
    """Return the units that the disk mounted there names, as ``NAME.service``; none if its file is missing
    or cannot be read.
    """
    data = b""
    with contextlib.ExitStack() as opened, contextlib.suppress(OSError):
        folder = os.open(host.path(mountpoint), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        opened.callback(os.close, folder)
        inner = os.open(FOLDER, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        opened.callback(os.close, inner)
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file = os.open(FILE, flags, dir_fd=inner)
        opened.callback(os.close, file)
        if stat.S_ISREG(os.fstat(file).st_mode):
            data = os.read(file, _LONGEST)
    return names(data)


def names(data: bytes) -> tuple[str, ...]:
    """Return the units that the file's text names, each once, in their order. Lines that are not a service's
    name are left out, and so are services that are never stopped.
    """
    found = dict[str, None]()
    for line in lines(data.decode("ascii", "replace")):
        name = line.partition("#")[0].strip(WHITE).removesuffix(".service")
        if _NAME.fullmatch(name) and not name.lower().startswith(_NEVER):
            found[f"{name}.service"] = None
    return tuple(found)[:_MOST]
