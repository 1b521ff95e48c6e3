"""How the reader gives everything up before it looks at the first delivered byte.

Afterwards: nobody's uid, no network, no new privileges, no file or socket to open, no process to start, and
bounds on memory and CPU time. Standard input, output and error stay open; they are all that is needed.
"""

from __future__ import annotations

import os
import resource

#: Bytes of address space beyond what the process has when it begins to read: a 64 MiB document and its
#: strings fit; a bomb ends in MemoryError.
MEMORY = 200 << 20
#: Seconds of CPU. Importing pydantic alone takes 1 to 2 of them in an emulated guest; a document of a real
#: platform takes milliseconds of the rest.
CPU = 10
#: Debian's and every other distribution's ``nobody`` (the kernel's overflowuid).
NOBODY = 65534
_CLONE_NEWNET = 0x40000000  # linux/sched.h
_PR_SET_NO_NEW_PRIVS = 38  # linux/prctl.h


def confine() -> None:
    """Give up what the process does not need, for good. Raises OSError when a privilege cannot be
    dropped.
    """
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    # The daemon's sandbox has said so already, and lets nothing make a namespace.
    sandboxed = b"\nNoNewPrivs:\t1\n" in _own("status")
    held = int(_own("statm").partition(b" ")[0] or b"0") * os.sysconf("SC_PAGE_SIZE")
    if not sandboxed:
        _lock_out()
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    for limit, value in (
        (resource.RLIMIT_AS, held + MEMORY),
        (resource.RLIMIT_CPU, CPU),
        (resource.RLIMIT_FSIZE, 0),
        # Nothing can be opened any more, not even a module: all imports come before.
        (resource.RLIMIT_NOFILE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))


def _own(name: str) -> bytes:
    """A file of this process in /proc (proc(5)); b"" in an image, which may have none."""
    try:
        with open(f"/proc/self/{name}", "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


def _lock_out() -> None:
    """Leave the network, and refuse new privileges for good. Raises OSError where that cannot be done."""
    import ctypes  # a third of what a boot's reader would cost

    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0:
        # Refused in some containers: there the limits alone hold, which leave no descriptor for a socket.
        libc.unshare(_CLONE_NEWNET)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
