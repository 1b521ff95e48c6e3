"""Filter device events by udev's tag, in the kernel.

How a message encodes tags is private to libudev. So libudev makes a monitor with the filter, and the filter
is read from the monitor's socket and set on another one. It stays on that socket as long as it is open in
any process, so the library is loaded once in a boot, after it, and not in each daemon that an event starts.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct

from agent.lib.errors import HostError

#: asm-generic/socket.h. One number for both: getsockopt(2) reads the filter, setsockopt(2) sets it.
_SO_GET_FILTER = _SO_ATTACH_FILTER = 26
#: sizeof(struct sock_filter), linux/filter.h.
_INSTRUCTION = 8
#: BPF_MAXINSNS.
_MOST = 4096


def attach(target: socket.socket, tag: str) -> None:
    """Make ``target`` receive only events of devices with the tag; an existing filter is kept.

    Raise HostError; ``target`` then receives all events.
    """
    if _read_back(target.fileno()):
        return
    import pyudev

    try:
        monitor = pyudev.Monitor.from_netlink(pyudev.Context())
        monitor.filter_by_tag(tag)
        monitor.start()
        program = ctypes.create_string_buffer(_read_back(monitor.fileno()))
        count = (len(program) - 1) // _INSTRUCTION
        if not count:
            raise HostError("libudev has set no filter on its monitor of device events")
        # struct sock_fprog: the number of instructions and where they are.
        fprog = struct.pack("HP", count, ctypes.addressof(program))
        target.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fprog)
    except OSError as error:
        raise HostError(f"the filter of device events cannot be set: {error}") from error


def _read_back(descriptor: int) -> bytes:
    """Return the filter of a socket, empty if it has none. Raise HostError.

    Python's getsockopt cannot be used: the kernel returns a number of instructions, not of bytes.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    program, count = ctypes.create_string_buffer(_MOST * _INSTRUCTION), ctypes.c_uint(_MOST)
    if libc.getsockopt(descriptor, socket.SOL_SOCKET, _SO_GET_FILTER, program, ctypes.byref(count)):
        reason = os.strerror(ctypes.get_errno())
        raise HostError(f"the filter of device events cannot be read: {reason}")
    return program.raw[: count.value * _INSTRUCTION]
