"""Which users are logged in, or have processes: by /proc."""

from __future__ import annotations

import os

from agent.lib.text import WHITE, lines, number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

#: (uid_t) -1 in /proc/self/loginuid: no login.
_NO_LOGIN = 0xFFFFFFFF
#: Bytes that are read of that file, and of /proc/PID/status, in which the uids come early.
_NUMBER, _STATUS = 32, 1 << 14


def login_uid() -> int:
    """Return the uid of the login that this process comes from (audit's, which su and sudo keep); -1 for
    none, or where the kernel does not record it.
    """
    try:
        with open("/proc/self/loginuid", "rb", buffering=0) as file:
            found = number(file.read(_NUMBER).decode("ascii", "replace").strip(WHITE))
    except OSError:
        return -1
    return -1 if found is None or found == _NO_LOGIN else found


def running_as(uids: Collection[int]) -> Iterator[tuple[int, int, str]]:
    """Yield uid, id and name of each process with one of these uids (real, effective, saved or that for
    files) and with this process's root: those of a container or a chroot have other accounts.
    """
    here = os.stat("/")
    for name in os.listdir("/proc"):
        if (pid := number(name)) is None:
            continue
        try:
            with open(f"/proc/{pid}/status", "rb", buffering=0) as file:
                text = file.read(_STATUS).decode("utf-8", "replace")
            fields = dict(line.partition(":\t")[::2] for line in lines(text))
            found = {number(one) for one in fields.get("Uid", "").split("\t")} & set(uids)
            root = os.stat(f"/proc/{pid}/root") if found else None
        except OSError:
            continue  # it has ended
        if root is not None and (root.st_dev, root.st_ino) == (here.st_dev, here.st_ino):
            yield from ((uid, pid, fields.get("Name", "")) for uid in found if uid is not None)
