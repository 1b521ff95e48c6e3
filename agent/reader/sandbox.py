"""Confine the reader before it reads the first delivered byte.

Afterwards it has an unprivileged uid, no network, no new privileges, and bounds on memory and CPU time, and
can open no file or socket and start no process. Only standard input, output and error stay open.
"""

from __future__ import annotations

import os
import resource

#: Bytes of address space beyond those in use when the reading begins: enough for a 64 MiB document and its
#: strings; a decompression bomb ends in MemoryError.
MEMORY = 200 << 20
#: Seconds of CPU time. In an emulated guest, the import of pydantic takes 1 to 2 of them; a document of a
#: real platform takes milliseconds.
CPU = 10
#: The uid of ``nobody`` in Debian and all other distributions (the kernel's overflowuid).
NOBODY = 65534
_CLONE_NEWNET = 0x40000000  # linux/sched.h
_PR_SET_NO_NEW_PRIVS = 38  # linux/prctl.h


def confine() -> None:
    """Drop all privileges irrevocably and set the limits. Raise OSError if a privilege cannot be dropped."""
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    # In the daemon's sandbox it is set already, and no namespace can be made.
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
        # Afterwards not even a module can be opened: all imports come before.
        (resource.RLIMIT_NOFILE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))


def _own(name: str) -> bytes:
    """Return the content of /proc/self/NAME (proc(5)); b"" in an image, which may have no /proc."""
    try:
        with open(f"/proc/self/{name}", "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


def _lock_out() -> None:
    """Leave the network, and set no_new_privs. Raise OSError if that cannot be set."""
    import ctypes  # here, since it would be a third of the reader's cost at a boot

    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0:
        # Refused in some containers: there only RLIMIT_NOFILE prevents a socket.
        libc.unshare(_CLONE_NEWNET)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
