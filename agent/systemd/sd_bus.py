"""The functions of libsystemd that the agent calls, by ctypes: those of sd-bus(3)."""

from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, c_char_p, c_int, c_uint64, c_void_p
from functools import cache

from agent.lib.errors import HostError


class Error(ctypes.Structure):
    """sd_bus_error."""

    _fields_ = (("name", c_char_p), ("message", c_char_p), ("need_free", c_int))


#: Functions that may fail, with the types of their fixed arguments; sd_bus_message_read and
#: sd_bus_call_method take more.
_FUNCTIONS = {
    "sd_bus_new": (POINTER(c_void_p),),
    "sd_bus_set_address": (c_void_p, c_char_p),
    "sd_bus_set_method_call_timeout": (c_void_p, c_uint64),
    "sd_bus_start": (c_void_p,),
    "sd_bus_get_fd": (c_void_p,),
    "sd_bus_is_open": (c_void_p,),
    "sd_bus_process": (c_void_p, POINTER(c_void_p)),
    "sd_bus_message_is_signal": (c_void_p, c_char_p, c_char_p),
    "sd_bus_message_read": (c_void_p, c_char_p),
    "sd_bus_call_method": (c_void_p, *(c_char_p,) * 4, POINTER(Error), POINTER(c_void_p), c_char_p),
}
#: Functions that release a handle.
_ENDS = {
    "sd_bus_flush_close_unref": c_void_p,
    "sd_bus_message_unref": c_void_p,
    "sd_bus_error_free": POINTER(Error),
}


@cache
def library() -> ctypes.CDLL:
    """Return libsystemd, with functions that raise OSError. Raise HostError if it cannot be loaded."""
    try:
        library = ctypes.CDLL("libsystemd.so.0")
    except OSError as error:
        raise HostError(f"systemd cannot be reached: {error}") from error
    for name, types in _FUNCTIONS.items():
        function = getattr(library, name)
        function.argtypes, function.errcheck = types, _checked
    for name, handle in _ENDS.items():
        function = getattr(library, name)
        function.argtypes, function.restype = (handle,), None
    return library


def _checked(result: int, _function: object, _given: object) -> int:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result
