"""The kernel's filter of device events by udev's tag.

How tags are hashed into a message is libudev's affair, so the filter is the one that libudev makes for a
monitor of its own: it is read back from that monitor's socket and put on another one. Lives for one call:
what it leaves is in the kernel, on the socket, for as long as anybody holds that.
"""

from __future__ import annotations

import ctypes
import socket
import struct

from agent.errors import HostError

#: asm-generic/socket.h. The second has the number of the first: reading gives the filter, writing sets it.
_SO_GET_FILTER = _SO_ATTACH_FILTER = 26
#: sizeof(struct sock_filter), linux/filter.h.
_INSTRUCTION = 8
#: BPF_MAXINSNS.
_MOST = 4096


def attach(target: socket.socket, tag: str) -> None:
    """Have ``target`` receive only events of devices with the tag. Raises HostError; then it receives
    all.
    """
    program = ctypes.create_string_buffer(_filter(tag))
    count = (len(program) - 1) // _INSTRUCTION
    try:
        # struct sock_fprog: the number of instructions and where they are.
        fprog = struct.pack("HP", count, ctypes.addressof(program))
        target.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fprog)
    except OSError as error:
        raise HostError(f"the kernel takes no filter of device events: {error.strerror}") from error


def _filter(tag: str) -> bytes:
    """The instructions that libudev(3) gives a monitor which is to hear of that tag."""
    try:
        udev = ctypes.CDLL("libudev.so.1", use_errno=True)
    except OSError as error:
        raise HostError(f"no filter of device events: {error}", hint="install libudev1") from error
    # Pointers are no ints: without a type they would be cut to 32 bits.
    for name in ("udev_new", "udev_monitor_new_from_netlink", "udev_monitor_unref", "udev_unref"):
        getattr(udev, name).restype = ctypes.c_void_p
    context = ctypes.c_void_p(udev.udev_new())
    monitor = ctypes.c_void_p(udev.udev_monitor_new_from_netlink(context, b"udev"))
    if not context or not monitor:
        raise HostError("libudev makes no monitor of device events")
    try:
        added = udev.udev_monitor_filter_add_match_tag(monitor, tag.encode())
        if added < 0 or udev.udev_monitor_enable_receiving(monitor) < 0:
            raise HostError("libudev makes no filter of device events")
        return _read_back(udev.udev_monitor_get_fd(monitor))
    finally:
        udev.udev_monitor_unref(monitor)
        udev.udev_unref(context)


def _read_back(descriptor: int) -> bytes:
    """The filter of a socket. Not by Python's getsockopt: the kernel answers with a count of instructions
    where that expects bytes.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    program, count = ctypes.create_string_buffer(_MOST * _INSTRUCTION), ctypes.c_uint(_MOST)
    if libc.getsockopt(descriptor, socket.SOL_SOCKET, _SO_GET_FILTER, program, ctypes.byref(count)):
        raise HostError(f"the filter of device events cannot be read (error {ctypes.get_errno()})")
    if not count.value:
        raise HostError("libudev has put no filter on its monitor of device events")
    return program.raw[: count.value * _INSTRUCTION]
