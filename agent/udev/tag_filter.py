"""The kernel's filter of device events by udev's tag.

How tags are hashed into a message is libudev's affair, so the filter is the one that libudev makes for a
monitor of its own: it is read back from that monitor's socket and put on another one. Lives for one call:
what it leaves is in the kernel, on the socket, for as long as anybody holds that. So the library is loaded
once a boot, when that is over, and not by each daemon that an event brings back.
"""

from __future__ import annotations

import ctypes
import socket
import struct

from agent.lib.errors import HostError

#: asm-generic/socket.h. The second has the number of the first: reading gives the filter, writing sets it.
_SO_GET_FILTER = _SO_ATTACH_FILTER = 26
#: sizeof(struct sock_filter), linux/filter.h.
_INSTRUCTION = 8
#: BPF_MAXINSNS.
_MOST = 4096


def attach(target: socket.socket, tag: str) -> None:
    """Have ``target`` receive only events of devices with the tag; a filter that it has already stays.

    Raises HostError; then it receives all.
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
            raise HostError("libudev has put no filter on its monitor of device events")
        # struct sock_fprog: the number of instructions and where they are.
        fprog = struct.pack("HP", count, ctypes.addressof(program))
        target.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fprog)
    except OSError as error:
        raise HostError(f"no filter of device events: {error}") from error


def _read_back(descriptor: int) -> bytes:
    """The filter of a socket, nothing where it has none. Not by Python's getsockopt: the kernel answers with
    a count of instructions where that expects bytes.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    program, count = ctypes.create_string_buffer(_MOST * _INSTRUCTION), ctypes.c_uint(_MOST)
    if libc.getsockopt(descriptor, socket.SOL_SOCKET, _SO_GET_FILTER, program, ctypes.byref(count)):
        raise HostError(f"the filter of device events cannot be read (error {ctypes.get_errno()})")
    return program.raw[: count.value * _INSTRUCTION]
